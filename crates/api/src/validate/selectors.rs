//! Label selectors as objects.

use super::Field;
use crate::kind::Causes;
use crate::meta::{self, names, selector::Selector};
use serde_json::Value;

/// Checks a LabelSelector object.
pub fn label_selector(selector: &Field<'_, '_>, out: &mut Causes) {
    meta::labels(&selector.field("matchLabels"), out);
    for e in selector.field("matchExpressions").items() {
        expression(&e, out);
    }
}

fn expression(e: &Field<'_, '_>, out: &mut Causes) {
    e.field("key").invalid_each(names::qualified_name(e.field("key").text()), out);
    let (operator, values) = (e.field("operator"), e.field("values"));
    match operator.text() {
        "In" | "NotIn" if values.is_empty() => {
            values.required("must be specified when `operator` is 'In' or 'NotIn'", out);
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'", out);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => operator.invalid("not a valid selector operator", out),
    }
    for value in values.items() {
        value.invalid_each(names::label_value(value.text()), out);
    }
}

/// Checks the selector of a workload: there, valid, not empty, and matching its own template's labels.
pub fn workload_selector(spec: &Field<'_, '_>, kind: &str, out: &mut Causes) {
    let selector = spec.field("selector");
    if !selector.present() {
        return selector.required("", out);
    }
    label_selector(&selector, out);
    match Selector::from_object(Some(selector.value)) {
        Ok(s) if s.is_everything() => selector.invalid(&format!("empty selector is invalid for {kind}"), out),
        Ok(s) => matches_template(spec, &s, out),
        Err(_) => {}
    }
}

/// The template's labels must match, or its pods would never belong to the object.
pub fn matches_template(spec: &Field<'_, '_>, selector: &Selector, out: &mut Causes) {
    let (template, empty) = (spec.field("template"), Value::Object(serde_json::Map::new()));
    let metadata = template.field("metadata");
    let labels = metadata.field("labels");
    if !selector.matches(labels.value) {
        let shown = if labels.present() { labels.value } else { &empty };
        labels.invalid_value(shown, "`selector` does not match template `labels`", out);
    }
}
