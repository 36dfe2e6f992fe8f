//! Binding: assigns a pod to a node; a request, never stored.

use crate::kind::KindDef;
use crate::kinds::row::Row;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "Binding", "bindings").create_only().build()
}
