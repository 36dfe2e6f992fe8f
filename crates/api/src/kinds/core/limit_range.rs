//! LimitRange: bounds and defaults for resources in a namespace.

use super::limit_range_rules as rules;
use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::Row;
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "LimitRange", "limitranges").short(&["limits"]).create_on_update().strategy(&LimitRange).build()
}

struct LimitRange;

impl Strategy for LimitRange {
    fn default(&self, obj: &mut Value) {
        let Some(spec) = obj.get_mut("spec") else { return };
        tree::each(spec, "limits", |limit| {
            if tree::text(limit, "type") == "Container" {
                fill(limit, "max", "default");
                fill(limit, "default", "defaultRequest");
                fill(limit, "min", "defaultRequest");
            }
        });
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        rules::limits(&root.field("spec").field("limits"), out);
    }
}

/// Gives `to` every resource of `from` that it lacks.
fn fill(limit: &mut Value, from: &str, to: &str) {
    let Some(source) = limit.get(from).and_then(Value::as_object).cloned() else { return };
    if let Some(target) = tree::object(limit, to) {
        source.iter().for_each(|(resource, amount)| tree::set_if_absent(target, resource, amount.clone()));
    }
}
