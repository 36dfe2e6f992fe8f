//! PersistentVolumeClaim: a request for storage.

use super::storage_rules;
use crate::kind::{Causes, Context, KindDef, Strategy, View};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text, text_or};
use crate::meta::quantity::Quantity;
use crate::quota::{Amounts, Scope};
use crate::tree;
use crate::validate::Field;
use serde_json::Value;
use smol_str::format_smolstr;

/// After a storage class, in names of amounts that are bounded per class.
const BY_CLASS: &str = "storageclass.storage.k8s.io";

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
        if let Some(spec) = obj.get_mut("spec") {
            storage_rules::data_sources(spec, old.is_some_and(|old| tree::at(old, "spec.dataSource").is_some()));
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
    fn usage(&self, def: &KindDef, obj: &Value) -> Amounts {
        let one = Quantity::from_int(1);
        let size = |path: &str| tree::at(obj, path).and_then(|v| Quantity::from_value(v).ok());
        // A claim that shrinks back still holds what it was given.
        let asked = size("spec.resources.requests.storage").max(size("status.allocatedResources.storage"));
        let mut used = Amounts::from([(def.plural.clone(), one)]);
        used.extend(asked.map(|size| ("requests.storage".into(), size)));
        let class = tree::text(obj, "spec.storageClassName");
        if !class.is_empty() {
            used.insert(format_smolstr!("{class}.{BY_CLASS}/{}", def.plural), one);
            used.extend(asked.map(|size| (format_smolstr!("{class}.{BY_CLASS}/requests.storage"), size)));
        }
        used
    }
    fn usage_varies(&self) -> bool {
        true
    }
    fn in_scope(&self, obj: &Value, scope: &Scope) -> bool {
        let classes = ["spec.volumeAttributesClassName", "status.currentVolumeAttributesClassName"];
        scope.name == "VolumeAttributesClass" && classes.iter().any(|path| scope.admits(tree::text(obj, path)))
    }
}
