//! Ingress: HTTP routes from outside to services.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text_or};
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("networking.k8s.io", "v1", "Ingress", "ingresses")
        .short(&["ing"])
        .status()
        .columns([
            name(),
            text_or("Class", "spec.ingressClassName", cells::NONE),
            computed("Hosts", "Hosts of the rules.", |v| hosts(v.obj)),
            computed("Address", "Where the load balancer listens.", |v| {
                cells::joined(cells::ingress_addresses(v.obj), ",", "")
            }),
            computed("Ports", "Ports of the load balancer.", |v| match tree::list(v.obj, "spec.tls") {
                [] => "80".into(),
                _ => "80, 443".into(),
            }),
            age(),
        ])
        .inert()
        .build()
}

fn hosts(obj: &Value) -> Value {
    let rules = tree::list(obj, "spec.rules");
    let named = rules.iter().map(|r| tree::text(r, "host")).filter(|h| !h.is_empty()).take(3);
    match (rules.len(), cells::joined(named, ",", "*")) {
        (4.., Value::String(text)) => format!("{text} + {} more...", rules.len() - 3).into(),
        (_, shown) => shown,
    }
}
