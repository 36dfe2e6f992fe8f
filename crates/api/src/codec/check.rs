//! One pass from a parser to a tree: unknown fields are dropped and noted, types are checked, nulls
//! go, values become canonical. Works on every serde data format, and on trees.

use super::canonical;
use crate::schema::{Definition, Field, Node, Type};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::fmt;

/// What becomes of unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped with a warning.
    #[default]
    Warn,
    /// They fail the request.
    Strict,
}

/// A field that is not in the schema, or is there twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    what: &'static str,
    path: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} field \"{}\"", self.what, self.path)
    }
}

/// A value of the wrong type: it ends the pass.
#[derive(Debug, Default)]
pub(super) struct Mismatch {
    /// What is there: `string`, `number 1.5`, ...
    pub(super) found: String,
    /// What should be there, as Kubernetes names it: `int32`, `[]v1.Container`, ...
    pub(super) wanted: String,
    /// The innermost object's type, `DeploymentSpec`.
    pub(super) owner: String,
    /// Path of the field without list indexes.
    pub(super) path: String,
    /// A text that replaces the usual one (bad quantities, times, base64).
    pub(super) text: Option<String>,
}

/// What a pass found out besides the tree.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) mismatch: Option<Mismatch>,
}

/// How many problems are kept; a body with more of them is hopeless anyway.
const MAX_PROBLEMS: usize = 100;

impl Findings {
    fn note(&mut self, what: &'static str, path: &str) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { what, path: path.to_owned() });
        }
    }

    /// Paths grow from the inside out, and only where there is something to tell: the usual body pays
    /// nothing for them.
    fn prefix(&mut self, from: usize, segment: &dyn fmt::Display, is_index: bool) {
        for problem in &mut self.problems[from..] {
            let dot = if problem.path.starts_with('[') { "" } else { "." };
            problem.path = format!("{segment}{dot}{}", problem.path);
        }
        if let Some(m) = self.mismatch.as_mut().filter(|_| !is_index) {
            m.path = if m.path.is_empty() { segment.to_string() } else { format!("{segment}.{}", m.path) };
        }
    }
}

impl Findings {
    /// Tells what was found in a field (problems since `from`, and perhaps the end of the pass) where it is.
    fn located<T, E>(&mut self, from: usize, of: &Definition, field: &Field, read: Result<T, E>) -> Result<T, E> {
        if self.problems.len() > from || read.is_err() {
            if let Some(m) = self.mismatch.as_mut().filter(|m| m.owner.is_empty()) {
                of.short_name().clone_into(&mut m.owner);
            }
            self.prefix(from, &field.name, false);
        }
        read
    }
}

/// Reads a tree that came about by changes to `old`, which was read so before: what is equal is in order.
pub(super) fn read_changed(
    node: &Node,
    old: &Value,
    new: Value,
    findings: &mut Findings,
) -> Result<Value, serde_json::Error> {
    let (definition, old, mut map) = match (&node.ty, old, new) {
        (Type::Object(link), Value::Object(old), Value::Object(map)) if !link.get().open => (link.get(), old, map),
        (_, _, new) => return Seed { node, findings }.deserialize(new),
    };
    let changed: Vec<String> = map.iter().filter(|(k, v)| old.get(*k) != Some(*v)).map(|(k, _)| k.clone()).collect();
    for key in changed {
        let Some(value) = map.remove(&key) else { continue };
        let Some(field) = definition.field(&key) else {
            findings.note("unknown", &key);
            continue;
        };
        let from = findings.problems.len();
        let read = match old.get(&key) {
            Some(old) => read_changed(&field.node, old, value, findings),
            None => Seed { node: &field.node, findings }.deserialize(value),
        };
        let value = findings.located(from, definition, field, read)?;
        if definition.keeps(field, &value) {
            map.insert(key, value);
        }
    }
    Ok(Value::Object(map))
}

