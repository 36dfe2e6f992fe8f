//! What differs between two trees, as field sets, by schema.

use super::{FieldSet, Scope};
use kybern_api::schema::{ANY, ListKind, Node, Type};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Members of metadata that nobody owns.
const UNTRACKED_METADATA: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
];

/// The difference between two trees.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Added or modified.
    pub touched: FieldSet,
    /// No longer there.
    pub removed: FieldSet,
}

impl Changes {
    /// Are the trees equal (in what is tracked)?
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.removed.is_empty()
    }
}

/// Compares two objects; `old` is None for a create.
pub fn changes(node: &Node, old: Option<&Value>, new: &Value, scope: Scope) -> Changes {
    let mut walk = Walk::default();
    let none = Map::new();
    let (old, new) = (members(old).unwrap_or(&none), members(Some(new)).unwrap_or(&none));
    for key in keys(old, new).filter(|key| scope.covers(key)) {
        let node = node.member(key).unwrap_or(&ANY);
        let (a, b) = (old.get(key), new.get(key));
        if key == "metadata" {
            let mut inner = Walk::default();
            let (a, b) = (members(a).unwrap_or(&none), members(b).unwrap_or(&none));
            for key in keys(a, b).filter(|k| !UNTRACKED_METADATA.contains(k)) {
                inner.child(field(key), node.member(key).unwrap_or(&ANY), a.get(key), b.get(key), Dots::Optional);
            }
            walk.nest(field(key), inner);
        } else {
            // Spec and status are always there in Kubernetes' types, so nobody owns them as such.
            walk.child(field(key), node, a, b, Dots::Below);
        }
    }
    Changes { touched: FieldSet::from_map(walk.touched), removed: FieldSet::from_map(walk.removed) }
}

/// The fields that an applied configuration claims.
pub fn owned(node: &Node, config: &Value, scope: Scope) -> FieldSet {
    let mut set = Map::new();
    for (key, value) in config.as_object().into_iter().flatten().filter(|(key, _)| scope.covers(key)) {
        let node = node.member(key).unwrap_or(&ANY);
        let mut below = whole(node, value, Dots::Applied);
        if key == "metadata" {
            below.retain(|k, _| !UNTRACKED_METADATA.iter().any(|u| k.strip_prefix("f:") == Some(*u)));
            if below.is_empty() {
                continue;
            }
        }
        set.insert(field(key), Value::Object(below));
    }
    FieldSet::from_map(set)
}

fn members(tree: Option<&Value>) -> Option<&Map<String, Value>> {
    tree.and_then(Value::as_object)
}

/// All keys of both maps, each once.
fn keys<'a>(a: &'a Map<String, Value>, b: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> {
    let only_a = a.keys().filter(|k| !b.contains_key(*k));
    b.keys().chain(only_a).map(String::as_str)
}

fn field(name: &str) -> String {
    ["f:", name].concat()
}

/// Which values own themselves (`.`) besides what they hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dots {
    /// Everything: removed values.
    All,
    /// Everything that need not be there: added values.
    Optional,
    /// As [`Self::Optional`], but not the value itself.
    Below,
    /// List items and map entries alone: applied values.
    Applied,
}

impl Dots {
    fn inside(self) -> Self {
        if self == Self::Below { Self::Optional } else { self }
    }
}

#[derive(Default)]
struct Walk {
    touched: Map<String, Value>,
    removed: Map<String, Value>,
}

impl Walk {
    fn child(&mut self, element: String, node: &Node, old: Option<&Value>, new: Option<&Value>, dots: Dots) {
        match (old, new) {
            (None, Some(new)) => {
                self.touched.insert(element, added(node, new, dots));
            }
            (Some(old), None) => {
                self.removed.insert(element, added(node, old, Dots::All));
            }
            (Some(old), Some(new)) if old != new => {
                let mut inner = Self::default();
                if inner.descend(node, old, new) {
                    self.nest(element, inner);
                } else {
                    self.touched.insert(element, Value::Object(Map::new()));
                }
            }
            _ => {}
        }
    }

    fn nest(&mut self, element: String, inner: Self) {
        if !inner.touched.is_empty() {
            self.touched.insert(element.clone(), Value::Object(inner.touched));
        }
        if !inner.removed.is_empty() {
            self.removed.insert(element, Value::Object(inner.removed));
        }
    }

