//! RuntimeClass: a way to run containers.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::{Row, age, name, text};
use crate::meta::{self, names};
use crate::validate;
use crate::validate::Field;
use serde_json::{Value, json};

pub(super) fn row() -> KindDef {
    Row::new("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses")
        .cluster()
        .create_on_update()
        .needs_revision()
        .columns([name(), text("Handler", "handler"), age()])
        .strategy(&RuntimeClass)
        .build()
}

struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let handler = root.field("handler");
        for problem in names::label(handler.text()) {
            handler.invalid_value(&handler.text().into(), &problem, out);
        }
        overhead(&root.field("overhead"), out);
        let scheduling = root.field("scheduling");
        meta::labels(&scheduling.field("nodeSelector"), out);
        validate::tolerations(&scheduling.field("tolerations"), out);
        if let Some(old) = old {
            root.field("handler").immutable(&Field::root(old).field("handler"), out);
        }
    }
}

/// What pods take besides their containers is checked as the limits of a container.
fn overhead(overhead: &Field<'_, '_>, out: &mut Causes) {
    let fixed = json!({"limits": overhead.field("podFixed").value});
    validate::quantities::container_resources(&overhead.instead(&fixed), out);
}
