//! DaemonSet: one pod on each node.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, count, name};
use crate::kinds::workload;
use crate::tree;

pub(super) fn row() -> KindDef {
    let [containers, images] = workload::containers();
    Row::new("apps", "v1", "DaemonSet", "daemonsets")
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
        .build()
}
