//! ReplicaSet: a number of equal pods.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::pod_defaults;
use crate::kinds::row::{Row, age, name};
use crate::kinds::workload;
use crate::tree;
use crate::validate;
use crate::validate::{Field, Holder};
use serde_json::Value;

pub(super) fn row() -> KindDef {
    let [desired, current, ready] = workload::replicas();
    let [containers, images] = workload::containers();
    Row::new("apps", "v1", "ReplicaSet", "replicasets")
        .pods_from("/spec/template")
        .short(&["rs"])
        .category("all")
        .scale()
        .status()
        .select_or("status.replicas", "0")
        .columns([name(), desired, current, ready, age(), containers, images, workload::selector()])
        .strategy(&ReplicaSet)
        .build()
}

struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default(&self, obj: &mut Value) {
        let Some(spec) = obj.get_mut("spec") else { return };
        tree::set_if_absent(spec, "replicas", 1);
        if let Some(template) = spec.get_mut("template") {
            pod_defaults::template(template);
        }
    }
    fn validate(&self, ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        if ctx.subresource == "status" {
            return workload::replica_status(&root.field("status"), out);
        }
        let spec = root.field("spec");
        // Kubernetes' own text for a ReplicaSet's empty selector speaks of deployments.
        validate::workload(&spec, "deployment", old, out);
        validate::template(&spec.field("template"), Holder::Forever("ReplicaSet"), out);
    }
}
