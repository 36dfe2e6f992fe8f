//! Secret: confidential data for pods to consume; encrypted at rest.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text};

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "Secret", "secrets")
        .sealed()
        .select("type")
        .columns([
            name(),
            text("Type", "type"),
            computed("Data", "Number of keys.", |v| cells::size(v, "data").into()),
            age(),
        ])
        .build()
}
