//! DaemonSet: one pod on each node.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::pod_defaults;
use crate::kinds::row::{Row, age, computed, count, name};
use crate::kinds::workload;
use crate::tree;
use crate::validate;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    let [containers, images] = workload::containers();
    Row::new("apps", "v1", "DaemonSet", "daemonsets")
        .pods_from("/spec/template")
        .short(&["ds"])
        .category("all")
        .status()
        .columns([
            name(),
            count("Desired", "status.desiredNumberScheduled"),
            count("Current", "status.currentNumberScheduled"),
            count("Ready", "status.numberReady"),
            count("Up-to-date", "status.updatedNumberScheduled"),
            count("Available", "status.numberAvailable"),
            computed("Node Selector", "Which nodes run a pod.", |v| {
                cells::pairs(tree::at(v.obj, "spec.template.spec.nodeSelector"))
            }),
            age(),
            containers,
            images,
            workload::selector(),
        ])
        .inert()
        .strategy(&DaemonSet)
        .build()
}

struct DaemonSet;

impl Strategy for DaemonSet {
    fn default(&self, obj: &mut Value) {
        let Some(spec) = obj.get_mut("spec") else { return };
        tree::set_if_absent(spec, "revisionHistoryLimit", 10);
        if let Some(strategy) = tree::object(spec, "updateStrategy") {
            tree::set_default(strategy, "type", "RollingUpdate");
            if tree::text(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = tree::object(strategy, "rollingUpdate")
            {
                tree::set_if_absent(rolling, "maxUnavailable", 1);
                tree::set_if_absent(rolling, "maxSurge", 0);
            }
        }
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
        validate::workload(&spec, "daemonset", old, out);
        let strategy = spec.field("updateStrategy");
        strategy.field("type").one_of(&["OnDelete", "RollingUpdate"], out);
    }
}
