//! Deployment: replicas of a pod template, rolled out step by step.

use crate::kind::KindDef;
use crate::kinds::row::{Row, age, field, name};
use crate::kinds::workload;

pub(super) fn row() -> KindDef {
    let [containers, images] = workload::containers();
    Row::new("apps", "v1", "Deployment", "deployments")
        .short(&["deploy"])
        .category("all")
        .scale()
        .status()
        .columns([
            name(),
            workload::ready(),
            field("Up-to-date", "string", "status.updatedReplicas", 0),
            field("Available", "string", "status.availableReplicas", 0),
            age(),
            containers,
            images,
            workload::selector(),
        ])
        .build()
}
