//! Rules for metadata, the same for all kinds.

use crate::kind::{Causes, KindDef};
use crate::meta::names;
use crate::tree;
use crate::validate::field::Field;
use serde_json::Value;

/// All keys and values of annotations together, in bytes.
pub const ANNOTATIONS_MAX: usize = 256 * 1024;

/// Checks `metadata` of an object whose system fields are set; `old` is what is stored, on update.
pub fn validate(def: &KindDef, obj: &Value, old: Option<&Value>, out: &mut Causes) {
    let root = Field::root(obj);
    let meta = root.field("metadata");
    name(def, &meta, out);
    labels(&meta.field("labels"), out);
    annotations(&meta.field("annotations"), out);
    owners(&meta.field("ownerReferences"), out);
    finalizers(&meta.field("finalizers"), out);
    if let Some(old) = old {
        let old = Field::root(old);
        unchanged(&meta, &old.field("metadata"), out);
    }
}

fn name(def: &KindDef, meta: &Field<'_, '_>, out: &mut Causes) {
    let prefix = meta.field("generateName");
    if prefix.set() {
        prefix.invalid_each(names::object_name(def.names, prefix.text(), true), out);
    }
    let name = meta.field("name");
    if name.set() {
        name.invalid_each(names::object_name(def.names, name.text(), false), out);
    } else {
        name.required("name or generateName is required", out);
    }
    let namespace = meta.field("namespace");
    if !def.namespaced() {
        if namespace.set() {
            namespace.forbidden("not allowed on this type", out);
        }
    } else if namespace.demand(out) {
        namespace.invalid_each(names::label(namespace.text()), out);
    }
}

/// Checks a map of labels.
pub fn labels(labels: &Field<'_, '_>, out: &mut Causes) {
    for (key, value) in labels.entries() {
        let problems = names::qualified_name(key);
        if !problems.is_empty() {
            let key = Value::from(key);
            problems.iter().for_each(|p| labels.invalid_value(&key, p, out));
        }
        for problem in names::label_value(value.text()) {
            labels.invalid_value(value.value, &problem, out);
        }
    }
}

/// Checks a map of annotations.
pub fn annotations(annotations: &Field<'_, '_>, out: &mut Causes) {
    let mut size = 0;
    for (key, value) in annotations.entries() {
        size += key.len() + value.text().len();
        let problems = names::qualified_name(&key.to_ascii_lowercase());
        problems.iter().for_each(|p| annotations.invalid_value(&key.into(), p, out));
    }
    if size > ANNOTATIONS_MAX {
        annotations.too_long(ANNOTATIONS_MAX, out);
    }
}

fn owners(owners: &Field<'_, '_>, out: &mut Causes) {
    let mut controller = None;
    for owner in owners.items() {
        let version = owner.field("apiVersion");
        if !version.set() {
            version.invalid("version must not be empty", out);
        }
        for key in ["kind", "name", "uid"] {
            let field = owner.field(key);
            if !field.set() {
                field.invalid(&format!("{key} must not be empty"), out);
            }
        }
        if version.text() == "v1" && owner.field("kind").text() == "Event" {
            owner.invalid(&format!("{}, Kind=Event is disallowed from being an owner", version.text()), out);
        }
        if owner.field("controller").flag() {
            let name = tree::text(owner.value, "name");
            if let Some(first) = controller {
                let text = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                );
                owners.invalid(&text, out);
            }
            controller = controller.or(Some(name));
        }
    }
}

/// The finalizers that need no domain before their name.
const PLAIN_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

fn finalizers(finalizers: &Field<'_, '_>, out: &mut Causes) {
    let has = |name: &str| finalizers.items().any(|f| f.text() == name);
    for finalizer in finalizers.items() {
        let problems = names::qualified_name(finalizer.text());
        if problems.is_empty() && !finalizer.text().contains('/') && !PLAIN_FINALIZERS.contains(&finalizer.text()) {
            finalizer.invalid("name is neither a standard finalizer name nor is it fully qualified", out);
        }
        finalizer.invalid_each(problems, out);
    }
    if has("orphan") && has("foregroundDeletion") {
        finalizers.invalid("finalizer orphan and foregroundDeletion cannot be both set", out);
    }
}

fn unchanged(meta: &Field<'_, '_>, old: &Field<'_, '_>, out: &mut Causes) {
    for key in ["name", "namespace", "uid", "creationTimestamp"] {
        meta.field(key).immutable(&old.field(key), out);
    }
    if !old.field("deletionTimestamp").present() {
        return;
    }
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        meta.field(key).immutable(&old.field(key), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use serde_json::json;

    fn fields(plural: &str, meta: Value, old: Option<Value>) -> Vec<String> {
        let def = kinds::find("", plural).expect("a kind");
        let mut out = Causes::new();
        let old = old.map(|m| json!({ "metadata": m }));
        validate(def, &json!({ "metadata": meta }), old.as_ref(), &mut out);
        out.into_iter().map(|c| format!("{} {}", c.field, c.reason)).collect()
    }

    #[test]
    fn good_metadata_passes() {
        let meta = json!({"name": "a", "namespace": "default", "labels": {"app.io/x": "y"}, "annotations": {"X.io/A": "*"},
            "finalizers": ["orphan", "x.io/y"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": true}]});
        assert_eq!(fields("pods", meta.clone(), Some(meta)), [""; 0]);
    }

    #[test]
    fn each_broken_rule_is_named() {
        let named = |extra: Value| {
            let mut meta = json!({"name": "a", "namespace": "default"});
            meta.as_object_mut().expect("a map").extend(extra.as_object().expect("a map").clone());
            meta
        };
        let cases = [
            ("pods", json!({"namespace": "default"}), "metadata.name FieldValueRequired"),
            ("pods", json!({"name": "a"}), "metadata.namespace FieldValueRequired"),
            ("nodes", named(json!({})), "metadata.namespace FieldValueForbidden"),
            ("pods", named(json!({"name": "A"})), "metadata.name FieldValueInvalid"),
            ("pods", named(json!({"generateName": "A-"})), "metadata.generateName FieldValueInvalid"),
            ("pods", named(json!({"labels": {"-": "a"}})), "metadata.labels FieldValueInvalid"),
            ("pods", named(json!({"labels": {"a": "-"}})), "metadata.labels FieldValueInvalid"),
            (
                "pods",
                named(json!({"annotations": {"a": "x".repeat(ANNOTATIONS_MAX)}})),
                "metadata.annotations FieldValueTooLong",
            ),
            ("pods", named(json!({"finalizers": ["mine"]})), "metadata.finalizers[0] FieldValueInvalid"),
            (
                "pods",
                named(json!({"finalizers": ["orphan", "foregroundDeletion"]})),
                "metadata.finalizers FieldValueInvalid",
            ),
            (
                "pods",
                named(json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]})),
                "metadata.ownerReferences[0].uid FieldValueInvalid",
            ),
        ];
        for (plural, meta, want) in cases {
            assert_eq!(fields(plural, meta, None), [want]);
        }
    }

    #[test]
    fn system_fields_do_not_change() {
        let meta =
            json!({"name": "a", "namespace": "default", "uid": "1", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        for key in ["uid", "deletionTimestamp"] {
            let mut changed = meta.clone();
            changed[key] = "other".into();
            assert_eq!(fields("pods", changed, Some(meta.clone())), [format!("metadata.{key} FieldValueInvalid")]);
        }
    }
}
