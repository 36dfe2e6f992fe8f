//! ConfigMap: configuration for pods to consume.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};
use crate::validate;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "ConfigMap", "configmaps")
        .short(&["cm"])
        .columns([
            name(),
            computed("Data", "Number of keys.", |v| (cells::size(v, "data") + cells::size(v, "binaryData")).into()),
            age(),
        ])
        .strategy(&ConfigMap)
        .build()
}

struct ConfigMap;

impl Strategy for ConfigMap {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        validate::data_keys(&root, &["data", "binaryData"], out);
        if let Some(old) = old {
            validate::sealed_data(&root, &Field::root(old), &["data", "binaryData"], out);
        }
    }
}
