//! PriorityClass: a named priority of pods.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::{Row, age, count, field, name, text};
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")
        .cluster()
        .short(&["pc"])
        .columns([
            name(),
            count("Value", "value"),
            field("Global-Default", "boolean", "globalDefault", false),
            age(),
            text("PreemptionPolicy", "preemptionPolicy"),
        ])
        .inert()
        .strategy(&PriorityClass)
        .build()
}

struct PriorityClass;

impl Strategy for PriorityClass {
    fn counts_generation(&self, _def: &KindDef) -> bool {
        true
    }
    fn default(&self, obj: &mut Value) {
        tree::set_default(obj, "preemptionPolicy", "PreemptLowerPriority");
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let Some(old) = old else { return };
        let (root, old) = (Field::root(obj), Field::root(old));
        for key in ["value", "preemptionPolicy"] {
            root.field(key).immutable(&old.field(key), out);
        }
    }
}
