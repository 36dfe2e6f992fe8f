//! VolumeAttributesClass: changeable properties of volumes.

use super::rules;
use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::{Row, age, text};
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses")
        .cluster()
        .short(&["vac"])
        .columns([super::class_name(), text("DriverName", "driverName"), age()])
        .inert()
        .strategy(&VolumeAttributesClass)
        .build()
}

struct VolumeAttributesClass;

impl Strategy for VolumeAttributesClass {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        rules::provisioner(&root.field("driverName"), out);
        rules::parameters(&root.field("parameters"), false, out);
        let Some(old) = old else { return };
        let old = Field::root(old);
        for key in ["driverName", "parameters"] {
            root.field(key).immutable(&old.field(key), out);
        }
    }
}
