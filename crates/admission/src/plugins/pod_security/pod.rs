//! A pod as the checks look at it.

use crate::paths::{list, text};
use serde_json::Value;

/// Annotations that named a container's AppArmor profile before there was a field.
pub(super) const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
/// Annotations that named seccomp profiles before there was a field.
pub(super) const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/";
pub(super) const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// A pod, or the template of one.
pub(super) struct Pod<'a> {
    object: &'a Value,
    spec: &'a Value,
}

impl<'a> Pod<'a> {
    pub(super) fn new(object: &'a Value) -> Self {
        Self { object, spec: object.get("spec").unwrap_or(&Value::Null) }
    }
    /// A value of the spec, by JSON pointer.
    pub(super) fn at(&self, pointer: &str) -> Option<&'a Value> {
        self.spec.pointer(pointer).filter(|v| !v.is_null())
    }
    pub(super) fn text(&self, pointer: &str) -> &'a str {
        text(self.spec, pointer)
    }
    pub(super) fn is(&self, pointer: &str) -> bool {
        self.at(pointer).and_then(Value::as_bool) == Some(true)
    }
    pub(super) fn list(&self, pointer: &str) -> &'a [Value] {
        list(self.spec, pointer)
    }
    /// Every container: of the start, of the run, and ephemeral ones.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'a Value> {
        ["/initContainers", "/containers", "/ephemeralContainers"].into_iter().flat_map(|key| self.list(key))
    }
    /// Annotations with this prefix: key and value.
    pub(super) fn annotations(&self, prefix: &str) -> Vec<(&'a str, &'a str)> {
        let all = self.object.pointer("/metadata/annotations").and_then(Value::as_object);
        all.into_iter()
            .flatten()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
            .collect()
    }
    pub(super) fn is_windows(&self) -> bool {
        self.text("/os/name") == "windows"
    }
    /// Names of the containers for which `test` holds.
    pub(super) fn containers_where(&self, test: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|c| test(c)).map(|c| text(c, "/name")).collect()
    }
}

/// `container "a"` or `containers "a", "b"`.
pub(super) fn named(noun: &str, names: &[&str]) -> String {
    format!("{noun}{} {}", if names.len() == 1 { "" } else { "s" }, quoted(names.iter()))
}

/// `"a", "b"`.
pub(super) fn quoted<T: std::fmt::Display>(words: impl Iterator<Item = T>) -> String {
    words.map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", ")
}

/// In order, each once.
pub(super) fn distinct<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all.dedup();
    all
}
