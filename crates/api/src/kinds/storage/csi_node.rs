//! CSINode: volume drivers of a node.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};

pub(super) fn row() -> KindDef {
    Row::new("storage.k8s.io", "v1", "CSINode", "csinodes")
        .cluster()
        .needs_revision()
        .columns([
            name(),
            computed("Drivers", "Number of drivers.", |v| cells::length(v, "spec.drivers")).typed("integer"),
            age(),
        ])
        .inert()
        .build()
}
