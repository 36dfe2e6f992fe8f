//! What an update of a pod may change.

use super::container::{Role, container};
use super::field::Field;
use super::{quantities, volumes};
use crate::kind::Causes;
use crate::tree;
use serde_json::Value;

const ONLY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks an ordinary update: images, a shorter deadline, further tolerations; of a gated pod also its
/// gates, node selector and affinity.
pub fn pod_update(new: &Field<'_, '_>, old: &Field<'_, '_>, out: &mut Causes) {
    if new.value == old.value {
        return;
    }
    deadline(&new.field("activeDeadlineSeconds"), &old.field("activeDeadlineSeconds"), out);
    tolerations(&new.field("tolerations"), &old.field("tolerations"), out);
    let gated = gates(&new.field("schedulingGates"), &old.field("schedulingGates"), out);
    // What may change is made equal; whatever then differs may not.
    let mut rest = new.value.clone();
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        tree::copy(&mut rest, old.value, key);
    }
    if old.field("terminationGracePeriodSeconds").int().is_some_and(|s| s < 0)
        && new.field("terminationGracePeriodSeconds").int() == Some(1)
    {
        tree::copy(&mut rest, old.value, "terminationGracePeriodSeconds");
    }
    for list in ["containers", "initContainers"] {
        restore_each(&mut rest, old.value, list, "image");
    }
    if gated {
        tree::copy(&mut rest, old.value, "nodeSelector");
        tree::copy(&mut rest, old.value, "affinity");
    }
    if rest != *old.value {
        new.forbidden(&format!("{ONLY}\n{}", difference(&rest, old.value)), out);
    }
}

/// Gives every element of a list the old value of one key, when both lists are of one length.
fn restore_each(rest: &mut Value, old: &Value, list: &str, key: &str) {
    let old = tree::list(old, list);
    if let Some(Value::Array(items)) = rest.get_mut(list)
        && items.len() == old.len()
    {
        items.iter_mut().zip(old).for_each(|(item, old)| tree::copy(item, old, key));
    }
}

/// The top-level fields that differ, old and new.
fn difference(new: &Value, old: &Value) -> String {
    let empty = serde_json::Map::new();
    let (new, old) = (new.as_object().unwrap_or(&empty), old.as_object().unwrap_or(&empty));
    let mut keys: Vec<&String> = new.keys().chain(old.keys()).filter(|k| new.get(*k) != old.get(*k)).collect();
    keys.sort();
    keys.dedup();
    let mut text = String::new();
    for key in keys {
        for (sign, value) in [('-', old.get(key)), ('+', new.get(key))] {
            if let Some(value) = value {
                text.push_str(&format!("{sign} {key}: {value}\n"));
            }
        }
    }
    text
}

fn deadline(new: &Field<'_, '_>, old: &Field<'_, '_>, out: &mut Causes) {
    match (new.int(), old.int()) {
        (Some(n), Some(o)) if n > o => {
            new.invalid(&format!("must be less than or equal to previous value ({o})"), out);
        }
        (None, Some(_)) => new.invalid("must not update from a positive integer to nil value", out),
        _ => {}
    }
}

/// Existing tolerations stay (their seconds may change), further ones may come.
fn tolerations(new: &Field<'_, '_>, old: &Field<'_, '_>, out: &mut Causes) {
    let identity = |t: &Field<'_, '_>| {
        let mut t = t.value.clone();
        tree::remove(&mut t, "tolerationSeconds");
        t
    };
    if new.value != old.value && old.items().any(|o| new.items().all(|n| identity(&n) != identity(&o))) {
        new.forbidden("existing toleration can not be modified except its tolerationSeconds", out);
    }
}

/// Gates may go, not come. Says whether the pod is gated.
fn gates(new: &Field<'_, '_>, old: &Field<'_, '_>, out: &mut Causes) -> bool {
    let name = |g: &Field<'_, '_>| g.field("name").text().to_owned();
    let before: Vec<String> = old.items().map(|g| name(&g)).collect();
    for gate in new.items().filter(|g| !before.contains(&name(g))) {
        new.forbidden(&format!("only deletion is allowed, but found new scheduling gate '{}'", name(&gate)), out);
    }
    !old.is_empty()
}

/// Checks a write to `ephemeralcontainers`: entries may be added, the others stay as they are.
pub fn pod_ephemeral(new: &Field<'_, '_>, old: &Field<'_, '_>, out: &mut Causes) {
    let (list, before) = (new.field("ephemeralContainers"), old.field("ephemeralContainers"));
    let volume_list = new.field("volumes");
    let volumes = volumes::volumes(&volume_list, out);
    for c in list.items() {
        container(&c, Role::Ephemeral, false, &volumes, out);
    }
    for o in before.items() {
        let name = o.field("name").text().to_owned();
        match list.items().find(|c| c.field("name").text() == name) {
            None => list.forbidden(&format!("existing ephemeral containers \"{name}\" may not be removed"), out),
            Some(c) if c.value != o.value => {
                c.forbidden(&format!("existing ephemeral containers \"{name}\" may not be changed"), out);
            }
            Some(_) => {}
        }
    }
}

/// The resources that a resize may change.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Checks a write to `resize`: CPU and memory of containers and sidecars, nothing else; what is there may
/// change, not go.
pub fn pod_resize(new: &Field<'_, '_>, old: &Field<'_, '_>, out: &mut Causes) {
    for list in ["containers", "initContainers"] {
        let before = old.field(list);
        for (c, was) in new.field(list).items().zip(before.items()) {
            let (resources, was) = (c.field("resources"), was.field("resources"));
            if resources.value != was.value {
                quantities::container_resources(&resources, out);
                kept(&resources, &was, out);
            }
        }
    }
    if fixed(new.value) != fixed(old.value) {
        new.forbidden("only cpu and memory resources are mutable", out);
    }
}

/// Limits and requests may change and come, not go.
fn kept(new: &Field<'_, '_>, old: &Field<'_, '_>, out: &mut Causes) {
    for list in ["limits", "requests"] {
        let (now, before) = (new.field(list), old.field(list));
        if before.entries().any(|(name, _)| RESIZABLE.contains(&name) && !now.entry(name).present()) {
            now.forbidden(&format!("resource {list} cannot be removed"), out);
        }
    }
}

/// A pod's spec without what a resize may change.
fn fixed(spec: &Value) -> Value {
    let mut spec = spec.clone();
    tree::each(&mut spec, "containers", strip);
    tree::each(&mut spec, "initContainers", |c| {
        if tree::text(c, "restartPolicy") == "Always" {
            strip(c);
        }
    });
    spec
}

fn strip(container: &mut Value) {
    let Some(resources) = tree::object(container, "resources") else { return };
    for list in ["limits", "requests"] {
        if let Some(map) = tree::object(resources, list) {
            RESIZABLE.iter().for_each(|name| drop(tree::remove(map, name)));
        }
        if resources.get(list).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
            tree::remove(resources, list);
        }
    }
    if resources.as_object().is_some_and(serde_json::Map::is_empty) {
        tree::remove(container, "resources");
    }
}
