//! PersistentVolume: a piece of storage.

use super::storage_rules;
use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::pod_defaults;
use crate::kinds::row::{Row, age, computed, name, text, text_or};
use crate::tree;
use crate::validate::Field;
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
    fn validate(&self, ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        if ctx.subresource == "status" {
            return;
        }
        let root = Field::root(obj);
        let spec = root.field("spec");
        storage_rules::volume(&spec, out);
        if let Some(old) = old {
            storage_rules::volume_update(&spec, old, out);
        }
    }
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}
