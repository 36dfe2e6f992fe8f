//! VolumeAttachment: a volume attached to a node.

use super::rules;
use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::{Row, age, field, name, text};
use crate::meta::names;
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
        let root = Field::root(obj);
        let spec = root.field("spec");
        match old {
            Some(old) => spec.immutable(&Field::root(old).field("spec"), out),
            None => attachment(&spec, out),
        }
    }
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}

/// One volume, by name or described, to one node.
fn attachment(spec: &Field<'_, '_>, out: &mut Causes) {
    rules::driver(&spec.field("attacher"), out);
    let source = spec.field("source");
    let (inline, name) = (source.field("inlineVolumeSpec"), source.field("persistentVolumeName"));
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline.present(), name.present()) {
        (false, false) => source.required(one, out),
        (true, true) => source.forbidden(one, out),
        (false, true) if !name.set() => name.required("must specify non empty persistentVolumeName", out),
        (false, true) => name.invalid_each(names::subdomain(name.text()), out),
        (true, false) => {}
    }
    let node = spec.field("nodeName");
    for problem in names::subdomain(node.text()) {
        node.invalid_value(&node.text().into(), &problem, out);
    }
}
