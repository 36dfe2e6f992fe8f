//! ResourceSlice: devices that a node offers.

use crate::kind::KindDef;
use crate::kinds::row::{Row, age, name, text};

pub(super) fn row() -> KindDef {
    Row::new("resource.k8s.io", "v1", "ResourceSlice", "resourceslices")
        .cluster()
        .select("spec.nodeName")
        .select("spec.driver")
        .columns([
            name(),
            text("Node", "spec.nodeName"),
            text("Driver", "spec.driver"),
            text("Pool", "spec.pool.name"),
            age(),
        ])
        .withheld()
        .build()
}
