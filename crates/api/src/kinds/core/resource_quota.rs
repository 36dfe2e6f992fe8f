//! ResourceQuota: limits on what a namespace may use.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};
use crate::tree;
use crate::validate;
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
        .inert()
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
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let spec = root.field("spec");
        for (_, hard) in spec.field("hard").entries() {
            validate::quantities::not_negative(&hard, out);
        }
    }
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}
