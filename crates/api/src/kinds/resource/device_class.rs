//! DeviceClass: a preset of device requests.

use crate::kind::KindDef;
use crate::kinds::row::{Row, age, name};

pub(super) fn row() -> KindDef {
    Row::new("resource.k8s.io", "v1", "DeviceClass", "deviceclasses")
        .cluster()
        .columns([name(), age()])
        .withheld()
        .build()
}
