//! VolumeAttachment: a volume attached to a node.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::{Row, age, field, name, text};
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments")
        .cluster()
        .status()
        .needs_revision()
        .columns([
            name(),
            text("Attacher", "spec.attacher").formatted("name"),
            text("PV", "spec.source.persistentVolumeName"),
            text("Node", "spec.nodeName"),
            field("Attached", "boolean", "status.attached", false),
            age(),
        ])
        .inert()
        .strategy(&VolumeAttachment)
        .build()
}

struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn counts_generation(&self, _def: &KindDef) -> bool {
        false
    }
    fn prepare(&self, _ctx: &Context<'_>, obj: &mut Value, old: Option<&Value>) {
        if old.is_none()
            && let Some(status) = tree::object(obj, "status")
        {
            tree::set_if_absent(status, "attached", false);
        }
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        if let Some(old) = old {
            Field::root(obj).field("spec").immutable(&Field::root(old).field("spec"), out);
        }
    }
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}
