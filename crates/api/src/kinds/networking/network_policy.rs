//! NetworkPolicy: which traffic pods accept and send.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};
use crate::tree;

pub(super) fn row() -> KindDef {
    Row::new("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
        .short(&["netpol"])
        .columns([
            name(),
            computed("Pod-Selector", "Which pods it holds for.", |v| {
                cells::selector(tree::at(v.obj, "spec.podSelector"))
            }),
            age(),
        ])
        .inert()
        .build()
}
