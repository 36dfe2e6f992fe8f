//! PersistentVolumeClaim: a request for storage.

use super::storage_rules;
use crate::kind::{Causes, Context, KindDef, Strategy, View};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text, text_or};
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

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
        .strategy(&PersistentVolumeClaim)
        .build()
}

fn bound(view: &View<'_>) -> bool {
    !tree::text(view.obj, "spec.volumeName").is_empty()
}

struct PersistentVolumeClaim;

impl Strategy for PersistentVolumeClaim {
    fn counts_generation(&self, _def: &KindDef) -> bool {
        false
    }
    fn default(&self, obj: &mut Value) {
        if let Some(spec) = obj.get_mut("spec") {
            tree::set_default(spec, "volumeMode", "Filesystem");
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
        storage_rules::claim(&root.field("spec"), out);
        if let Some(old) = old {
            storage_rules::claim_update(&root, old, out);
        }
    }
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}
