//! VolumeAttributesClass: changeable properties of volumes.

use crate::kind::KindDef;
use crate::kinds::row::{Row, age, text};

pub(super) fn row() -> KindDef {
    Row::new("storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses")
        .cluster()
        .short(&["vac"])
        .columns([super::class_name(), text("DriverName", "driverName"), age()])
        .inert()
        .build()
}
