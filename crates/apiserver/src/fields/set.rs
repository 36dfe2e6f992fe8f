//! A set of field paths, kept in the form it has in JSON (FieldsV1), so that reading and writing
//! managed fields costs nothing.
//!
//! A path element is a key: `f:NAME` a field, `k:{..}` a list item by its keys, `v:VALUE` a set item.
//! An element without children is a member of the set; one with children is a member when it has `.`.

use serde_json::{Map, Value};

const SELF: &str = ".";

/// A set of field paths.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldSet(Map<String, Value>);

impl FieldSet {
    /// Reads FieldsV1; None when it is none.
    pub fn read(value: Value) -> Option<Self> {
        match value {
            Value::Object(map) if is_well_formed(&map) => Some(Self(map)),
            _ => None,
        }
    }
    /// Writes FieldsV1.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }
    /// Has it no member?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Adds the elements of one level; empty children make the element a member.
    pub(super) fn from_map(map: Map<String, Value>) -> Self {
        Self(map)
    }
    /// The elements and their subtrees.
    pub fn elements(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().filter(|(k, _)| *k != SELF).map(|(k, v)| (k.as_str(), v))
    }
    /// Adds all members of `other`.
    pub fn unite(&mut self, other: Self) {
        unite(&mut self.0, other.0);
    }
    /// Removes all members of `other`.
    pub fn subtract(&mut self, other: &Self) {
        subtract(&mut self.0, &other.0);
    }
    /// Paths (`.spec.replicas`, `.spec.containers[name="a"].image`) of the members of both.
    pub fn common_paths(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        common(&self.0, &other.0, "", &mut found);
        found
    }
    /// The subtree below an element of a subtree; None where it has none.
    pub fn below<'a>(subtree: &'a Value, element: &str) -> Option<&'a Value> {
        subtree.as_object().and_then(|m| m.get(element))
    }
    /// The set as a subtree.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
    /// Is the element itself, whose subtree this is, a member?
    pub fn is_member(subtree: &Value) -> bool {
        subtree.as_object().is_some_and(owns_itself)
    }
}

fn is_well_formed(map: &Map<String, Value>) -> bool {
    map.iter().all(|(key, value)| {
        let known = key == SELF || ["f:", "k:", "v:", "i:"].iter().any(|p| key.starts_with(p));
        known && value.as_object().is_some_and(is_well_formed)
    })
}

fn owns_itself(map: &Map<String, Value>) -> bool {
    map.is_empty() || map.contains_key(SELF)
}

fn own_itself(map: &mut Map<String, Value>) {
    map.insert(SELF.to_owned(), Value::Object(Map::new()));
}

fn unite(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (key, theirs) in from {
        match into.get_mut(&key).and_then(Value::as_object_mut) {
            None => {
                into.insert(key, theirs);
            }
            Some(ours) => {
                let Value::Object(theirs) = theirs else { continue };
                let member = owns_itself(ours) || owns_itself(&theirs);
                unite(ours, theirs);
                if member && !ours.is_empty() {
                    own_itself(ours);
                }
            }
        }
    }
}

fn subtract(from: &mut Map<String, Value>, what: &Map<String, Value>) {
    for (key, theirs) in what {
        let (Some(ours), Some(theirs)) = (from.get_mut(key).and_then(Value::as_object_mut), theirs.as_object()) else {
            continue;
        };
        if key == SELF {
            continue;
        }
        let member = owns_itself(ours) && !owns_itself(theirs);
        let had_children = !ours.is_empty();
        ours.remove(SELF);
        subtract(ours, theirs);
        match (ours.is_empty(), member) {
            (true, false) => {
                from.remove(key);
            }
            (false, true) if had_children => own_itself(ours),
            _ => {}
        }
    }
}

fn common(a: &Map<String, Value>, b: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    for (key, ours) in a.iter().filter(|(k, _)| *k != SELF) {
        let (Some(ours), Some(theirs)) = (ours.as_object(), b.get(key).and_then(Value::as_object)) else { continue };
        let path = format!("{path}{}", readable(key));
        if owns_itself(ours) && owns_itself(theirs) {
            found.push(path.clone());
        }
        common(ours, theirs, &path, found);
    }
}

/// A path element as error texts show it.
fn readable(element: &str) -> String {
    match element.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("v:", value)) => format!("[={value}]"),
        Some(("k:", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let pairs: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("[{}]", pairs.join(","))
        }
        Some((_, index)) => format!("[{index}]"),
        None => element.to_owned(),
    }
}
