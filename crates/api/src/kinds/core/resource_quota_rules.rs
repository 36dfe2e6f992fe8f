//! What a ResourceQuota may bound, and where.

use crate::kind::Causes;
use crate::validate::quantities::{not_negative, quantity, resource_name};
use crate::validate::{Field, field::Unique};
use serde_json::Value;

/// Counts by the plain names.
const COUNTS: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const COMPUTE: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const STORAGE: [&str; 4] =
    ["ephemeral-storage", "limits.ephemeral-storage", "requests.ephemeral-storage", "requests.storage"];
const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
const CONFLICTING: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

fn is_standard(name: &str) -> bool {
    let huge = ["", "requests."].iter().any(|p| name.strip_prefix(p).is_some_and(|n| n.starts_with("hugepages-")));
    huge || COUNTS.contains(&name) || COMPUTE.contains(&name) || STORAGE.contains(&name)
}

/// Checks bounds or uses.
pub(super) fn amounts(list: &Field<'_, '_>, out: &mut Causes) {
    for (name, entry) in list.entries() {
        resource_name(&entry, name, out);
        if !name.contains('/') && !is_standard(name) {
            entry.invalid_value(&name.into(), "must be a standard resource for quota", out);
        }
        not_negative(&entry, out);
        let whole = COUNTS.contains(&name) || name.starts_with("count/");
        if whole && quantity(&entry).is_some_and(|q| !q.is_integer()) {
            entry.invalid("must be an integer", out);
        }
    }
}

/// Can a scope be applied to what a bound is about?
fn applies(scope: &str, bound: &str) -> bool {
    match scope {
        "BestEffort" => bound == "pods",
        "VolumeAttributesClass" => matches!(bound, "persistentvolumeclaims" | "requests.storage"),
        _ => bound == "pods" || COMPUTE.contains(&bound),
    }
}

/// Checks spec.scopes and spec.scopeSelector against the bounds.
pub(super) fn scopes(spec: &Field<'_, '_>, out: &mut Causes) {
    let hard = spec.field("hard");
    let misfit = |scope: &str| hard.entries().any(|(bound, _)| is_standard(bound) && !applies(scope, bound));
    let scopes = spec.field("scopes");
    let mut named = Vec::new();
    for scope in scopes.items() {
        if !SCOPES.contains(&scope.text()) {
            scopes.invalid("unsupported scope", out);
        } else if misfit(scope.text()) {
            scopes.invalid("unsupported scope applied to resource", out);
        }
        named.push(scope.text());
    }
    conflicts(&scopes, &named, out);
    let selector = spec.field("scopeSelector");
    let expressions = selector.field("matchExpressions");
    let mut named = Vec::new();
    for expression in expressions.items() {
        let scope = expression.field("scopeName");
        if !SCOPES.contains(&scope.text()) {
            scope.invalid("unsupported scope", out);
        } else if misfit(scope.text()) {
            scope.invalid("unsupported scope applied to resource", out);
        }
        operator(&expression, scope.text(), out);
        named.push(scope.text());
    }
    conflicts(&expressions, &named, out);
}

fn conflicts(field: &Field<'_, '_>, named: &[&str], out: &mut Causes) {
    if CONFLICTING.iter().any(|pair| pair.iter().all(|scope| named.contains(scope))) {
        field.invalid("conflicting scopes", out);
    }
}

fn operator(expression: &Field<'_, '_>, scope: &str, out: &mut Causes) {
    let (operator, values) = (expression.field("operator"), expression.field("values"));
    if !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && operator.text() != "Exists" {
        let text = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
        operator.invalid(text, out);
    }
    match operator.text() {
        "In" | "NotIn" if values.is_empty() => {
            values.required("must be at least one value when `operator` is 'In' or 'NotIn' for scope selector", out);
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            values.invalid("must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector", out);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => operator.invalid("not a valid selector operator", out),
    }
    let mut seen = Unique::default();
    values.items().for_each(|value| seen.check(&value, out));
}

/// The scopes in an order that does not matter.
pub(super) fn sorted(scopes: Option<&Value>) -> Vec<&str> {
    let mut list: Vec<&str> =
        scopes.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    list.sort_unstable();
    list
}
