//! ServiceCIDR: a range that service addresses come from.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};
use crate::tree;

pub(super) fn row() -> KindDef {
    Row::new("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs")
        .cluster()
        .status()
        .columns([
            name(),
            computed("CIDRs", "The ranges.", |v| cells::texts(tree::list(v.obj, "spec.cidrs"), "")),
            age(),
        ])
        .inert()
        .build()
}
