//! NetworkPolicy: which traffic pods accept and send.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};
use crate::tree;
use crate::validate::{self, Field, selectors::label_selector};
use ipnet::IpNet;
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
        if tree::list(spec, "policyTypes").is_empty() {
            let egress = !tree::list(spec, "egress").is_empty();
            let types = if egress { vec!["Ingress", "Egress"] } else { vec!["Ingress"] };
            if let Some(spec) = spec.as_object_mut() {
                spec.insert("policyTypes".into(), types.into());
            }
        }
        for list in ["ingress", "egress"] {
            tree::each(spec, list, |rule| {
                tree::each(rule, "ports", |port| tree::set_default(port, "protocol", "TCP"));
            });
        }
    }

    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let spec = root.field("spec");
        label_selector(&spec.field("podSelector"), out);
        for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
            for rule in spec.field(rules).items() {
                rule.field("ports").items().for_each(|p| port(&p, out));
                rule.field(peers).items().for_each(|p| peer(&p, out));
            }
        }
        let types = spec.field("policyTypes");
        if types.len() > TYPES.len() {
            return types.invalid("may not specify more than two policyTypes", out);
        }
        types.items().for_each(|t| t.one_of(&TYPES, out));
    }
}

const TYPES: [&str; 2] = ["Egress", "Ingress"];

fn port(entry: &Field<'_, '_>, out: &mut Causes) {
    entry.field("protocol").optional_one_of(&["SCTP", "TCP", "UDP"], out);
    let (port, end) = (entry.field("port"), entry.field("endPort"));
    match (port.int(), end.int()) {
        (Some(first), Some(last)) => {
            validate::port(&port, out);
            if last < first {
                end.invalid_value(port.value, "must be greater than or equal to `port`", out);
            }
            validate::port(&end, out);
        }
        (None, Some(_)) if port.present() => {
            end.invalid("may not be specified when `port` is non-numeric", out);
            validate::port(&port, out);
        }
        (None, Some(_)) => end.invalid("may not be specified when `port` is not specified", out),
        (_, None) if port.present() => validate::port(&port, out),
        (_, None) => {}
    }
}

fn peer(entry: &Field<'_, '_>, out: &mut Causes) {
    let selectors = ["podSelector", "namespaceSelector"].map(|key| entry.field(key));
    let block = entry.field("ipBlock");
    let selecting = selectors.iter().filter(|s| s.present()).count();
    selectors.iter().for_each(|s| label_selector(s, out));
    if block.present() {
        ip_block(&block, out);
    }
    match (selecting, block.present()) {
        (0, false) => entry.required("must specify a peer", out),
        (1.., true) => entry.forbidden("may not specify both ipBlock and another peer", out),
        _ => {}
    }
}

fn ip_block(block: &Field<'_, '_>, out: &mut Causes) {
    const BAD: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let cidr = block.field("cidr");
    if !cidr.demand(out) {
        return;
    }
    let Ok(whole) = cidr.text().parse::<IpNet>() else { return cidr.invalid(BAD, out) };
    for except in block.field("except").items() {
        match except.text().parse::<IpNet>() {
            Err(_) => except.invalid(BAD, out),
            Ok(part) if part.prefix_len() > whole.prefix_len() && whole.contains(&part.addr()) => {}
            Ok(_) => except.invalid("must be a strict subset of `cidr`", out),
        }
    }
}
