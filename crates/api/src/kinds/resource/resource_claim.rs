//! ResourceClaim: a request for devices.

use crate::kind::{KindDef, View};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims")
        .status()
        .columns([name(), computed("State", "Whether devices are allocated.", state), age()])
        .withheld()
        .build()
}

fn state(view: &View<'_>) -> Value {
    let allocated = tree::at(view.obj, "status.allocation").is_some();
    let deleted = view.head.deleting.is_some();
    let states = [
        (deleted, "deleted"),
        (!allocated && !deleted, "pending"),
        (allocated, "allocated"),
        (!tree::list(view.obj, "status.reservedFor").is_empty(), "reserved"),
    ];
    cells::joined(states.into_iter().filter(|(holds, _)| *holds).map(|(_, word)| word), ",", "")
}
