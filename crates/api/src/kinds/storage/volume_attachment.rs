//! VolumeAttachment: a volume attached to a node.

use crate::kind::KindDef;
use crate::kinds::row::{Row, age, field, name, text};

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
        .build()
}
