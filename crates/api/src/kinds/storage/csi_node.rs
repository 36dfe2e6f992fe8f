//! CSINode: volume drivers of a node.

use crate::kind::{KindDef, Strategy};
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
        .strategy(&CsiNode)
        .build()
}

struct CsiNode;

impl Strategy for CsiNode {
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}
