//! Binding: assigns a pod to a node; a request, never stored.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::Row;
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "Binding", "bindings").create_only().strategy(&Binding).build()
}

struct Binding;

impl Strategy for Binding {
    fn default(&self, obj: &mut Value) {
        if let Some(target) = obj.get_mut("target") {
            tree::set_default(target, "kind", "Node");
        }
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let target = root.field("target");
        target.field("kind").optional_one_of(&["Node", "<empty>"], out);
        target.field("name").demand(out);
    }
}