/// Reads the value of `node`.
pub(super) struct Seed<'a> {
    pub(super) node: &'a Node,
    pub(super) findings: &'a mut Findings,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match &self.node.ty {
            Type::Any => serde::Deserialize::deserialize(deserializer),
            Type::Object(link) if link.get().is_any_value() => serde::Deserialize::deserialize(deserializer),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl Seed<'_> {
    fn wrong<E: serde::de::Error>(self, found: impl Into<String>) -> Result<Value, E> {
        let mismatch = Mismatch { found: found.into(), wanted: go_type(self.node), ..Mismatch::default() };
        self.findings.mismatch = Some(mismatch);
        Err(E::custom("type mismatch"))
    }

    fn malformed<E: serde::de::Error>(self, text: String) -> Result<Value, E> {
        self.findings.mismatch = Some(Mismatch { text: Some(text), ..Mismatch::default() });
        Err(E::custom("malformed value"))
    }

    fn canonical<E: serde::de::Error>(self, text: Cow<'_, str>) -> Result<Value, E> {
        let (written, why) = match self.node.ty {
            Type::Quantity => (
                canonical::quantity(&text),
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            Type::Time => (canonical::seconds(&text), "time must be RFC 3339"),
            Type::MicroTime => (canonical::micros(&text), "time must be RFC 3339"),
            _ => (canonical::base64(&text), "illegal base64 data"),
        };
        match written {
            // Unchanged: the parser's own string is used.
            Some(Cow::Borrowed(_)) => Ok(Value::String(text.into_owned())),
            Some(Cow::Owned(changed)) => Ok(Value::String(changed)),
            None => self.malformed(why.to_owned()),
        }
    }

    fn text<E: serde::de::Error>(self, text: Cow<'_, str>) -> Result<Value, E> {
        match self.node.ty {
            Type::String | Type::IntOrString => Ok(Value::String(text.into_owned())),
            Type::Quantity | Type::Time | Type::MicroTime | Type::Bytes => self.canonical(text),
            _ => self.wrong("string"),
        }
    }

    fn number<E: serde::de::Error>(self, number: Number) -> Result<Value, E> {
        let integer = number.as_i64();
        let fits = match self.node.ty {
            Type::Int32 | Type::IntOrString => integer.is_some_and(|i| i32::try_from(i).is_ok()),
            Type::Int64 => integer.is_some(),
            Type::Number => true,
            Type::Quantity => return self.canonical(Cow::Owned(number.to_string())),
            _ => return self.wrong("number"),
        };
        if fits { Ok(Value::Number(number)) } else { self.wrong(format!("number {number}")) }
    }

    /// An object with named fields.
    fn object<'de, A: MapAccess<'de>>(self, definition: &Definition, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let mut seen = Seen::default();
        while let Some(key) = access.next_key_seed(FieldSeed(definition))? {
            let (index, field) = match key {
                Key::Known(index) => (index, &definition.fields[index]),
                Key::Unknown(name) if definition.open => {
                    let value: Value = access.next_value()?;
                    map.insert(name, value);
                    continue;
                }
                Key::Unknown(name) => {
                    self.findings.note("unknown", &name);
                    access.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let from = self.findings.problems.len();
            let read = access.next_value_seed(Seed { node: &field.node, findings: self.findings });
            let value = self.findings.located(from, definition, field, read)?;
            if seen.again(index) {
                self.findings.note("duplicate", &field.name);
            }
            if definition.keeps(field, &value) {
                map.insert(field.name.to_string(), value);
            } else {
                map.remove(field.name.as_str());
            }
        }
        Ok(Value::Object(map))
    }

    /// An object with free keys.
    fn free_map<'de, A: MapAccess<'de>>(self, node: &Node, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let from = self.findings.problems.len();
            let read = access.next_value_seed(Seed { node, findings: self.findings });
            if self.findings.problems.len() > from || read.is_err() {
                self.findings.prefix(from, &key, false);
            }
            let value = read?;
            let value = if value.is_null() { zero(node) } else { value };
            match map.entry(key) {
                serde_json::map::Entry::Vacant(slot) => {
                    slot.insert(value);
                }
                serde_json::map::Entry::Occupied(mut slot) => {
                    self.findings.note("duplicate", slot.key());
                    slot.insert(value);
                }
            }
        }
        Ok(Value::Object(map))
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that fits the schema")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        match self.node.ty {
            Type::Boolean => Ok(Value::Bool(value)),
            _ => self.wrong("bool"),
        }
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.number(value.into())
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.number(value.into())
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        match Number::from_f64(value) {
            Some(number) => self.number(number),
            None => self.wrong(format!("number {value}")),
        }
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.text(Cow::Borrowed(value))
    }
    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.text(Cow::Owned(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let Type::List(item) = &self.node.ty else {
            return self.wrong("array");
        };
        let mut items = Vec::new();
        loop {
            let from = self.findings.problems.len();
            let read = access.next_element_seed(Seed { node: item, findings: self.findings });
            if self.findings.problems.len() > from || read.is_err() {
                self.findings.prefix(from, &format_args!("[{}]", items.len()), true);
            }
            match read? {
                Some(Value::Null) => items.push(zero(item)),
                Some(value) => items.push(value),
                None => return Ok(Value::Array(items)),
            }
        }
    }
    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let node = self.node;
        match &node.ty {
            Type::Object(link) => self.object(link.get(), access),
            Type::Map(value) => self.free_map(value, access),
            _ => self.wrong("object"),
        }
    }
}

