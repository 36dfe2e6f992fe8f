//! What both bindings share.

use crate::kind::{Causes, Column, View};
use crate::kinds::cells;
use crate::kinds::row::{age, computed, name};
use crate::meta::names;
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

/// The columns of both bindings.
pub(super) fn columns() -> [Column; 6] {
    [
        name(),
        computed("Role", "The role that is granted.", |v| {
            format!("{}/{}", tree::text(v.obj, "roleRef.kind"), tree::text(v.obj, "roleRef.name")).into()
        }),
        age(),
        computed("Users", "Users who get it.", |v| of(v, "User")).wide(),
        computed("Groups", "Groups that get it.", |v| of(v, "Group")).wide(),
        computed("ServiceAccounts", "Service accounts that get it.", |v| of(v, "ServiceAccount")).wide(),
    ]
}

fn of(view: &View<'_>, kind: &str) -> Value {
    let name = |s: &Value| match tree::text(s, "namespace") {
        "" => tree::text(s, "name").to_owned(),
        namespace => format!("{namespace}/{}", tree::text(s, "name")),
    };
    let subjects = tree::list(view.obj, "subjects").iter().filter(|s| tree::text(s, "kind") == kind);
    let all: Vec<String> = subjects.map(name).collect();
    cells::joined(all.iter().map(String::as_str), ", ", "")
}

/// The group of roles, users and groups.
const GROUP: &str = "rbac.authorization.k8s.io";

/// Defaults of both bindings.
pub(super) fn default(obj: &mut Value) {
    if let Some(role) = obj.get_mut("roleRef") {
        tree::set_default(role, "apiGroup", GROUP);
    }
    tree::each(obj, "subjects", |subject| {
        if matches!(tree::text(subject, "kind"), "User" | "Group") {
            tree::set_default(subject, "apiGroup", GROUP);
        }
    });
}

/// Checks a binding; only one in a namespace may name a role of that namespace.
pub(super) fn validate(binding: &Field<'_, '_>, old: Option<&Value>, namespaced: bool, out: &mut Causes) {
    let role = binding.field("roleRef");
    if role.field("apiGroup").text() != GROUP {
        role.field("apiGroup").unsupported(&[GROUP], out);
    }
    let kinds: &[&str] = if namespaced { &["ClusterRole", "Role"] } else { &["ClusterRole"] };
    if !kinds.contains(&role.field("kind").text()) {
        role.field("kind").unsupported(kinds, out);
    }
    role.field("name").checked(names::path_segment, out);
    if old.is_some_and(|old| old.get("roleRef") != Some(role.value)) {
        role.invalid("cannot change roleRef", out);
    }
    for subject in binding.field("subjects").items() {
        check_subject(&subject, out);
    }
}

fn check_subject(subject: &Field<'_, '_>, out: &mut Causes) {
    let (kind, name, group) = (subject.field("kind"), subject.field("name"), subject.field("apiGroup"));
    if !name.set() {
        name.required("", out);
    }
    match kind.text() {
        "ServiceAccount" => {
            name.optional(names::subdomain, out);
            if group.set() {
                group.unsupported(&[""], out);
            }
            subject.field("namespace").demand(out);
        }
        "User" | "Group" if group.text() == GROUP => {}
        "User" | "Group" => group.unsupported(&[GROUP], out),
        _ => kind.unsupported(&["Group", "ServiceAccount", "User"], out),
    }
}
