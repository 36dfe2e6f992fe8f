//! StatefulSet: pods with stable names and storage.

use crate::kind::{Causes, Context, KindDef, NameRule, Strategy};
use crate::kinds::pod_defaults;
use crate::kinds::row::{Row, age, name};
use crate::kinds::workload;
use crate::tree;
use crate::validate;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    let [containers, images] = workload::containers();
    Row::new("apps", "v1", "StatefulSet", "statefulsets")
        .pods_from("/spec/template")
        .short(&["sts"])
        .category("all")
        .scale()
        .status()
        .names(NameRule::Label)
        .columns([name(), workload::ready(), age(), containers, images])
        .inert()
        .strategy(&StatefulSet)
        .build()
}

struct StatefulSet;

impl Strategy for StatefulSet {
    fn default(&self, obj: &mut Value) {
        let Some(spec) = obj.get_mut("spec") else { return };
        tree::set_default(spec, "podManagementPolicy", "OrderedReady");
        tree::set_if_absent(spec, "replicas", 1);
        tree::set_if_absent(spec, "revisionHistoryLimit", 10);
        if let Some(strategy) = tree::object(spec, "updateStrategy") {
            update_strategy(strategy);
        }
        if let Some(retention) = tree::object(spec, "persistentVolumeClaimRetentionPolicy") {
            tree::set_default(retention, "whenDeleted", "Retain");
            tree::set_default(retention, "whenScaled", "Retain");
        }
        tree::each(spec, "volumeClaimTemplates", claim_template);
        if let Some(template) = spec.get_mut("template") {
            pod_defaults::template(template);
        }
    }
    fn validate(&self, ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        if ctx.subresource == "status" {
            return;
        }
        let root = Field::root(obj);
        let spec = root.field("spec");
        validate::workload(&spec, "statefulset", old, out);
        spec.field("podManagementPolicy").one_of(&["OrderedReady", "Parallel"], out);
        let strategy = spec.field("updateStrategy");
        strategy.field("type").one_of(&["OnDelete", "RollingUpdate"], out);
        if let Some(old) = old {
            unchanged(&spec, old, out);
        }
    }
}

fn update_strategy(strategy: &mut Value) {
    let implied = tree::unset(strategy.get("type"));
    tree::set_default(strategy, "type", "RollingUpdate");
    let rolling = tree::text(strategy, "type") == "RollingUpdate";
    if rolling
        && (implied || strategy.get("rollingUpdate").is_some())
        && let Some(rolling) = tree::object(strategy, "rollingUpdate")
    {
        tree::set_if_absent(rolling, "partition", 0);
        tree::set_if_absent(rolling, "maxUnavailable", 1);
    }
}

fn claim_template(claim: &mut Value) {
    tree::set_default(claim, "apiVersion", "v1");
    tree::set_default(claim, "kind", "PersistentVolumeClaim");
    if let Some(spec) = claim.get_mut("spec") {
        tree::set_default(spec, "volumeMode", "Filesystem");
    }
    if let Some(status) = tree::object(claim, "status") {
        tree::set_default(status, "phase", "Pending");
    }
}

/// What may change; all else of the spec may not.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn unchanged(spec: &Field<'_, '_>, old: &Value, out: &mut Causes) {
    let mut rest = spec.value.clone();
    let old = tree::at(old, "spec").unwrap_or(&tree::NULL);
    MUTABLE.iter().for_each(|key| tree::copy(&mut rest, old, key));
    if rest != *old {
        spec.forbidden(
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            out,
        );
    }
}
