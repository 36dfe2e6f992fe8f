//! IngressClass: which controller serves an Ingress.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text};
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("networking.k8s.io", "v1", "IngressClass", "ingressclasses")
        .cluster()
        .columns([
            name(),
            text("Controller", "spec.controller"),
            computed("Parameters", "Parameters of the controller.", |v| parameters(v.obj)),
            age(),
        ])
        .inert()
        .build()
}

fn parameters(obj: &Value) -> Value {
    let Some(p) = tree::at(obj, "spec.parameters") else { return cells::NONE.into() };
    let (kind, name) = (tree::text(p, "kind"), tree::text(p, "name"));
    match tree::text(p, "apiGroup") {
        "" => format!("{kind}/{name}").into(),
        group => format!("{kind}.{group}/{name}").into(),
    }
}
