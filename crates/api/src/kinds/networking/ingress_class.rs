//! IngressClass: which controller serves an Ingress.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text};
use crate::tree;
use crate::validate::Field;
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
        .strategy(&IngressClass)
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

struct IngressClass;

impl Strategy for IngressClass {
    fn counts_generation(&self, _def: &KindDef) -> bool {
        true
    }
    fn default(&self, obj: &mut Value) {
        if let Some(parameters) = tree::at_mut(obj, "spec.parameters") {
            tree::set_default(parameters, "scope", "Cluster");
        }
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let Some(old) = old else { return };
        let (root, old) = (Field::root(obj), Field::root(old));
        root.field("spec").field("controller").immutable(&old.field("spec").field("controller"), out);
    }
}
