//! Lease: who holds a role, and since when.

use crate::kind::KindDef;
use crate::kinds::row::{Row, age, name, text};

pub(super) fn row() -> KindDef {
    Row::new("coordination.k8s.io", "v1", "Lease", "leases")
        .create_on_update()
        .needs_revision()
        .columns([name(), text("Holder", "spec.holderIdentity"), age()])
        .build()
}
