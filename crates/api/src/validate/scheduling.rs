//! Where a pod may run: node selectors, affinity, tolerations, spread.

use super::field::{Field, POSITIVE};
use super::selectors;
use crate::kind::Causes;
use crate::meta::{self, names};

/// Checks everything of a pod spec that the scheduler reads.
pub(super) fn scheduling(spec: &Field<'_, '_>, out: &mut Causes) {
    meta::labels(&spec.field("nodeSelector"), out);
    spec.field("nodeName").optional(names::subdomain, out);
    let affinity = spec.field("affinity");
    node_affinity(&affinity.field("nodeAffinity"), out);
    for kind in ["podAffinity", "podAntiAffinity"] {
        pod_affinity(&affinity.field(kind), out);
    }
    tolerations(&spec.field("tolerations"), out);
    for constraint in spec.field("topologySpreadConstraints").items() {
        spread(&constraint, out);
    }
}

/// Checks a list of tolerations.
pub fn tolerations(list: &Field<'_, '_>, out: &mut Causes) {
    list.items().for_each(|toleration| check_toleration(&toleration, out));
}

fn node_affinity(affinity: &Field<'_, '_>, out: &mut Causes) {
    let required = affinity.field("requiredDuringSchedulingIgnoredDuringExecution");
    if required.present() {
        let terms = required.field("nodeSelectorTerms");
        if terms.is_empty() {
            terms.required("must have at least one node selector term", out);
        }
        for term in terms.items() {
            node_term(&term, out);
        }
    }
    for preferred in affinity.field("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&preferred.field("weight"), out);
        node_term(&preferred.field("preference"), out);
    }
}

fn node_term(term: &Field<'_, '_>, out: &mut Causes) {
    for e in term.field("matchExpressions").items() {
        e.field("key").invalid_each(names::qualified_name(e.field("key").text()), out);
        node_requirement(&e, out);
    }
    for e in term.field("matchFields").items() {
        let key = e.field("key");
        if key.text() != "metadata.name" {
            key.invalid("not a valid field selector key", out);
        }
        node_requirement(&e, out);
    }
}

fn node_requirement(e: &Field<'_, '_>, out: &mut Causes) {
    let (operator, values) = (e.field("operator"), e.field("values"));
    match (operator.text(), values.len()) {
        ("In" | "NotIn", 0) => values.required("must be specified when `operator` is 'In' or 'NotIn'", out),
        ("Gt" | "Lt", n) if n != 1 => {
            values.required("must be specified single value when `operator` is 'Lt' or 'Gt'", out)
        }
        ("Exists" | "DoesNotExist", 1..) => {
            values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'", out);
        }
        ("In" | "NotIn" | "Gt" | "Lt" | "Exists" | "DoesNotExist", _) => {}
        _ => operator.invalid("not a valid selector operator", out),
    }
}

fn weight(weight: &Field<'_, '_>, out: &mut Causes) {
    if !(1..=100).contains(&weight.int().unwrap_or_default()) {
        weight.invalid("must be in the range 1-100", out);
    }
}

fn pod_affinity(affinity: &Field<'_, '_>, out: &mut Causes) {
    for term in affinity.field("requiredDuringSchedulingIgnoredDuringExecution").items() {
        pod_term(&term, out);
    }
    for preferred in affinity.field("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&preferred.field("weight"), out);
        pod_term(&preferred.field("podAffinityTerm"), out);
    }
}

fn pod_term(term: &Field<'_, '_>, out: &mut Causes) {
    for key in ["labelSelector", "namespaceSelector"] {
        selectors::label_selector(&term.field(key), out);
    }
    for namespace in term.field("namespaces").items() {
        namespace.invalid_each(names::label(namespace.text()), out);
    }
    topology_key(&term.field("topologyKey"), out);
}

fn topology_key(key: &Field<'_, '_>, out: &mut Causes) {
    if !key.set() {
        return key.required("can not be empty", out);
    }
    key.invalid_each(names::qualified_name(key.text()), out);
}

const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "PreferNoSchedule"];

fn check_toleration(t: &Field<'_, '_>, out: &mut Causes) {
    let (key, operator, effect) = (t.field("key"), t.field("operator"), t.field("effect"));
    key.optional(names::qualified_name, out);
    if !key.set() && operator.text() != "Exists" {
        operator.invalid_value(
            &operator.text().into(),
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            out,
        );
    }
    if t.field("tolerationSeconds").present() && effect.text() != "NoExecute" {
        effect.invalid_value(&effect.text().into(), "effect must be 'NoExecute' when `tolerationSeconds` is set", out);
    }
    match operator.text() {
        "" | "Equal" => t.field("value").optional(names::label_value, out),
        "Exists" if t.field("value").set() => operator.invalid("value must be empty when `operator` is 'Exists'", out),
        "Exists" => {}
        _ => operator.unsupported(&["Equal", "Exists"], out),
    }
    effect.optional_one_of(&EFFECTS, out);
}

/// Checks the taints of a node.
pub fn taints(taints: &Field<'_, '_>, out: &mut Causes) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for taint in taints.items() {
        let (key, value, effect) = (taint.field("key"), taint.field("value"), taint.field("effect"));
        key.checked(names::qualified_name, out);
        value.optional(names::label_value, out);
        effect.one_of(&EFFECTS, out);
        let identity = (key.text(), effect.text());
        if seen.contains(&identity) {
            taint.duplicate(out);
        }
        seen.push(identity);
    }
}

fn spread(constraint: &Field<'_, '_>, out: &mut Causes) {
    let skew = constraint.field("maxSkew");
    if skew.int().unwrap_or_default() <= 0 {
        skew.invalid(POSITIVE, out);
    }
    topology_key(&constraint.field("topologyKey"), out);
    constraint.field("whenUnsatisfiable").one_of(&["DoNotSchedule", "ScheduleAnyway"], out);
    let domains = constraint.field("minDomains");
    if domains.int().is_some_and(|n| n <= 0) {
        domains.invalid(POSITIVE, out);
    }
    for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        constraint.field(policy).optional_one_of(&["Honor", "Ignore"], out);
    }
    selectors::label_selector(&constraint.field("labelSelector"), out);
}
