//! StorageClass: a kind of volume that claims may ask for.

use super::rules;
use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::{Row, age, field, text, text_or};
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

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
        .strategy(&StorageClass)
        .build()
}

struct StorageClass;

impl Strategy for StorageClass {
    fn default(&self, obj: &mut Value) {
        tree::set_default(obj, "reclaimPolicy", "Delete");
        tree::set_default(obj, "volumeBindingMode", "Immediate");
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        rules::provisioner(&root.field("provisioner"), out);
        rules::parameters(&root.field("parameters"), true, out);
        root.field("reclaimPolicy").optional_one_of(&["Delete", "Retain"], out);
        root.field("volumeBindingMode").optional_one_of(&["Immediate", "WaitForFirstConsumer"], out);
        rules::topologies(&root.field("allowedTopologies"), out);
        let Some(old) = old else { return };
        let old = Field::root(old);
        for key in ["provisioner", "parameters", "reclaimPolicy"] {
            if root.field(key).value != old.field(key).value {
                root.field(key).forbidden(&format!("updates to {key} are forbidden."), out);
            }
        }
        root.field("volumeBindingMode").immutable(&old.field("volumeBindingMode"), out);
    }
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}
