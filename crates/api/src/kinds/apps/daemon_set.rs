//! DaemonSet: one pod on each node.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::pod_defaults;
use crate::kinds::row::{Row, age, computed, count, name};
use crate::kinds::workload;
use crate::tree;
use crate::validate;
use crate::validate::{Field, Holder};
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
        let root = Field::root(obj);
        if ctx.subresource == "status" {
            return status(&root.field("status"), old, out);
        }
        let spec = root.field("spec");
        validate::workload(&spec, "daemonset", old, out);
        validate::template(&spec.field("template"), Holder::Forever("DaemonSet"), out);
        let strategy = spec.field("updateStrategy");
        strategy.field("type").one_of(&["RollingUpdate", "OnDelete"], out);
        if strategy.field("type").text() == "RollingUpdate" {
            rolling_update(&strategy.field("rollingUpdate"), out);
        }
        spec.field("revisionHistoryLimit").not_negative(out);
    }
}

fn rolling_update(rolling: &Field<'_, '_>, out: &mut Causes) {
    let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
    validate::share(&unavailable, out);
    validate::share(&surge, out);
    match (validate::is_zero_share(&unavailable), validate::is_zero_share(&surge)) {
        (false, false) => surge.invalid("may not be set when maxUnavailable is non-zero", out),
        (true, true) => unavailable.required("cannot be 0 when maxSurge is 0", out),
        _ => {}
    }
}

fn status(status: &Field<'_, '_>, old: Option<&Value>, out: &mut Causes) {
    let counts = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
    ];
    validate::counts(status, &counts, out);
    validate::collisions(status, old, out);
}