    /// Compares the insides; false when the value counts as a whole.
    fn descend(&mut self, node: &Node, old: &Value, new: &Value) -> bool {
        if node.is_atomic() {
            return false;
        }
        match (old, new) {
            (Value::Object(old), Value::Object(new)) => {
                for key in keys(old, new) {
                    let (inner, dots) = member(node, key);
                    self.child(field(key), inner, old.get(key), new.get(key), dots);
                }
                true
            }
            (Value::Array(old), Value::Array(new)) => {
                let item = node.element().unwrap_or(&ANY);
                let (old, new) = (by_element(node, old), by_element(node, new));
                let gone = old.keys().filter(|k| !new.contains_key(*k));
                for element in new.keys().chain(gone) {
                    let (a, b) = (old.get(element).copied(), new.get(element).copied());
                    self.child(element.clone(), item, a, b, Dots::Optional);
                }
                true
            }
            _ => false,
        }
    }
}

/// The node of a member, and whether it owns itself when added: fields that must be there do not.
fn member<'a>(node: &'a Node, key: &str) -> (&'a Node, Dots) {
    match node.definition().and_then(|d| d.field(key)) {
        Some(field) if field.required => (&field.node, Dots::Below),
        Some(field) => (&field.node, Dots::Optional),
        None => (node.element().unwrap_or(&ANY), Dots::Optional),
    }
}

fn by_element<'a>(node: &Node, items: &'a [Value]) -> BTreeMap<String, &'a Value> {
    items.iter().map(|item| (item_key(node, item), item)).collect()
}

/// The path element of an item of a set or keyed list.
pub fn item_key(list: &Node, item: &Value) -> String {
    match &list.rules().list {
        ListKind::Map(keys) => {
            let node = list.element().unwrap_or(&ANY);
            let value = |key: &str| {
                let default = || node.member(key)?.rules().default.as_deref().map(|d| Cow::Owned(d.into()));
                item.get(key).map(Cow::Borrowed).or_else(default)
            };
            let mut parts: Vec<(&str, Cow<'_, Value>)> = keys.iter().filter_map(|k| Some((&**k, value(k)?))).collect();
            parts.sort_unstable_by_key(|(name, _)| *name);
            let mut key = String::from("k:{");
            for (i, (name, value)) in parts.into_iter().enumerate() {
                key.push_str(if i > 0 { ",\"" } else { "\"" });
                key.push_str(name);
                key.push_str("\":");
                push_json(&mut key, &value);
            }
            key.push('}');
            key
        }
        _ => {
            let mut key = String::from("v:");
            push_json(&mut key, item);
            key
        }
    }
}

/// Most keys are names, which need no escapes.
fn push_json(out: &mut String, value: &Value) {
    match value {
        Value::String(text) if !text.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\') => {
            out.push('"');
            out.push_str(text);
            out.push('"');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn added(node: &Node, value: &Value, dots: Dots) -> Value {
    let below = whole(node, value, dots.inside());
    if matches!(dots, Dots::Below | Dots::Applied) { Value::Object(below) } else { itself(below) }
}

/// Makes an element a member beside what is below it; an element with nothing below is one anyway.
fn itself(mut below: Map<String, Value>) -> Value {
    if !below.is_empty() {
        below.insert(".".to_owned(), Value::Object(Map::new()));
    }
    Value::Object(below)
}

/// Every path below a value; empty for values that count as a whole.
fn whole(node: &Node, value: &Value, dots: Dots) -> Map<String, Value> {
    if node.is_atomic() {
        return Map::new();
    }
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| {
                let (inner, member_dots) = member(node, key);
                // What is applied owns map entries as such, and of named fields only what is in them.
                let entry = dots == Dots::Applied && matches!(node.ty, Type::Map(_));
                let below = match (dots, entry) {
                    (_, true) => itself(whole(inner, value, dots)),
                    (Dots::Optional | Dots::Below, _) => added(inner, value, member_dots),
                    _ => added(inner, value, dots),
                };
                (field(key), below)
            })
            .collect(),
        Value::Array(items) => {
            let item = node.element().unwrap_or(&ANY);
            items.iter().map(|value| (item_key(node, value), itself(whole(item, value, dots)))).collect()
        }
        _ => Map::new(),
    }
}
