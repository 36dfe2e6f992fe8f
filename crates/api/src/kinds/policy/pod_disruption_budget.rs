//! PodDisruptionBudget: how many pods may be evicted at once.

use crate::kind::{KindDef, NameRule};
use crate::kinds::row::{Row, age, computed, count, name};
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
        .short(&["pdb"])
        .status()
        .needs_revision()
        .names(NameRule::Path)
        .columns([
            name(),
            computed("Min Available", "How many pods must be there.", |v| bound(tree::at(v.obj, "spec.minAvailable"))),
            computed("Max Unavailable", "How many pods may be missing.", |v| {
                bound(tree::at(v.obj, "spec.maxUnavailable"))
            }),
            count("Allowed Disruptions", "status.disruptionsAllowed"),
            age(),
        ])
        .inert()
        .build()
}

/// A number or percentage as text.
fn bound(value: Option<&Value>) -> Value {
    match value {
        Some(Value::String(percent)) => percent.as_str().into(),
        Some(Value::Number(n)) => n.to_string().into(),
        _ => "N/A".into(),
    }
}