/// Which fields of an object were there already. Kubernetes' largest object has fewer than 64 fields;
/// beyond (in a custom resource) duplicates go unnoticed and the last one counts.
#[derive(Default)]
struct Seen(u64);

impl Seen {
    fn again(&mut self, index: usize) -> bool {
        let bit = u32::try_from(index).ok().and_then(|i| 1u64.checked_shl(i)).unwrap_or(0);
        let again = self.0 & bit != 0;
        self.0 |= bit;
        again
    }
}

enum Key {
    Known(usize),
    Unknown(String),
}

/// Finds a field without copying its name.
struct FieldSeed<'a>(&'a Definition);

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = Key;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldSeed<'_> {
    type Value = Key;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }
    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Key, E> {
        Ok(match self.0.fields.binary_search_by(|f| f.name.as_str().cmp(name)) {
            Ok(index) => Key::Known(index),
            Err(_) => Key::Unknown(name.to_owned()),
        })
    }
}

impl Definition {
    /// Is a field's value kept? A null says that it is not there.
    fn keeps(&self, field: &Field, value: &Value) -> bool {
        let left_out = self.omit_empty && !field.required && is_empty_collection(&field.node, value);
        !value.is_null() && !left_out
    }
}

fn is_empty_collection(node: &Node, value: &Value) -> bool {
    match (&node.ty, value) {
        (Type::List(_), Value::Array(items)) => items.is_empty(),
        (Type::Map(_), Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}

/// What a null item of a list or map means.
fn zero(node: &Node) -> Value {
    match &node.ty {
        Type::String | Type::Bytes => Value::String(String::new()),
        Type::Quantity => Value::String("0".to_owned()),
        Type::Int32 | Type::Int64 | Type::Number | Type::IntOrString => Value::from(0),
        Type::Boolean => Value::Bool(false),
        Type::Object(_) | Type::Map(_) => Value::Object(Map::new()),
        Type::List(_) => Value::Array(Vec::new()),
        Type::Any | Type::Time | Type::MicroTime => Value::Null,
    }
}

/// The type as error texts of Kubernetes name it.
fn go_type(node: &Node) -> String {
    match &node.ty {
        Type::String | Type::Quantity | Type::Time | Type::MicroTime => "string".into(),
        Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Number => "float64".into(),
        Type::Boolean => "bool".into(),
        Type::Bytes => "[]uint8".into(),
        Type::IntOrString => "intstr.IntOrString".into(),
        Type::Any => "interface {}".into(),
        Type::Map(value) => format!("map[string]{}", go_type(value)),
        Type::List(item) => format!("[]{}", go_type(item)),
        Type::Object(link) => {
            let name = &link.get().name;
            let tail = name.rmatch_indices('.').nth(1).map_or(0, |(i, _)| i + 1);
            name[tail..].to_owned()
        }
    }
}
