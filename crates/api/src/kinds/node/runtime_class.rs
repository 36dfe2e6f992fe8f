//! RuntimeClass: a way to run containers.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::{Row, age, name, text};
use crate::meta::names;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses")
        .cluster()
        .create_on_update()
        .needs_revision()
        .columns([name(), text("Handler", "handler"), age()])
        .inert()
        .strategy(&RuntimeClass)
        .build()
}

struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        root.field("handler").checked(names::label, out);
        if let Some(old) = old {
            root.field("handler").immutable(&Field::root(old).field("handler"), out);
        }
    }
}
