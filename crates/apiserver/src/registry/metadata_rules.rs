//! What is checked about metadata, for all kinds alike.

use crate::registry::metadata;
use kybern_api::error::Cause;
use kybern_api::kind::{Causes, KindDef};
use kybern_api::meta::names;
use serde_json::{Map, Value, json};

/// All annotations together, keys and values, in bytes.
const ANNOTATIONS_MAX: usize = 256 << 10;

/// Checks a new or changed object's metadata.
pub fn check(def: &KindDef, obj: &Value, old: Option<&Value>, causes: &mut Causes) {
    if old.is_none() {
        check_name(def, obj, causes);
    }
    let meta = &obj["metadata"];
    check_labels(meta["labels"].as_object(), causes);
    check_annotations(meta["annotations"].as_object(), causes);
    check_owners(meta["ownerReferences"].as_array(), causes);
    for (i, finalizer) in metadata::finalizers(obj).into_iter().enumerate() {
        let field = format!("metadata.finalizers[{i}]");
        add(causes, &field, finalizer, names::qualified_name(finalizer));
    }
    if let Some(old) = old {
        metadata::check_finalizers(obj, old, causes);
    }
    let (orphan, foreground) = (metadata::ORPHAN, metadata::FOREGROUND);
    let finalizers = metadata::finalizers(obj);
    if finalizers.contains(&orphan) && finalizers.contains(&foreground) {
        let text = format!("finalizer {orphan} and {foreground} cannot be both set");
        add(causes, "metadata.finalizers", &finalizers.join(","), vec![text]);
    }
}

fn check_name(def: &KindDef, obj: &Value, causes: &mut Causes) {
    let (name, prefix) = (metadata::text(obj, "name"), metadata::text(obj, "generateName"));
    if !prefix.is_empty() {
        add(causes, "metadata.generateName", prefix, names::object_name(def.names, prefix, true));
    }
    add(causes, "metadata.name", name, names::object_name(def.names, name, false));
}

fn check_labels(labels: Option<&Map<String, Value>>, causes: &mut Causes) {
    for (key, value) in labels.into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        add(causes, "metadata.labels", key, names::qualified_name(key));
        add(causes, "metadata.labels", value, names::label_value(value));
    }
}

fn check_annotations(annotations: Option<&Map<String, Value>>, causes: &mut Causes) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        add(causes, "metadata.annotations", key, names::qualified_name(&key.to_lowercase()));
    }
    if size > ANNOTATIONS_MAX {
        causes.push(Cause {
            reason: "FieldValueTooLong".into(),
            message: format!("Too long: may not be more than {ANNOTATIONS_MAX} bytes"),
            field: "metadata.annotations".into(),
        });
    }
}

fn check_owners(owners: Option<&Vec<Value>>, causes: &mut Causes) {
    let owners = owners.map(Vec::as_slice).unwrap_or_default();
    for (i, owner) in owners.iter().enumerate() {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if owner[key].as_str().unwrap_or_default().is_empty() {
                let field = format!("metadata.ownerReferences[{i}].{key}");
                add(causes, &field, "", vec!["must not be empty".to_owned()]);
            }
        }
    }
    if owners.iter().filter(|o| o["controller"] == true).count() > 1 {
        let text = "Only one reference can have Controller set to true".to_owned();
        add(causes, "metadata.ownerReferences", "", vec![text]);
    }
}

fn add(causes: &mut Causes, field: &str, value: &str, problems: Vec<String>) {
    causes.extend(problems.into_iter().map(|p| Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {}: {p}", json!(value)),
        field: field.to_owned(),
    }));
}
