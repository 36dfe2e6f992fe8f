//! Cell values that several kinds compute alike.

use crate::kind::View;
use crate::meta::selector::Selector;
use crate::meta::time;
use crate::tree;
use serde_json::Value;

/// What stands for nothing in most columns.
pub(crate) const NONE: &str = "<none>";
/// What stands for an unset field.
pub(crate) const UNSET: &str = "<unset>";
/// What stands for something that cannot be known.
pub(crate) const UNKNOWN: &str = "<unknown>";

/// The texts joined, or `none` when there are none.
pub(crate) fn joined<'a>(parts: impl IntoIterator<Item = &'a str>, separator: &str, none: &str) -> Value {
    let mut out = String::new();
    for (i, part) in parts.into_iter().enumerate() {
        if i > 0 {
            out.push_str(separator);
        }
        out.push_str(part);
    }
    if out.is_empty() { none.into() } else { out.into() }
}

/// The first three texts, then how many more there are.
pub(crate) fn first_three(parts: &[String], none: &str) -> Value {
    let shown = joined(parts.iter().take(3).map(String::as_str), ",", none);
    match (parts.len(), &shown) {
        (4.., Value::String(text)) => format!("{text} + {} more...", parts.len() - 3).into(),
        _ => shown,
    }
}

/// One field of every element of a list, joined with commas.
pub(crate) fn column_of(list: &[Value], key: &str, none: &str) -> Value {
    joined(list.iter().map(|v| tree::text(v, key)), ",", none)
}

/// A list of texts, joined with commas.
pub(crate) fn texts(list: &[Value], none: &str) -> Value {
    joined(list.iter().filter_map(Value::as_str), ",", none)
}

/// A map of texts as `k=v,...`.
pub(crate) fn pairs(map: Option<&Value>) -> Value {
    let all: Vec<String> = map
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    joined(all.iter().map(String::as_str), ",", NONE)
}

/// A LabelSelector object in its text form.
pub(crate) fn selector(object: Option<&Value>) -> Value {
    match Selector::from_object(object) {
        Err(_) => "<error>".into(),
        Ok(s) => {
            let text = s.to_string();
            if text.is_empty() { NONE.into() } else { text.into() }
        }
    }
}

/// The elements of a list of the object, counted.
pub(crate) fn length(view: &View<'_>, path: &str) -> Value {
    tree::list(view.obj, path).len().into()
}

/// The entries of a map of the object, counted.
pub(crate) fn size(view: &View<'_>, path: &str) -> usize {
    tree::entries(view.obj, path).count()
}

/// The age of a time in the object.
pub(crate) fn age_at(view: &View<'_>, path: &str, missing: &str) -> Value {
    time::age_of(view.now, tree::at(view.obj, path), missing).into()
}

/// The condition of this type in `status.conditions`.
pub(crate) fn condition<'a>(obj: &'a Value, kind: &str) -> Option<&'a Value> {
    tree::list(obj, "status.conditions").iter().find(|c| tree::text(c, "type") == kind)
}

/// Is the condition of this type True?
pub(crate) fn condition_is_true(obj: &Value, kind: &str) -> bool {
    condition(obj, kind).is_some_and(|c| tree::text(c, "status") == "True")
}

/// Distinct access modes, abbreviated.
pub(crate) fn access_modes(modes: &[Value]) -> Value {
    const SHORT: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| modes.iter().any(|m| m == mode);
    joined(SHORT.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short), ",", "")
}

/// Sorted distinct addresses or names of `status.loadBalancer.ingress`.
pub(crate) fn ingress_addresses(obj: &Value) -> std::collections::BTreeSet<&str> {
    let ingress = tree::list(obj, "status.loadBalancer.ingress").iter();
    ingress
        .map(|i| if tree::text(i, "ip").is_empty() { tree::text(i, "hostname") } else { tree::text(i, "ip") })
        .collect()
}
