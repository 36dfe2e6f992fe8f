//! PriorityClass: a named priority of pods.

use crate::kind::KindDef;
use crate::kinds::row::{Row, age, count, field, name, text};

pub(super) fn row() -> KindDef {
    Row::new("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")
        .cluster()
        .short(&["pc"])
        .columns([
            name(),
            count("Value", "value"),
            field("Global-Default", "boolean", "globalDefault", false),
            age(),
            text("PreemptionPolicy", "preemptionPolicy"),
        ])
        .inert()
        .build()
}
