//! StorageClass: a kind of volume that claims may ask for.

use crate::kind::KindDef;
use crate::kinds::row::{Row, age, field, text, text_or};

pub(super) fn row() -> KindDef {
    Row::new("storage.k8s.io", "v1", "StorageClass", "storageclasses")
        .cluster()
        .short(&["sc"])
        .columns([
            super::class_name(),
            text("Provisioner", "provisioner"),
            text_or("ReclaimPolicy", "reclaimPolicy", "Delete"),
            text_or("VolumeBindingMode", "volumeBindingMode", "Immediate"),
            field("AllowVolumeExpansion", "string", "allowVolumeExpansion", false),
            age(),
        ])
        .inert()
        .build()
}
