//! PersistentVolumeClaim: a request for storage.

use crate::kind::{KindDef, View};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text, text_or};
use crate::tree;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
        .short(&["pvc"])
        .status()
        .columns([
            name(),
            computed("Status", "Phase of the claim.", super::phase),
            text("Volume", "spec.volumeName"),
            computed("Capacity", "Size of the bound volume.", |v| match bound(v) {
                true => tree::text(v.obj, "status.capacity.storage").into(),
                false => "".into(),
            }),
            computed("Access Modes", "How the bound volume can be mounted.", |v| match bound(v) {
                true => cells::access_modes(tree::list(v.obj, "status.accessModes")),
                false => "".into(),
            }),
            computed("StorageClass", "Class of the claim.", super::storage_class),
            text_or("VolumeAttributesClass", "spec.volumeAttributesClassName", cells::UNSET),
            age(),
            text_or("VolumeMode", "spec.volumeMode", cells::UNSET).wide(),
        ])
        .inert()
        .build()
}

fn bound(view: &View<'_>) -> bool {
    !tree::text(view.obj, "spec.volumeName").is_empty()
}
