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
    fn validate(&self, ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        if ctx.subresource == "status" {
            return workload::replica_status(&root.field("status"), out);
        }
        let spec = root.field("spec");
        spec.field("minReadySeconds").not_negative(out);
        let (selects, template) = (spec.field("selector"), spec.field("template"));
        if selects.is_empty() {
            selects.required("", out);
        }
        spec.field("replicas").not_negative(out);
        if !template.present() {
            return template.required("", out);
        }
        let selector = Selector::from_map(selects.present().then_some(selects.value));
        if !selects.is_empty() {
            validate::selectors::matches_template(&spec, &selector, out);
        }
        validate::template(&template, Holder::Forever("ReplicationController"), out);
    }
    fn default_propagation(&self) -> Option<&'static str> {
        Some("Orphan")
    }
}
