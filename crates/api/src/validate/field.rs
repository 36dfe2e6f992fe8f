//! The cursor all validation is written with: a value and the path that leads to it.
//!
//! Stepping costs no allocation; the path is written out when a rule is broken, not before.

use crate::error::Cause;
use crate::kind::Causes;
use crate::tree::{self, NULL};
use serde_json::Value;
use std::fmt::{self, Write as _};

/// A place in an object. What is absent is a place too, with the value null.
#[derive(Clone, Copy)]
pub struct Field<'p, 'v> {
    parent: Option<&'p Field<'p, 'v>>,
    step: Step<'p>,
    /// What is there.
    pub value: &'v Value,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

/// The text of an immutable field's refusal.
pub const IMMUTABLE: &str = "field is immutable";
/// The text for a number below zero.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// The text for a number that is not above zero.
pub const POSITIVE: &str = "must be greater than zero";

impl<'p, 'v> Field<'p, 'v> {
    /// The object itself.
    pub fn root(value: &'v Value) -> Self {
        Self { parent: None, step: Step::Root, value }
    }
    /// A field of this object.
    pub fn field<'b>(&'b self, name: &'b str) -> Field<'b, 'v> {
        Field { parent: Some(self), step: Step::Name(name), value: self.value.get(name).unwrap_or(&NULL) }
    }
    /// The same place with something else there.
    pub fn instead<'b>(&self, value: &'b Value) -> Field<'p, 'b>
    where
        'v: 'b,
    {
        Field { parent: self.parent, step: self.step, value }
    }
    /// The elements of this list.
    pub fn items<'b>(&'b self) -> impl Iterator<Item = Field<'b, 'v>> {
        let items = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().enumerate().map(move |(i, value)| Field { parent: Some(self), step: Step::Index(i), value })
    }
    /// The entries of this map, whose keys are data and not field names.
    pub fn entries<'b>(&'b self) -> impl Iterator<Item = (&'v str, Field<'b, 'v>)>
    where
        'v: 'b,
    {
        let entries = self.value.as_object().into_iter().flatten();
        entries.map(move |(key, value)| (key.as_str(), Field { parent: Some(self), step: Step::Key(key), value }))
    }
    /// An entry of this map.
    pub fn entry<'b>(&'b self, key: &'b str) -> Field<'b, 'v> {
        Field { parent: Some(self), step: Step::Key(key), value: self.value.get(key).unwrap_or(&NULL) }
    }

    /// Text; empty when absent.
    pub fn text(&self) -> &'v str {
        self.value.as_str().unwrap_or_default()
    }
    /// Integer.
    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }
    /// Boolean; false when absent.
    pub fn flag(&self) -> bool {
        self.value.as_bool().unwrap_or_default()
    }
    /// Is something there (also an empty text)?
    pub fn present(&self) -> bool {
        !self.value.is_null()
    }
    /// Is something there that is no empty text?
    pub fn set(&self) -> bool {
        !tree::unset(Some(self.value))
    }
    /// The number of elements or entries.
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(map) => map.len(),
            _ => 0,
        }
    }
    /// Is it absent, or a list or map without content?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `Required value[: text]`
    pub fn required(&self, text: &str, out: &mut Causes) {
        let message = if text.is_empty() { "Required value".to_owned() } else { format!("Required value: {text}") };
        self.report("FieldValueRequired", message, out);
    }
    /// `Invalid value: VALUE: text`, with the value that is here.
    pub fn invalid(&self, text: &str, out: &mut Causes) {
        self.invalid_value(self.value, text, out);
    }
    /// `Invalid value: VALUE: text`, with a value of the caller's choice.
    pub fn invalid_value(&self, value: &Value, text: &str, out: &mut Causes) {
        self.report("FieldValueInvalid", format!("Invalid value: {value}: {text}"), out);
    }
    /// `Invalid value: text`, where no single value is to blame.
    pub fn invalid_only(&self, text: &str, out: &mut Causes) {
        self.report("FieldValueInvalid", format!("Invalid value: {text}"), out);
    }
    /// One `Invalid value` for each problem.
    pub fn invalid_each(&self, problems: Vec<String>, out: &mut Causes) {
        problems.iter().for_each(|p| self.invalid(p, out));
    }
    /// `Unsupported value: "x": supported values: "a", "b"`
    pub fn unsupported(&self, supported: &[&str], out: &mut Causes) {
        let list: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        let value = if self.present() { self.value } else { &Value::String(String::new()) };
        let message = format!("Unsupported value: {value}: supported values: {}", list.join(", "));
        self.report("FieldValueNotSupported", message, out);
    }
    /// `Forbidden: text`
    pub fn forbidden(&self, text: &str, out: &mut Causes) {
        self.report("FieldValueForbidden", format!("Forbidden: {text}"), out);
    }
    /// `Duplicate value: VALUE`
    pub fn duplicate(&self, out: &mut Causes) {
        self.report("FieldValueDuplicate", format!("Duplicate value: {}", self.value), out);
    }
    /// `Not found: VALUE`
    pub fn not_found(&self, out: &mut Causes) {
        self.report("FieldValueNotFound", format!("Not found: {}", self.value), out);
    }
    /// `Too long: may not be more than N bytes`
    pub fn too_long(&self, max: usize, out: &mut Causes) {
        self.report("FieldValueTooLong", format!("Too long: may not be more than {max} bytes"), out);
    }
    /// `Too many: N: must have at most M items`
    pub fn too_many(&self, max: usize, out: &mut Causes) {
        self.report("FieldValueTooMany", format!("Too many: {}: must have at most {max} items", self.len()), out);
    }
    fn report(&self, reason: &str, message: String, out: &mut Causes) {
        out.push(Cause { reason: reason.to_owned(), message, field: self.to_string() });
    }

    /// Reports an absent value; says whether it is there.
    pub fn demand(&self, out: &mut Causes) -> bool {
        if !self.set() {
            self.required("", out);
        }
        self.set()
    }
    /// Demands one of the supported words (given in sorted order).
    pub fn one_of(&self, supported: &[&str], out: &mut Causes) {
        if self.demand(out) && !supported.contains(&self.text()) {
            self.unsupported(supported, out);
        }
    }
    /// One of the supported words, or nothing.
    pub fn optional_one_of(&self, supported: &[&str], out: &mut Causes) {
        if self.set() && !supported.contains(&self.text()) {
            self.unsupported(supported, out);
        }
    }
    /// A number that may be absent and may not be below zero.
    pub fn not_negative(&self, out: &mut Causes) {
        if self.int().is_some_and(|n| n < 0) {
            self.invalid(NOT_NEGATIVE, out);
        }
    }
    /// A number that may be absent and must be in a range.
    pub fn in_range(&self, range: std::ops::RangeInclusive<i64>, out: &mut Causes) {
        if self.int().is_some_and(|n| !range.contains(&n)) {
            self.invalid(&format!("must be between {} and {}, inclusive", range.start(), range.end()), out);
        }
    }
    /// A text that may be absent and must pass a check of [`crate::meta::names`].
    pub fn optional(&self, check: fn(&str) -> Vec<String>, out: &mut Causes) {
        if self.set() {
            self.invalid_each(check(self.text()), out);
        }
    }
    /// A text that must be there and pass a check of [`crate::meta::names`].
    pub fn checked(&self, check: fn(&str) -> Vec<String>, out: &mut Causes) {
        if self.demand(out) {
            self.invalid_each(check(self.text()), out);
        }
    }
    /// Refuses a change.
    pub fn immutable(&self, old: &Field<'_, '_>, out: &mut Causes) {
        if self.value != old.value {
            self.invalid(IMMUTABLE, out);
        }
    }
}

