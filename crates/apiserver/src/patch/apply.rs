//! Server-side apply: merge a configuration by the schema, remove what its manager applied before and
//! leaves out now, and refuse to change what others manage.

use super::order::arrange;
use crate::fields::{self, Changes, Entry, FieldSet, Operation, Scope, Writer, item_key};
use kybern_api::error::{Cause, Details, Reason, Status};
use kybern_api::kind::KindDef;
use kybern_api::meta::time;
use kybern_api::schema::{ANY, Node, Type};
use serde_json::{Map, Value};

/// The manager that gets everything on an object that was not tracked when it is first applied.
const BEFORE_FIRST: &str = "before-first-apply";

/// Applies `config` to `live` (None: the object is made). Both are in the version of the request and
/// without `kind` and `apiVersion`; `config` went through [`kybern_api::codec::decode_definition`].
/// The result carries the new managedFields; the caller decodes it with
/// [`kybern_api::codec::decode_tree`] and does not call [`fields::update_managers`] for it.
///
/// # Errors
/// 400 when the configuration has managedFields; 409 with one cause per conflict, unless `force`.
pub fn apply(
    def: &KindDef,
    node: &Node,
    live: Option<&Value>,
    config: Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, Status> {
    if config.pointer("/metadata/managedFields").is_some() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let scope = Scope::of(def, writer.subresource);
    let claimed = fields::owned(node, &config, scope);
    let mut others = live.map(|live| tracked(node, live, scope, writer)).unwrap_or_default();
    let position = others.iter().position(|e| e.belongs_to(writer, Operation::Apply));
    let before = position.map(|index| others.remove(index));

    let mut merged = merge_root(node, live, config, scope);
    if let Some(before) = &before {
        prune(node, &mut merged, before, &claimed, &others);
    }
    let changes = fields::changes(node, live, &merged, scope);
    settle(&mut others, &changes, force)?;
    others.push(own_entry(writer, claimed, before, &changes));
    fields::put_entries(&mut merged, others);
    Ok(merged)
}

/// The entries of the live object. What was there before anybody tracked it goes to one manager.
fn tracked(node: &Node, live: &Value, scope: Scope, writer: &Writer<'_>) -> Vec<Entry> {
    let entries = fields::read_entries(live);
    if !entries.is_empty() {
        return entries;
    }
    let present = fields::changes(node, None, live, scope).touched;
    vec![Entry::new(&Writer { manager: BEFORE_FIRST, ..*writer }, Operation::Update, present)]
}

/// The writer's new entry; its time stays when nothing changed, so that applying again writes nothing.
fn own_entry(writer: &Writer<'_>, claimed: FieldSet, before: Option<Entry>, changes: &Changes) -> Entry {
    let mut entry = Entry::new(writer, Operation::Apply, claimed);
    if let Some(before) = before.filter(|b| b.fields == entry.fields && changes.is_empty()) {
        entry.time = before.time;
    }
    entry
}

/// Takes changed fields from the others, or refuses.
fn settle(others: &mut [Entry], changes: &Changes, force: bool) -> Result<(), Status> {
    let conflicts: Vec<(&Entry, Vec<String>)> = others
        .iter()
        .map(|entry| (entry, entry.fields.common_paths(&changes.touched)))
        .filter(|(_, paths)| !paths.is_empty())
        .collect();
    if !force && !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    for entry in others {
        entry.fields.subtract(&changes.touched);
        entry.fields.subtract(&changes.removed);
    }
    Ok(())
}

fn conflict(conflicts: &[(&Entry, Vec<String>)]) -> Status {
    let mut groups: Vec<(String, &[String])> =
        conflicts.iter().map(|(entry, paths)| (described(entry), paths.as_slice())).collect();
    groups.sort();
    let each = || groups.iter().flat_map(|(manager, paths)| paths.iter().map(move |path| (manager, path)));
    let causes: Vec<Cause> = each()
        .map(|(manager, path)| Cause {
            reason: "FieldManagerConflict".into(),
            message: format!("conflict with {manager}"),
            field: path.clone(),
        })
        .collect();
    let message = match causes.as_slice() {
        [only] => format!("Apply failed with 1 conflict: {}: {}", only.message, only.field),
        many => {
            let mut lines = Vec::new();
            for (manager, paths) in &groups {
                lines.push(format!("conflicts with {manager}:"));
                lines.extend(paths.iter().map(|path| format!("- {path}")));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    let details = Details { causes, ..Details::default() };
    Status { details: Some(Box::new(details)), ..Status::new(Reason::Conflict, message) }
}

/// `"kubectl" with subresource "scale" using apps/v1 at 2026-01-02T03:04:05Z`
fn described(entry: &Entry) -> String {
    let mut text = format!("{:?}", entry.manager);
    if !entry.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", entry.subresource));
    }
    if entry.operation == Operation::Update {
        text.push_str(&format!(" using {}", entry.api_version));
        if let Some(at) = time::parse(&entry.time) {
            text.push_str(&format!(" at {}", time::time(at)));
        }
    }
    text
}

/// Merges, leaving out the half of the object that this write cannot change.
fn merge_root(node: &Node, live: Option<&Value>, config: Value, scope: Scope) -> Value {
    let mut merged = live.and_then(Value::as_object).cloned().unwrap_or_default();
    let Value::Object(config) = config else { return Value::Object(merged) };
    for (key, value) in config.into_iter().filter(|(key, _)| scope.covers(key)) {
        let inner = node.member(&key).unwrap_or(&ANY);
        let value = merge(inner, merged.remove(&key), value);
        merged.insert(key, value);
    }
    Value::Object(merged)
}

fn merge(node: &Node, live: Option<Value>, config: Value) -> Value {
    if node.is_atomic() {
        return config;
    }
    match (live, config) {
        (Some(Value::Object(mut live)), Value::Object(config)) => {
            for (key, value) in config {
                let merged = merge(node.member(&key).unwrap_or(&ANY), live.remove(&key), value);
                live.insert(key, merged);
            }
            Value::Object(live)
        }
        (Some(Value::Array(live)), Value::Array(config)) => Value::Array(merge_list(node, live, config)),
        (_, config) => config,
    }
}

/// Sets unite; items of keyed lists merge with the item of the same keys.
fn merge_list(node: &Node, live: Vec<Value>, config: Vec<Value>) -> Vec<Value> {
    let item = node.element().unwrap_or(&ANY);
    let stored = live.len();
    let mut items: Vec<(String, Value)> = live.into_iter().map(|v| (item_key(node, &v), v)).collect();
    let mut wanted = Vec::with_capacity(config.len());
    for value in config {
        let key = item_key(node, &value);
        match items.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => *old = merge(item, Some(old.take()), value),
            None => items.push((key.clone(), value)),
        }
        wanted.push(key);
    }
    arrange(items, stored, &wanted)
}

/// Removes what the manager applied before, does not apply now, and nobody else owns.
fn prune(node: &Node, merged: &mut Value, before: &Entry, claimed: &FieldSet, others: &[Entry]) {
    let mut kept = claimed.clone();
    for other in others {
        kept.unite(other.fields.clone());
    }
    let Some(root) = merged.as_object_mut() else { return };
    prune_object(node, root, before.fields.as_map(), Some(kept.as_map()));
}

type Subtree = Map<String, Value>;

fn below<'a>(kept: Option<&'a Subtree>, element: &str) -> Option<&'a Subtree> {
    kept.and_then(|k| k.get(element)).and_then(Value::as_object)
}

