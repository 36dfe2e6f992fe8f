//! ControllerRevision: a kept version of another object's template.

use crate::kind::{Causes, Context, KindDef, Strategy, View};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, field, name};
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("apps", "v1", "ControllerRevision", "controllerrevisions")
        .columns([
            name(),
            computed("Controller", "The object it belongs to.", controller),
            field("Revision", "string", "revision", 0),
            age(),
        ])
        .strategy(&ControllerRevision)
        .build()
}

fn controller(view: &View<'_>) -> Value {
    let Some(owner) = view.head.controller() else { return cells::NONE.into() };
    let kind = owner.kind.to_ascii_lowercase();
    match owner.api_version.split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", owner.name).into(),
        None => format!("{kind}/{}", owner.name).into(),
    }
}

struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        if !root.field("data").present() {
            root.field("data").required("data is mandatory", out);
        }
        root.field("revision").not_negative(out);
        if let Some(old) = old {
            root.field("data").immutable(&Field::root(old).field("data"), out);
        }
    }
}
