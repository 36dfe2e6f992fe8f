//! CSIStorageCapacity: how much a driver can still provide.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, name, text, text_or};

pub(super) fn row() -> KindDef {
    Row::new("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities")
        .needs_revision()
        .columns([name(), text("StorageClassName", "storageClassName"), text_or("Capacity", "capacity", cells::UNSET)])
        .inert()
        .build()
}
