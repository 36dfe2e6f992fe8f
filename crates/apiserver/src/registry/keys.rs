//! Storage keys: `/registry/<group or core>/<plural>/[<namespace>/]<name>`.
//!
//! Keys are built from typed parts, each closed by `/`, so that no resource, namespace or name can be a
//! prefix of another's (`pods` and `pods2`, groups `a` and `a.b`). Parts never contain `/`: path
//! segments are checked in `request/info`, names by the name rules.

use bytes::Bytes;

/// All objects lie below this.
pub const ROOT: &[u8] = b"/registry/";

/// Where the objects of one resource lie.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: Bytes,
    namespaced: bool,
}

impl Keys {
    /// The keys of a resource; `group` is empty for core.
    pub fn new(group: &str, plural: &str, namespaced: bool) -> Self {
        let group = if group.is_empty() { "core" } else { group };
        Self { prefix: Bytes::from(format!("/registry/{group}/{plural}/")), namespaced }
    }

    /// The prefix of every object of the resource.
    pub fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    /// The key of one object.
    pub fn object(&self, namespace: &str, name: &str) -> Bytes {
        Bytes::from([&self.prefix, self.suffix(namespace, name).as_bytes()].concat())
    }

    /// The key without the resource's prefix: `namespace/name`, or `name` in cluster scope.
    pub fn suffix(&self, namespace: &str, name: &str) -> String {
        if self.namespaced { format!("{namespace}/{name}") } else { name.to_owned() }
    }

    /// The part of a key after the resource's prefix, sharing its memory.
    pub fn suffix_of(&self, key: &Bytes) -> Bytes {
        key.slice(self.prefix.len().min(key.len())..)
    }

    /// The prefix, within suffixes, of one namespace's objects; empty for all.
    pub fn namespace(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(ns) if self.namespaced && !ns.is_empty() => format!("{ns}/"),
            _ => String::new(),
        }
    }
}

/// The resource part of a key: everything up to and including the second `/` after [`ROOT`].
pub fn resource_prefix(key: &[u8]) -> Option<&[u8]> {
    let rest = key.strip_prefix(ROOT)?;
    let mut slashes = rest.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
    let end = slashes.nth(1)?;
    Some(&key[..ROOT.len() + end + 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_resource_never_prefix_another() {
        let pods = Keys::new("", "pods", true);
        assert!(!Keys::new("", "pods2", true).object("a", "b").starts_with(pods.prefix()));
        assert!(!Keys::new("a.b", "x", true).object("n", "o").starts_with(Keys::new("a", "x", true).prefix()));
        assert!(!pods.suffix("a", "b").starts_with(&pods.namespace(Some("a.b"))));
    }

    #[test]
    fn a_key_names_its_resource() {
        let k = Keys::new("apps", "deployments", true);
        let key = k.object("default", "web");
        assert_eq!(resource_prefix(&key), Some(k.prefix().as_ref()));
        assert_eq!(k.suffix_of(&key), "default/web");
        assert_eq!(resource_prefix(b"/other/x/y/z"), None);
        assert_eq!(resource_prefix(b"/registry/core"), None);
    }
}
