//! What both bindings share.

use crate::kind::{Column, View};
use crate::kinds::cells;
use crate::kinds::row::{age, computed, name};
use crate::tree;
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
