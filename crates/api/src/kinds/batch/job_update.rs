//! What may change of a job: little, and more while it is suspended and has not begun.

use super::job_spec::is_indexed;
use crate::kind::Causes;
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

/// Fields that never change.
const FIXED: [&str; 5] = ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"];

/// Checks an update of the spec.
pub(super) fn validate(spec: &Field<'_, '_>, old: &Value, out: &mut Causes) {
    let root = Field::root(old);
    let before = root.field("spec");
    completions(spec, &before, out);
    spec.field("selector").immutable(&before.field("selector"), out);
    let template = spec.field("template");
    if template.value != before.field("template").value && template.value != &allowed(template.value, old) {
        template.invalid(crate::validate::field::IMMUTABLE, out);
    }
    for key in FIXED {
        spec.field(key).immutable(&before.field(key), out);
    }
}

fn completions(spec: &Field<'_, '_>, before: &Field<'_, '_>, out: &mut Causes) {
    let (now, then) = (spec.field("completions"), before.field("completions"));
    if !is_indexed(spec) {
        return now.immutable(&then, out);
    }
    let in_tandem = now.int() == spec.field("parallelism").int();
    if now.value != then.value && now.present() && !in_tandem {
        now.invalid("can only be modified in tandem with spec.parallelism", out);
    }
}

/// The old template with all that may change taken from the new one.
fn allowed(template: &Value, old: &Value) -> Value {
    let mut allowed = tree::at(old, "spec.template").cloned().unwrap_or_default();
    let not_begun = tree::at(old, "status.startTime").is_none_or(Value::is_null);
    if !tree::flag(old, "spec.suspend") || !not_begun {
        return allowed;
    }
    let none = Value::Object(serde_json::Map::new());
    let (new_meta, new_spec) = (template.get("metadata").unwrap_or(&none), template.get("spec").unwrap_or(&none));
    if let Some(meta) = tree::object(&mut allowed, "metadata") {
        ["labels", "annotations"].iter().for_each(|key| tree::copy(meta, new_meta, key));
    }
    if template.get("metadata").is_none() {
        tree::remove(&mut allowed, "metadata");
    }
    if let Some(spec) = allowed.get_mut("spec") {
        ["nodeSelector", "tolerations", "schedulingGates"].iter().for_each(|key| tree::copy(spec, new_spec, key));
        affinity(spec, new_spec);
        ["containers", "initContainers"].iter().for_each(|list| resources(spec, new_spec, list));
        tree::copy(spec, new_spec, "resources");
    }
    allowed
}

/// Of the affinity, that to nodes may change.
fn affinity(spec: &mut Value, new: &Value) {
    let wanted = tree::at(new, "affinity.nodeAffinity");
    if let (Some(wanted), Some(affinity)) = (wanted, tree::object(spec, "affinity")) {
        affinity["nodeAffinity"] = wanted.clone();
        return;
    }
    if let Some(affinity) = spec.get_mut("affinity") {
        tree::remove(affinity, "nodeAffinity");
    }
    let is_empty = |v: &Value| v.as_object().is_some_and(serde_json::Map::is_empty);
    if spec.get("affinity").is_some_and(is_empty) && new.get("affinity").is_none() {
        tree::remove(spec, "affinity");
    }
}

fn resources(spec: &mut Value, new: &Value, list: &str) {
    let mut containers = tree::list(new, list).iter();
    tree::each(spec, list, |container| {
        if let Some(other) = containers.next() {
            tree::copy(container, other, "resources");
        }
    });
}
