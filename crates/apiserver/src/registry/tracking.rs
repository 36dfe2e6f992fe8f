//! Who owns which fields, and whether anything changed at all.

use crate::fields::{self, Writer};
use crate::registry::kinds::Resource;
use kybern_api::error::Status;
use kybern_api::schema::{self, Node};
use kybern_api::tree;
use serde_json::{Map, Value};

/// The schema of a resource's stored version, in which ownership is kept.
///
/// # Errors
/// 500 when the definition is unknown, a defect of the kind's row.
pub fn node(resource: &Resource) -> Result<Node, Status> {
    let name = &resource.def().stored_version().schema;
    schema::node(name).ok_or_else(|| Status::internal(format!("no schema {name}")))
}

/// Gives the fields that a write other than apply changed to its manager.
///
/// # Errors
/// 500 for a kind without a schema.
pub fn track(
    resource: &Resource,
    (manager, subresource, now): (&str, &str, jiff::Timestamp),
    obj: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let def = resource.def();
    let api_version = def.api_version(def.stored_version());
    let writer = Writer { manager, subresource, api_version: &api_version, now };
    fields::update_managers(def, &node(resource)?, old, obj, &writer);
    Ok(())
}

/// Are two states of an object equal, but for when their fields were written?
pub fn same(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return new == old };
    equal_but(new, old, &["metadata", "kind", "apiVersion"]) && same_metadata(new.get("metadata"), old.get("metadata"))
}

fn same_metadata(new: Option<&Value>, old: Option<&Value>) -> bool {
    let (Some(Value::Object(new)), Some(Value::Object(old))) = (new, old) else { return new == old };
    equal_but(new, old, &["managedFields", "resourceVersion"])
        && same_fields(new.get("managedFields"), old.get("managedFields"))
}

fn equal_but(a: &Map<String, Value>, b: &Map<String, Value>, except: &[&str]) -> bool {
    let rest = |m: &Map<String, Value>| m.keys().filter(|k| !except.contains(&k.as_str())).count();
    rest(a) == rest(b) && a.iter().all(|(k, v)| except.contains(&k.as_str()) || b.get(k) == Some(v))
}

/// Entries that differ in their times alone are equal.
fn same_fields(new: Option<&Value>, old: Option<&Value>) -> bool {
    let timeless = |v: Option<&Value>| {
        let mut entries = v.and_then(Value::as_array).cloned().unwrap_or_default();
        entries.iter_mut().for_each(|e| drop(tree::remove(e, "time")));
        entries
    };
    new == old || timeless(new) == timeless(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_and_revisions_make_no_difference() {
        let at = |time: &str, data: i32| json!({"metadata": {"name": "a", "resourceVersion": time, "managedFields": [{"manager": "m", "time": time}]}, "data": data});
        assert!(same(&at("1", 1), &at("2", 1)));
        assert!(!same(&at("1", 1), &at("1", 2)));
        let mut labelled = at("1", 1);
        labelled["metadata"]["labels"] = json!({"a": "b"});
        assert!(!same(&labelled, &at("1", 1)));
    }
}
