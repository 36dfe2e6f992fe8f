//! PersistentVolume: a piece of storage.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text, text_or};
use crate::tree;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "PersistentVolume", "persistentvolumes")
        .cluster()
        .short(&["pv"])
        .status()
        .columns([
            name(),
            text("Capacity", "spec.capacity.storage"),
            computed("Access Modes", "How the volume can be mounted.", |v| {
                cells::access_modes(tree::list(v.obj, "spec.accessModes"))
            }),
            text("Reclaim Policy", "spec.persistentVolumeReclaimPolicy"),
            computed("Status", "Phase of the volume.", super::phase),
            computed("Claim", "The claim bound to the volume.", |v| match tree::at(v.obj, "spec.claimRef") {
                Some(c) => format!("{}/{}", tree::text(c, "namespace"), tree::text(c, "name")).into(),
                None => "".into(),
            }),
            computed("StorageClass", "Class of the volume.", super::storage_class),
            text_or("VolumeAttributesClass", "spec.volumeAttributesClassName", cells::UNSET),
            text("Reason", "status.reason"),
            age(),
            text_or("VolumeMode", "spec.volumeMode", cells::UNSET).wide(),
        ])
        .inert()
        .build()
}
