//! ReplicationController: the older ReplicaSet.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::pod_defaults;
use crate::kinds::row::{Row, age, computed, name};
use crate::kinds::workload;
use crate::meta::selector::Selector;
use crate::tree;
use crate::validate;
use crate::validate::Field;
use crate::validate::Holder;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    let [desired, current, ready] = workload::replicas();
    let [containers, images] = workload::containers();
    Row::new("", "v1", "ReplicationController", "replicationcontrollers")
        .pods_from("/spec/template")
        .short(&["rc"])
        .category("all")
        .scale()
        .status()
        .select_or("status.replicas", "0")
        .columns([
            name(),
            desired,
            current,
            ready,
            age(),
            containers,
            images,
            computed("Selector", "Which pods belong to the object.", |v| {
                cells::pairs(tree::at(v.obj, "spec.selector"))
            })
            .wide(),
        ])
        .inert()
        .strategy(&ReplicationController)
        .build()
}

struct ReplicationController;

impl Strategy for ReplicationController {
    fn default(&self, obj: &mut Value) {
        pod_defaults::labels_from_template(obj);
        let labels = tree::at(obj, "spec.template.metadata.labels").cloned();
        let Some(spec) = obj.get_mut("spec") else { return };
        tree::set_if_absent(spec, "replicas", 1);
        if let Some(labels) = labels {
            tree::set_if_absent(spec, "selector", labels);
        }
        if let Some(template) = spec.get_mut("template") {
            pod_defaults::template(template);
        }
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let spec = root.field("spec");
        spec.field("replicas").not_negative(out);
        spec.field("minReadySeconds").not_negative(out);
        if spec.field("selector").is_empty() {
            spec.field("selector").required("", out);
        }
        let selector = Selector::from_map(spec.field("selector").present().then_some(spec.field("selector").value));
        validate::selectors::matches_template(&spec, &selector, out);
        validate::template(&spec.field("template"), Holder::Forever, out);
    }
    fn default_propagation(&self) -> Option<&'static str> {
        Some("Orphan")
    }
}
