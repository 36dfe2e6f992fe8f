//! PriorityClass: a named priority of pods.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::{Row, age, count, field, name, text};
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

/// The classes of the system's own pods.
pub const SYSTEM_PRIORITIES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
/// The highest value of a class that is not the system's.
const HIGHEST: i64 = 1_000_000_000;

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
        let root = Field::root(obj);
        let Some(old) = old else { return validate_new(&root, out) };
        let old = Field::root(old);
        for key in ["value", "preemptionPolicy"] {
            root.field(key).immutable(&old.field(key), out);
        }
    }
}

fn validate_new(root: &Field<'_, '_>, out: &mut Causes) {
    let (value, metadata) = (root.field("value"), root.field("metadata"));
    let name = metadata.field("name");
    if name.text().starts_with("system-") {
        if let Err(why) = known(name.text(), value.int().unwrap_or(0), root.field("globalDefault").flag()) {
            let text = "priority class names with 'system-' prefix are reserved for system use only. error: ";
            name.forbidden(&format!("{text}{why}"), out);
        }
    } else if value.int().is_some_and(|v| v > HIGHEST) {
        value.forbidden(&format!("maximum allowed value of a user defined priority is {HIGHEST}"), out);
    }
    root.field("preemptionPolicy").optional_one_of(&["Never", "PreemptLowerPriority"], out);
}

/// Is it one of the system's classes, as it has to be?
fn known(name: &str, value: i64, default: bool) -> Result<(), String> {
    match SYSTEM_PRIORITIES.iter().find(|(n, _)| *n == name) {
        None => Err(format!("{name} is not a known system priority class")),
        Some((_, wanted)) if *wanted != value => Err(format!("value of {name} PriorityClass must be {wanted}")),
        Some(_) if default => Err(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_values_of_the_system_are_its_own() {
        let cases = [
            (json!({"metadata": {"name": "high"}, "value": 1_000_000_000}), ""),
            (json!({"metadata": {"name": "high"}, "value": 1_000_000_001}), "value"),
            (json!({"metadata": {"name": "system-mine"}, "value": 1}), "metadata.name"),
            (json!({"metadata": {"name": "system-node-critical"}, "value": 7}), "metadata.name"),
            (json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}), ""),
            (json!({"metadata": {"name": "high"}, "value": 1, "preemptionPolicy": "Always"}), "preemptionPolicy"),
        ];
        for (class, field) in cases {
            let mut out = Causes::new();
            validate_new(&Field::root(&class), &mut out);
            assert_eq!(out.first().map_or("", |c| c.field.as_str()), field, "{class}");
        }
    }
}
