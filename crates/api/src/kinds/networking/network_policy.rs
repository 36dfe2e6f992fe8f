//! NetworkPolicy: which traffic pods accept and send.

use crate::kind::{KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
        .short(&["netpol"])
        .columns([
            name(),
            computed("Pod-Selector", "Which pods it holds for.", |v| {
                cells::selector(tree::at(v.obj, "spec.podSelector"))
            }),
            age(),
        ])
        .inert()
        .strategy(&NetworkPolicy)
        .build()
}

struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn counts_generation(&self, _def: &KindDef) -> bool {
        true
    }
    fn default(&self, obj: &mut Value) {
        let Some(spec) = obj.get_mut("spec") else { return };
        let egress = !tree::list(spec, "egress").is_empty();
        let types = if egress { vec!["Ingress", "Egress"] } else { vec!["Ingress"] };
        tree::set_if_absent(spec, "policyTypes", types);
        for list in ["ingress", "egress"] {
            tree::each(spec, list, |rule| {
                tree::each(rule, "ports", |port| tree::set_default(port, "protocol", "TCP"));
            });
        }
    }
}
