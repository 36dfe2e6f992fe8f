//! CSIDriver: what a volume driver needs.

use super::rules;
use crate::kind::{Causes, Context, KindDef, NameRule, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, field, name};
use crate::meta::names;
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("storage.k8s.io", "v1", "CSIDriver", "csidrivers")
        .cluster()
        .needs_revision()
        .names(NameRule::Custom(driver_name))
        .columns([
            name(),
            field("AttachRequired", "boolean", "spec.attachRequired", true),
            field("PodInfoOnMount", "boolean", "spec.podInfoOnMount", false),
            field("StorageCapacity", "boolean", "spec.storageCapacity", false),
            computed("TokenRequests", "Audiences of the tokens it gets.", |v| {
                cells::column_of(tree::list(v.obj, "spec.tokenRequests"), "audience", cells::UNSET)
            }),
            field("RequiresRepublish", "boolean", "spec.requiresRepublish", false),
            computed("Modes", "Life cycles of its volumes.", |v| {
                cells::texts(tree::list(v.obj, "spec.volumeLifecycleModes"), cells::NONE)
            }),
            age(),
        ])
        .inert()
        .strategy(&CsiDriver)
        .build()
}

fn driver_name(name: &str) -> Result<(), String> {
    if name.len() > names::LABEL_MAX {
        return Err(format!("must be no more than {} bytes", names::LABEL_MAX));
    }
    names::subdomain(&name.to_ascii_lowercase()).into_iter().next().map_or(Ok(()), Err)
}

/// How often, at most, drivers are asked what nodes have left, in seconds.
const UPDATE_PERIOD_MIN: i64 = 10;

struct CsiDriver;

impl Strategy for CsiDriver {
    fn default(&self, obj: &mut Value) {
        let Some(spec) = obj.get_mut("spec") else { return };
        tree::set_if_absent(spec, "attachRequired", true);
        for key in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            tree::set_if_absent(spec, key, false);
        }
        tree::set_default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        tree::set_if_absent(spec, "volumeLifecycleModes", vec!["Persistent"]);
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let spec = root.field("spec");
        for key in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
            spec.field(key).demand(out);
        }
        spec.field("fsGroupPolicy").optional_one_of(&["File", "None", "ReadWriteOnceWithFSType"], out);
        rules::token_requests(&spec.field("tokenRequests"), out);
        let modes = spec.field("volumeLifecycleModes");
        for mode in modes.items() {
            modes.instead(mode.value).one_of(&["Persistent", "Ephemeral"], out);
        }
        let period = spec.field("nodeAllocatableUpdatePeriodSeconds");
        if period.int().is_some_and(|seconds| seconds < UPDATE_PERIOD_MIN) {
            period.invalid(&format!("must be greater than or equal to {UPDATE_PERIOD_MIN} seconds"), out);
        }
        let Some(old) = old else { return };
        let old = Field::root(old);
        let old = old.field("spec");
        // Kubernetes' own name for the field.
        let required = spec.field("attachedRequired").instead(spec.field("attachRequired").value);
        required.immutable(&old.field("attachRequired"), out);
        modes.immutable(&old.field("volumeLifecycleModes"), out);
    }
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}
