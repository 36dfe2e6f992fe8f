//! metadata: what the system sets, what a client may, and how deletion is marked. Pure.

use crate::request::query::invalid_option;
use kybern_api::error::{Cause, Status};
use serde_json::{Map, Value, json};

/// Finalizer of a foreground deletion.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of a deletion that orphans dependents.
pub const ORPHAN: &str = "orphan";

/// The metadata of a tree; an absent or malformed one is made an empty object.
pub fn of_mut(tree: &mut Value) -> &mut Map<String, Value> {
    object(object(tree).entry("metadata").or_insert(Value::Null))
}

/// The value as an object, made an empty one when it is something else.
fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("an object, made so just above")
}

/// A text of the metadata, or the empty text.
pub fn text<'a>(tree: &'a Value, key: &str) -> &'a str {
    tree["metadata"][key].as_str().unwrap_or_default()
}

/// A number of the metadata.
pub fn number(tree: &Value, key: &str) -> Option<i64> {
    tree["metadata"][key].as_i64()
}

/// Is the object being deleted?
pub fn deleting(tree: &Value) -> bool {
    tree["metadata"]["deletionTimestamp"].is_string()
}

/// The finalizers.
pub fn finalizers(tree: &Value) -> Vec<&str> {
    tree["metadata"]["finalizers"].as_array().map(|a| a.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// Replaces the finalizers.
pub fn set_finalizers(tree: &mut Value, finalizers: Vec<String>) {
    let meta = of_mut(tree);
    if finalizers.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".into(), finalizers.into());
    }
}

/// Set by the system alone; a client's values are ignored.
const SYSTEM: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
    "resourceVersion",
];

/// Fills the metadata of a new object.
pub fn begin(tree: &mut Value, uid: String, now: jiff::Timestamp, counts_generation: bool) {
    let meta = of_mut(tree);
    for key in SYSTEM {
        meta.remove(key);
    }
    meta.insert("uid".into(), uid.into());
    meta.insert("creationTimestamp".into(), time(now).into());
    if counts_generation {
        meta.insert("generation".into(), 1.into());
    }
}

/// Keeps what an update may not change. The names are compared before, by [`same_object`].
pub fn carry_over(tree: &mut Value, old: &Value) {
    let meta = of_mut(tree);
    for key in SYSTEM.into_iter().chain(["name", "namespace", "generateName"]) {
        match old["metadata"].get(key) {
            Some(v) => meta.insert(key.into(), v.clone()),
            None => meta.remove(key),
        };
    }
}

/// Marks the deletion of an object that lingers: until `grace` seconds from `now`, or later if it
/// has finalizers.
pub fn mark_deleting(tree: &mut Value, now: jiff::Timestamp, grace: i64, raise_generation: bool) {
    let at = now.saturating_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(now);
    let generation = number(tree, "generation").filter(|_| raise_generation);
    let meta = of_mut(tree);
    meta.insert("deletionTimestamp".into(), time(at).into());
    meta.insert("deletionGracePeriodSeconds".into(), grace.into());
    if let Some(g) = generation {
        meta.insert("generation".into(), (g + 1).into());
    }
}

/// RFC 3339 in whole seconds.
pub fn time(at: jiff::Timestamp) -> String {
    kybern_api::meta::time::time(at)
}

/// Checks that the body names what the URL names.
///
/// # Errors
/// 400 with Kubernetes' texts.
pub fn same_object(tree: &mut Value, namespace: &str, name: &str) -> Result<(), Status> {
    let (body_name, body_ns) = (text(tree, "name").to_owned(), text(tree, "namespace").to_owned());
    if !body_name.is_empty() && body_name != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({body_name}) does not match the name on the URL ({name})"
        )));
    }
    if !body_ns.is_empty() && body_ns != namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({body_ns}) does not match the namespace on the request ({namespace})"
        )));
    }
    let meta = of_mut(tree);
    meta.insert("name".into(), name.into());
    if !namespace.is_empty() {
        meta.insert("namespace".into(), namespace.into());
    }
    Ok(())
}

/// Checks the namespace of a body that is to be created, and sets it.
///
/// # Errors
/// 400 when it names another.
pub fn same_namespace(tree: &mut Value, namespace: &str) -> Result<(), Status> {
    let body = text(tree, "namespace");
    if !body.is_empty() && body != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message));
    }
    let meta = of_mut(tree);
    if namespace.is_empty() {
        meta.remove("namespace");
    } else {
        meta.insert("namespace".into(), namespace.into());
    }
    Ok(())
}

/// Finalizers may only go while the object is being deleted.
pub fn check_finalizers(tree: &Value, old: &Value, causes: &mut Vec<Cause>) {
    if !deleting(old) {
        return;
    }
    let had = finalizers(old);
    let added: Vec<&str> = finalizers(tree).into_iter().filter(|f| !had.contains(f)).collect();
    if !added.is_empty() {
        let list = json!(added).to_string();
        causes.push(Cause {
            reason: "FieldValueForbidden".into(),
            message: format!(
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {list}"
            ),
            field: "metadata.finalizers".into(),
        });
    }
}

/// The finalizers after a deletion with this policy; None where the policy asks for nothing.
///
/// # Errors
/// 422 for an unknown policy.
pub fn finalizers_for(policy: Option<&str>, tree: &Value) -> Result<Option<Vec<String>>, Status> {
    let add = match policy {
        None => return Ok(None),
        Some("Background") => None,
        Some("Foreground") => Some(FOREGROUND),
        Some("Orphan") => Some(ORPHAN),
        Some(other) => {
            let message = format!("Invalid value: \"{other}\": must be one of Background, Foreground, Orphan");
            return Err(invalid_option("DeleteOptions", "propagationPolicy", "FieldValueInvalid", message));
        }
    };
    let keep = finalizers(tree).into_iter().filter(|f| *f != FOREGROUND && *f != ORPHAN);
    Ok(Some(keep.chain(add).map(str::to_owned).collect()))
}
