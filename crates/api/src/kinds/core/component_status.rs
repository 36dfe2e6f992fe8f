//! ComponentStatus: a legacy view of the control plane.

use crate::kind::KindDef;
use crate::kinds::row::{Row, computed, name};
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "ComponentStatus", "componentstatuses")
        .cluster()
        .short(&["cs"])
        .verbs(&["get", "list"])
        .columns([
            name(),
            computed("Status", "Whether the component is healthy.", |v| match healthy(v.obj) {
                None => "Unknown".into(),
                Some(c) if tree::text(c, "status") == "True" => "Healthy".into(),
                Some(_) => "Unhealthy".into(),
            }),
            computed("Message", "What the component says.", |v| part(v.obj, "message")),
            computed("Error", "What is wrong with the component.", |v| part(v.obj, "error")),
        ])
        .inert()
        .build()
}

fn healthy(obj: &Value) -> Option<&Value> {
    tree::list(obj, "conditions").iter().find(|c| tree::text(c, "type") == "Healthy")
}

fn part(obj: &Value, key: &str) -> Value {
    healthy(obj).map(|c| tree::text(c, key)).unwrap_or_default().into()
}
