//! ReplicaSet: a number of equal pods.

use crate::kind::KindDef;
use crate::kinds::row::{Row, age, count, name};
use crate::kinds::workload;

pub(super) fn row() -> KindDef {
    let [containers, images] = workload::containers();
    Row::new("apps", "v1", "ReplicaSet", "replicasets")
        .short(&["rs"])
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
            workload::selector(),
        ])
        .build()
}