fn prune_object(node: &Node, object: &mut Subtree, before: &Subtree, kept: Option<&Subtree>) {
    for (element, dropped) in before {
        let Some(name) = element.strip_prefix("f:") else { continue };
        let Some(value) = object.get_mut(name) else { continue };
        if prune_value(node.member(name).unwrap_or(&ANY), value, dropped, below(kept, element)) {
            object.remove(name);
        }
    }
}

/// Prunes inside a value; true when the value itself goes.
fn prune_value(node: &Node, value: &mut Value, dropped: &Value, kept: Option<&Subtree>) -> bool {
    let (Some(dropped_below), None) = (dropped.as_object(), kept.filter(|k| k.is_empty())) else { return false };
    if kept.is_none() && FieldSet::is_member(dropped) {
        return true;
    }
    match value {
        Value::Object(object) => {
            prune_object(node, object, dropped_below, kept);
            kept.is_none() && object.is_empty()
        }
        Value::Array(items) if matches!(node.ty, Type::List(_)) => {
            let item_node = node.element().unwrap_or(&ANY);
            items.retain_mut(|item| {
                let element = item_key(node, item);
                match dropped_below.get(&element) {
                    Some(dropped) => !prune_value(item_node, item, dropped, below(kept, &element)),
                    None => true,
                }
            });
            kept.is_none() && items.is_empty()
        }
        _ => false,
    }
}
