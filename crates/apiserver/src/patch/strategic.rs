//! Strategic merge: objects merge, lists merge by the schema's merge keys, and directives in the patch
//! say what else should happen (`$patch`, `$retainKeys`, `$setElementOrder/..`,
//! `$deleteFromPrimitiveList/..`).

use super::order::arrange;
use kybern_api::error::Status;
use kybern_api::schema::{ANY, Node};
use serde_json::{Map, Value};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// Applies the patch.
pub(super) fn patch(current: Value, patch: Value, node: &Node) -> Result<Value, Status> {
    let object = |v: Value| match v {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    Ok(Value::Object(merge_object(object(current), object(patch), node)?))
}

fn invalid(why: String) -> Status {
    Status::bad_request(format!("invalid strategic merge patch: {why}"))
}

/// What `$patch` says about the object or list it stands in.
#[derive(PartialEq, Eq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &mut Map<String, Value>) -> Result<Directive, Status> {
    match patch.remove(PATCH) {
        None => Ok(Directive::Merge),
        Some(word) => match word.as_str() {
            Some("merge") => Ok(Directive::Merge),
            Some("replace") => Ok(Directive::Replace),
            Some("delete") => Ok(Directive::Delete),
            _ => Err(invalid(format!("unknown {PATCH} directive {word}"))),
        },
    }
}

fn merge_object(
    mut current: Map<String, Value>,
    mut patch: Map<String, Value>,
    node: &Node,
) -> Result<Map<String, Value>, Status> {
    match directive(&mut patch)? {
        Directive::Replace => return Ok(without_directives(patch)),
        Directive::Delete => return Ok(Map::new()),
        Directive::Merge => {}
    }
    if let Some(keep) = patch.remove(RETAIN_KEYS) {
        let keep = strings(&keep, RETAIN_KEYS)?;
        current.retain(|key, _| keep.contains(key));
    }
    let orders = take_lists(&mut patch, ORDER)?;
    for (field, gone) in take_lists(&mut patch, DELETE_FROM)? {
        if let Some(Value::Array(items)) = current.get_mut(&field) {
            items.retain(|item| !gone.contains(item));
        }
    }
    let mut reordered = orders;
    for (key, value) in patch {
        let inner = node.member(&key).unwrap_or(&ANY);
        let old = current.remove(&key);
        let order = reordered.iter().position(|(field, _)| *field == key).map(|i| reordered.swap_remove(i).1);
        if let Some(merged) = merge_value(old, value, inner, order)? {
            current.insert(key, merged);
        }
    }
    for (field, order) in reordered {
        if let Some(Value::Array(items)) = current.remove(&field) {
            let inner = node.member(&field).unwrap_or(&ANY);
            let stored = items.len();
            current.insert(field, Value::Array(in_order(items, stored, inner, Some(order))));
        }
    }
    Ok(current)
}

