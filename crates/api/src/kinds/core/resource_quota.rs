//! ResourceQuota: limits on what a namespace may use.

use super::resource_quota_rules as rules;
use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::pod_defaults::round;
use crate::kinds::row::{Row, age, computed, name};
use crate::quota::Quota;
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "ResourceQuota", "resourcequotas")
        .short(&["quota"])
        .status()
        .columns([
            name(),
            computed("Request", "Used and hard bounds of requests and counts.", |v| usage(v.obj, false)),
            computed("Limit", "Used and hard bounds of limits.", |v| usage(v.obj, true)),
            age(),
        ])
        .strategy(&ResourceQuota)
        .build()
}

/// `name: used/hard` of every bound, either the limits or the rest.
fn usage(obj: &Value, limits: bool) -> Value {
    let used = tree::at(obj, "status.used");
    let all: Vec<String> = tree::entries(obj, "status.hard")
        .filter(|(name, _)| name.starts_with("limits.") == limits)
        .map(|(name, hard)| {
            let used = used.and_then(|u| u.get(name)).and_then(Value::as_str).unwrap_or("0");
            format!("{name}: {used}/{}", hard.as_str().unwrap_or("0"))
        })
        .collect();
    cells::joined(all.iter().map(String::as_str), ", ", "")
}

struct ResourceQuota;

impl Strategy for ResourceQuota {
    fn counts_generation(&self, _def: &KindDef) -> bool {
        false
    }
    fn default(&self, obj: &mut Value) {
        for path in ["spec.hard", "status.hard", "status.used"] {
            if let Some(list) = tree::at_mut(obj, path) {
                round(list);
            }
        }
    }
    fn validate(&self, ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        if ctx.subresource == "status" {
            let status = root.field("status");
            rules::amounts(&status.field("hard"), out);
            rules::amounts(&status.field("used"), out);
            return;
        }
        let spec = root.field("spec");
        rules::amounts(&spec.field("hard"), out);
        rules::scopes(&spec, out);
        let scopes = spec.field("scopes");
        if old.is_some_and(|old| rules::sorted(tree::at(old, "spec.scopes")) != rules::sorted(Some(scopes.value))) {
            scopes.invalid(crate::validate::field::IMMUTABLE, out);
        }
    }
    fn quota(&self, obj: &Value) -> Option<Quota> {
        Some(Quota::of(obj))
    }
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}
