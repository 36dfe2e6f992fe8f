//! RuntimeClass: a way to run containers.

use crate::kind::KindDef;
use crate::kinds::row::{Row, age, name, text};

pub(super) fn row() -> KindDef {
    Row::new("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses")
        .cluster()
        .create_on_update()
        .needs_revision()
        .columns([name(), text("Handler", "handler"), age()])
        .inert()
        .build()
}
