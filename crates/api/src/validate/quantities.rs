//! Resource lists: requests, limits, capacities, quotas.

use super::Field;
use super::field::NOT_NEGATIVE;
use crate::kind::Causes;
use crate::meta::names;
use crate::meta::quantity::Quantity;

/// The quantity at a place; none when absent or malformed.
pub fn quantity(field: &Field<'_, '_>) -> Option<Quantity> {
    Quantity::from_value(field.value).ok()
}

/// Checks that a quantity, if there, is one and is not below zero.
pub fn not_negative(field: &Field<'_, '_>, out: &mut Causes) {
    if !field.present() {
        return;
    }
    match Quantity::from_value(field.value) {
        Err(e) => field.invalid(&e.to_string(), out),
        Ok(q) if q.is_negative() => field.invalid(NOT_NEGATIVE, out),
        Ok(_) => {}
    }
}

/// What containers can ask for by a short name.
const CONTAINER_RESOURCES: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];

/// Everything that has a short name.
const STANDARD_RESOURCES: [&str; 20] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];

fn is_hugepages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// A resource of a plugin: with a domain that is not Kubernetes' own.
fn is_extended(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}

/// May there be promised more of a resource than there is?
pub fn is_overcommitted(name: &str) -> bool {
    let native = !name.contains('/') || name.split('/').next().is_some_and(|domain| domain.ends_with("kubernetes.io"));
    native && !is_hugepages(name)
}

/// Checks the name of any resource; it is the key of this entry.
pub fn resource_name(entry: &Field<'_, '_>, name: &str, out: &mut Causes) {
    let shown = name.into();
    let problems = names::qualified_name(name);
    let huge = is_hugepages(name.strip_prefix("requests.").unwrap_or(name));
    let known = name.contains('/') || STANDARD_RESOURCES.contains(&name) || huge;
    if problems.is_empty() && !known {
        entry.invalid_value(&shown, "must be a standard resource type or fully qualified", out);
    }
    problems.iter().for_each(|problem| entry.invalid_value(&shown, problem, out));
}

/// Checks the name of what containers can ask for; it is the key of this entry.
pub fn container_resource_name(entry: &Field<'_, '_>, name: &str, out: &mut Causes) {
    let shown = name.into();
    for problem in names::qualified_name(name) {
        entry.invalid_value(&shown, &problem, out);
    }
    if !name.contains('/') && !CONTAINER_RESOURCES.contains(&name) && !is_hugepages(name) {
        entry.invalid_value(&shown, "must be a standard resource for containers", out);
    }
}

fn container_amount(entry: &Field<'_, '_>, name: &str, out: &mut Causes) {
    container_resource_name(entry, name, out);
    if is_extended(name) && quantity(entry).is_some_and(|q| !q.is_integer()) {
        entry.invalid("must be an integer", out);
    }
}

/// Checks a container's `resources`.
pub fn container_resources(resources: &Field<'_, '_>, out: &mut Causes) {
    let (limits, requests) = (resources.field("limits"), resources.field("requests"));
    for list in [&limits, &requests] {
        for (name, entry) in list.entries() {
            container_amount(&entry, name, out);
            not_negative(&entry, out);
        }
    }
    for (name, request) in requests.entries() {
        let limit = limits.entry(name);
        let fixed = is_extended(name) || is_hugepages(name);
        match (quantity(&request), quantity(&limit)) {
            (Some(r), Some(l)) if fixed && r != l => {
                request.invalid(&format!("must be equal to {name} limit of {l}"), out);
            }
            (Some(r), Some(l)) if r > l => {
                request.invalid(&format!("must be less than or equal to {name} limit of {l}"), out);
            }
            (Some(_), None) if fixed => limits.required("Limit must be set for non overcommitable resources", out),
            _ => {}
        }
    }
}