/// None removes the field.
fn merge_value(
    old: Option<Value>,
    patch: Value,
    node: &Node,
    order: Option<Vec<Value>>,
) -> Result<Option<Value>, Status> {
    let rule = &node.rules().patch;
    Ok(match (old, patch) {
        (_, Value::Null) => None,
        (Some(Value::Object(_)), Value::Object(patch)) if rule.replace => {
            Some(Value::Object(without_directives(patch)))
        }
        (Some(Value::Object(old)), Value::Object(patch)) => Some(Value::Object(merge_object(old, patch, node)?)),
        (_, Value::Object(patch)) => Some(Value::Object(merge_object(Map::new(), patch, node)?)),
        (old, Value::Array(patch)) if rule.merge => {
            let old = match old {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            Some(Value::Array(merge_list(old, patch, node, order)?))
        }
        (_, Value::Array(patch)) => Some(Value::Array(patch.into_iter().map(plain).collect())),
        (_, scalar) => Some(scalar),
    })
}

fn merge_list(
    old: Vec<Value>,
    patch: Vec<Value>,
    node: &Node,
    order: Option<Vec<Value>>,
) -> Result<Vec<Value>, Status> {
    let stored = old.len();
    let merged = match node.rules().patch.merge_key.as_deref() {
        Some(key) => match merge_keyed(old, patch, key, node.element().unwrap_or(&ANY))? {
            Keyed::Merged { items, stored } => return Ok(in_order(items, stored, node, order)),
            Keyed::Replaced(items) => return Ok(items),
        },
        None => {
            let mut items = old;
            for item in patch {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
            items
        }
    };
    Ok(in_order(merged, stored, node, order))
}

enum Keyed {
    /// Merged item by item; the first `stored` of them were there before.
    Merged { items: Vec<Value>, stored: usize },
    /// `$patch: replace` in the list: only what the patch names stays.
    Replaced(Vec<Value>),
}

fn merge_keyed(mut items: Vec<Value>, patch: Vec<Value>, key: &str, node: &Node) -> Result<Keyed, Status> {
    let replaces = |v: &Value| v.get(PATCH).and_then(Value::as_str) == Some("replace");
    if patch.iter().any(replaces) {
        let kept = patch.into_iter().filter(|v| !replaces(v) || v.get(key).is_some()).map(plain);
        return Ok(Keyed::Replaced(kept.collect()));
    }
    let mut stored = items.len();
    for change in patch {
        let Value::Object(mut change) = change else {
            return Err(invalid(format!("a list merged by {key} has an item that is no object")));
        };
        let Some(id) = change.get(key).cloned() else {
            return Err(invalid(format!("map: {} does not contain declared merge key: {key}", Value::Object(change))));
        };
        let found = items.iter().position(|item| item.get(key) == Some(&id));
        if change.get(PATCH).and_then(Value::as_str) == Some("delete") {
            stored -= items.iter().take(stored).filter(|item| item.get(key) == Some(&id)).count();
            items.retain(|item| item.get(key) != Some(&id));
            continue;
        }
        match found {
            Some(index) => {
                let Value::Object(old) = items[index].take() else { continue };
                items[index] = Value::Object(merge_object(old, change, node)?);
            }
            None => {
                directive(&mut change)?;
                items.push(Value::Object(merge_object(Map::new(), change, node)?));
            }
        }
    }
    Ok(Keyed::Merged { items, stored })
}

/// Arranges a list as `$setElementOrder` says.
fn in_order(items: Vec<Value>, stored: usize, node: &Node, order: Option<Vec<Value>>) -> Vec<Value> {
    let Some(order) = order else { return items };
    let merge_key = node.rules().patch.merge_key.as_deref();
    let id = |item: &Value| match merge_key {
        Some(key) => item.get(key).map(Value::to_string).unwrap_or_default(),
        None => item.to_string(),
    };
    let wanted: Vec<String> = order.iter().map(id).collect();
    arrange(items.into_iter().map(|item| (id(&item), item)).collect(), stored, &wanted)
}

/// Takes the list-valued directives `PREFIX/FIELD` out of a patch.
fn take_lists(patch: &mut Map<String, Value>, prefix: &str) -> Result<Vec<(String, Vec<Value>)>, Status> {
    let keys: Vec<String> = patch.keys().filter(|k| k.starts_with(prefix)).cloned().collect();
    keys.into_iter()
        .filter_map(|key| Some((key[prefix.len()..].to_owned(), patch.remove(&key)?)))
        .map(|(field, value)| match value {
            Value::Array(items) => Ok((field, items)),
            _ => Err(invalid(format!("{prefix}{field} is no list"))),
        })
        .collect()
}

fn strings(value: &Value, what: &str) -> Result<Vec<String>, Status> {
    let list = value.as_array().map(|items| items.iter().map(|v| v.as_str().map(str::to_owned)).collect());
    list.flatten().ok_or_else(|| invalid(format!("{what} is no list of strings")))
}

/// A value that replaces another: directives and nulls inside it mean nothing and go.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(without_directives(map)),
        Value::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
        scalar => scalar,
    }
}

fn without_directives(map: Map<String, Value>) -> Map<String, Value> {
    let is_directive = |k: &str| k == PATCH || k == RETAIN_KEYS || k.starts_with(ORDER) || k.starts_with(DELETE_FROM);
    map.into_iter().filter(|(k, v)| !v.is_null() && !is_directive(k)).map(|(k, v)| (k, plain(v))).collect()
}
