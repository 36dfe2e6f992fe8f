//! ReplicationController: the older ReplicaSet.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, count, name};
use crate::kinds::workload;
use crate::tree;

pub(super) fn row() -> KindDef {
    let [containers, images] = workload::containers();
    Row::new("", "v1", "ReplicationController", "replicationcontrollers")
        .short(&["rc"])
        .category("all")
        .scale()
        .status()
        .select_or("status.replicas", "0")
        .columns([
            name(),
            count("Desired", "spec.replicas"),
            count("Current", "status.replicas"),
            count("Ready", "status.readyReplicas"),
            age(),
            containers,
            images,
            computed("Selector", "Which pods belong to the object.", |v| {
                cells::pairs(tree::at(v.obj, "spec.selector"))
            })
            .wide(),
        ])
        .inert()
        .build()
}
