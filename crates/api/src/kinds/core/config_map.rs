//! ConfigMap: configuration for pods to consume.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "ConfigMap", "configmaps")
        .short(&["cm"])
        .columns([
            name(),
            computed("Data", "Number of keys.", |v| (cells::size(v, "data") + cells::size(v, "binaryData")).into()),
            age(),
        ])
        .build()
}