impl fmt::Display for Field<'_, '_> {
    /// The path, for example `spec.containers[0].resources.limits[cpu]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Index(i) => write!(f, "[{i}]"),
            Step::Key(key) => write!(f, "[{key}]"),
            Step::Name(name) => {
                if !matches!(self.parent.map(|p| p.step), None | Some(Step::Root)) {
                    f.write_char('.')?;
                }
                f.write_str(name)
            }
        }
    }
}

/// Remembers texts and reports those that occur twice.
#[derive(Default)]
pub struct Unique<'v> {
    seen: Vec<&'v str>,
}

impl<'v> Unique<'v> {
    /// Reports the text if it was seen before.
    pub fn check(&mut self, field: &Field<'_, 'v>, out: &mut Causes) {
        if self.seen.contains(&field.text()) {
            field.duplicate(out);
        } else if field.set() {
            self.seen.push(field.text());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_and_texts_are_those_of_kubernetes() {
        let obj = json!({"spec": {"containers": [{"name": "A", "limits": {"a.b/c": -1}}]}});
        let root = Field::root(&obj);
        let mut out = Causes::new();
        let spec = root.field("spec");
        let containers = spec.field("containers");
        for c in containers.items() {
            c.field("name").invalid("bad", &mut out);
            c.field("image").required("", &mut out);
            c.field("policy").unsupported(&["Always", "Never"], &mut out);
            for (_, limit) in c.field("limits").entries() {
                limit.not_negative(&mut out);
            }
        }
        containers.too_many(0, &mut out);
        let texts: Vec<String> = out.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        assert_eq!(
            texts,
            [
                r#"spec.containers[0].name: Invalid value: "A": bad"#,
                "spec.containers[0].image: Required value",
                r#"spec.containers[0].policy: Unsupported value: "": supported values: "Always", "Never""#,
                "spec.containers[0].limits[a.b/c]: Invalid value: -1: must be greater than or equal to 0",
                "spec.containers: Too many: 1: must have at most 0 items",
            ]
        );
    }
}
