//! IngressClass: which controller serves an Ingress.

use super::ingress::typed_reference;
use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text};
use crate::meta::names;
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
        let root = Field::root(obj);
        let spec = root.field("spec");
        let name = spec.field("controller");
        controller(&name, out);
        reference(&spec.field("parameters"), out);
        if let Some(old) = old {
            name.immutable(&Field::root(old).field("spec").field("controller"), out);
        }
    }
}

const CONTROLLER_MAX: usize = 250;

/// `domain/path`
fn controller(name: &Field<'_, '_>, out: &mut Causes) {
    if name.text().len() > CONTROLLER_MAX {
        name.too_long(CONTROLLER_MAX, out);
    }
    if !name.demand(out) {
        return;
    }
    match name.text().split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            name.invalid_each(names::subdomain(domain), out);
            let legal = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
            if !path.bytes().all(legal) {
                name.invalid("Invalid path", out);
            }
        }
        _ => name.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")", out),
    }
}

fn reference(parameters: &Field<'_, '_>, out: &mut Causes) {
    if !parameters.present() {
        return;
    }
    typed_reference(parameters, out);
    let (scope, namespace) = (parameters.field("scope"), parameters.field("namespace"));
    scope.one_of(&["Cluster", "Namespace"], out);
    match scope.text() {
        "Namespace" if !namespace.present() => {
            namespace.required("`parameters.scope` is set to 'Namespace'", out);
        }
        "Namespace" => namespace.invalid_each(names::label(namespace.text()), out),
        "Cluster" if namespace.present() => namespace.forbidden("`parameters.scope` is set to 'Cluster'", out),
        _ => {}
    }
}
