//! PersistentVolume: a piece of storage.

use crate::kind::{Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::pod_defaults;
use crate::kinds::row::{Row, age, computed, name, text, text_or};
use crate::tree;
use serde_json::Value;

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
        .strategy(&PersistentVolume)
        .build()
}

struct PersistentVolume;

impl Strategy for PersistentVolume {
    fn counts_generation(&self, _def: &KindDef) -> bool {
        false
    }
    fn default(&self, obj: &mut Value) {
        if let Some(spec) = obj.get_mut("spec") {
            tree::set_default(spec, "persistentVolumeReclaimPolicy", "Retain");
            tree::set_default(spec, "volumeMode", "Filesystem");
            pod_defaults::storage_source(spec);
        }
        if let Some(status) = tree::object(obj, "status") {
            tree::set_default(status, "phase", "Pending");
        }
    }
    fn prepare(&self, _ctx: &Context<'_>, obj: &mut Value, old: Option<&Value>) {
        if old.is_none() {
            self.default(obj);
        }
    }
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}
