//! A world of objects to authorise in.

use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::object::{Head, Object};
use kybern_api::seam::Lister;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub const RBAC: &str = "rbac.authorization.k8s.io";

thread_local! {
    /// Lists answered on this thread: shows when an index was rebuilt.
    pub static LISTS: Cell<usize> = const { Cell::new(0) };
}

type Key = (String, String, String, String);

/// Objects by group, resource, namespace and name.
#[derive(Default)]
pub struct World {
    objects: Mutex<BTreeMap<Key, Object>>,
    changed: Mutex<BTreeMap<(String, String), u64>>,
    revision: AtomicU64,
}

impl World {
    /// Creates or replaces an object.
    pub fn put(&self, group: &str, resource: &str, namespace: &str, name: &str, body: Value) {
        let revision = self.next(group, resource);
        let uid = body.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().into();
        let labels = body.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
        let labels = labels.map(|(k, v)| (k.into(), v.as_str().unwrap_or_default().into())).collect();
        let head = Head { name: name.into(), namespace: namespace.into(), uid, labels, ..Head::default() };
        let object = Object { head: Arc::new(head), revision, bytes: body.to_string().into() };
        self.objects.lock().expect("lock").insert(key(group, resource, namespace, name), object);
    }
    /// Creates or replaces an object of the RBAC group, which names itself.
    pub fn apply(&self, object: &Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let plural = format!("{}s", text("/kind").to_lowercase());
        self.put(RBAC, &plural, text("/metadata/namespace"), text("/metadata/name"), object.clone());
    }
    /// Removes an object.
    pub fn remove(&self, group: &str, resource: &str, namespace: &str, name: &str) {
        self.next(group, resource);
        self.objects.lock().expect("lock").remove(&key(group, resource, namespace, name));
    }
    fn next(&self, group: &str, resource: &str) -> u64 {
        let revision = self.revision.fetch_add(1, Ordering::SeqCst) + 1;
        self.changed.lock().expect("lock").insert((group.into(), resource.into()), revision);
        revision
    }
}

fn key(group: &str, resource: &str, namespace: &str, name: &str) -> Key {
    (group.into(), resource.into(), namespace.into(), name.into())
}

impl Lister for World {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Object> {
        self.objects.lock().expect("lock").get(&key(group, resource, namespace, name)).cloned()
    }
    fn list(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Object> {
        LISTS.set(LISTS.get() + 1);
        let objects = self.objects.lock().expect("lock");
        let wanted = |k: &Key| k.0 == group && k.1 == resource && namespace.is_none_or(|n| n == k.2);
        objects.iter().filter(|(k, _)| wanted(k)).map(|(_, o)| o.clone()).collect()
    }
    fn changed_at(&self, group: &str, resource: &str) -> u64 {
        self.changed.lock().expect("lock").get(&(group.into(), resource.into())).copied().unwrap_or(0)
    }
}

/// `jane` or `jane,group1,group2`.
pub fn user(text: &str) -> UserInfo {
    let mut words = text.split(',');
    UserInfo {
        name: words.next().unwrap_or_default().into(),
        groups: words.map(str::to_owned).collect(),
        ..UserInfo::default()
    }
}

/// `VERB NAMESPACE GROUP RESOURCE[/SUB] [NAME] [?FIELD-SELECTOR]` with `-` for nothing, or `VERB /PATH`.
pub fn ask(who: &UserInfo, text: &str) -> Attributes {
    let words: Vec<&str> = text.split_whitespace().collect();
    let word = |i: usize| words.get(i).filter(|w| **w != "-").map_or(String::new(), |w| (*w).to_owned());
    if words[1].starts_with('/') {
        return Attributes { user: who.clone(), verb: word(0), path: word(1), ..Attributes::default() };
    }
    let what = word(3);
    let (resource, subresource) = what.split_once('/').unwrap_or((&what, ""));
    let selector = words.iter().find_map(|w| w.strip_prefix('?')).unwrap_or_default();
    Attributes {
        user: who.clone(),
        verb: word(0),
        namespace: word(1),
        group: word(2),
        version: "v1".into(),
        resource: resource.into(),
        subresource: subresource.into(),
        name: if word(4).starts_with('?') { String::new() } else { word(4) },
        field_selector: selector.into(),
        ..Attributes::default()
    }
}

/// A ClusterRole (or, with a namespace, a Role) with one rule: `VERBS|GROUPS|RESOURCES`.
pub fn role(namespace: &str, name: &str, rule: &str) -> Value {
    let parts: Vec<Vec<String>> = rule
        .split('|')
        .map(|p| p.split(' ').map(|w| if w == "core" { String::new() } else { w.to_owned() }).collect())
        .collect();
    json!({
        "kind": if namespace.is_empty() { "ClusterRole" } else { "Role" },
        "metadata": { "name": name, "namespace": namespace },
        "rules": [{ "verbs": parts[0], "apiGroups": parts[1], "resources": parts[2] }],
    })
}

/// A binding of `KIND/ROLE` to a subject: `User:x`, `Group:x` or `ServiceAccount:ns:x`.
pub fn binding(namespace: &str, name: &str, role: &str, subject: &str) -> Value {
    let (kind, role) = role.split_once('/').expect("KIND/NAME");
    let words: Vec<&str> = subject.splitn(2, ':').collect();
    let subject = match words[0] {
        "ServiceAccount" => {
            let (ns, name) = words[1].split_once(':').expect("ns:name");
            json!({ "kind": "ServiceAccount", "namespace": ns, "name": name })
        }
        kind => json!({ "kind": kind, "name": words[1], "apiGroup": RBAC }),
    };
    json!({
        "kind": if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" },
        "metadata": { "name": name, "namespace": namespace },
        "roleRef": { "apiGroup": RBAC, "kind": kind, "name": role },
        "subjects": [subject],
    })
}
