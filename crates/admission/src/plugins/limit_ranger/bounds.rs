//! Is it within the bounds? Pure.

use crate::paths::{list, text};
use kybern_api::meta::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// Amounts by resource.
type Amounts = BTreeMap<String, Quantity>;

/// What one container or pod asks for and is held to.
#[derive(Debug, Default)]
struct Usage {
    requests: Amounts,
    limits: Amounts,
}

impl Usage {
    fn of(resources: &Value) -> Self {
        Self { requests: amounts(resources, "/requests"), limits: amounts(resources, "/limits") }
    }
}

/// The refusals of a pod by one item of a LimitRange.
pub(super) fn pod(pod: &Value, limit: &Value) -> Vec<String> {
    match text(limit, "/type") {
        "Container" => {
            let containers =
                ["containers", "initContainers"].iter().flat_map(|kind| list(pod, &format!("/spec/{kind}")));
            containers
                .flat_map(|c| judge(&Usage::of(c.get("resources").unwrap_or(&Value::Null)), limit, "Container"))
                .collect()
        }
        "Pod" => judge(&total(pod), limit, "Pod"),
        _ => Vec::new(),
    }
}

/// The refusals of a claim by one item of a LimitRange.
pub(super) fn claim(claim: &Value, limit: &Value) -> Vec<String> {
    if text(limit, "/type") != "PersistentVolumeClaim" {
        return Vec::new();
    }
    let asked = amounts(claim, "/spec/resources/requests");
    // a claim has no limit of its own: what it asks for is what it gets
    judge(&Usage { limits: asked.clone(), requests: asked }, limit, "PersistentVolumeClaim")
}

/// A pod's usage: the sum of what runs together (sidecars too), or the largest init container where that
/// is more.
fn total(pod: &Value) -> Usage {
    let of = |container: &Value| Usage::of(container.get("resources").unwrap_or(&Value::Null));
    let (sidecars, inits): (Vec<&Value>, Vec<&Value>) =
        list(pod, "/spec/initContainers").iter().partition(|c| text(c, "/restartPolicy") == "Always");
    let mut sum = Usage::default();
    for container in list(pod, "/spec/containers").iter().chain(sidecars) {
        let usage = of(container);
        merge(&mut sum.requests, usage.requests, |a, b| a + b);
        merge(&mut sum.limits, usage.limits, |a, b| a + b);
    }
    for container in inits {
        let usage = of(container);
        merge(&mut sum.requests, usage.requests, Ord::max);
        merge(&mut sum.limits, usage.limits, Ord::max);
    }
    sum
}

fn merge(into: &mut Amounts, from: Amounts, join: impl Fn(Quantity, Quantity) -> Quantity) {
    for (resource, amount) in from {
        let joined = into.get(&resource).map_or(amount, |known| join(*known, amount));
        into.insert(resource, joined);
    }
}

fn judge(usage: &Usage, limit: &Value, what: &str) -> Vec<String> {
    let minimum = amounts(limit, "/min").into_iter().filter_map(|(r, bound)| below(usage, &r, bound, what));
    let maximum = amounts(limit, "/max").into_iter().filter_map(|(r, bound)| above(usage, &r, bound, what));
    let ratio =
        amounts(limit, "/maxLimitRequestRatio").into_iter().filter_map(|(r, bound)| stretched(usage, &r, bound, what));
    minimum.chain(maximum).chain(ratio).collect()
}

fn below(usage: &Usage, resource: &str, bound: Quantity, what: &str) -> Option<String> {
    let text = format!("minimum {resource} usage per {what} is {bound}");
    match (usage.requests.get(resource), usage.limits.get(resource)) {
        (None, _) => Some(format!("{text}. No request is specified")),
        (Some(request), _) if *request < bound => Some(format!("{text}, but request is {request}")),
        (_, Some(limit)) if *limit < bound => Some(format!("{text}, but limit is {limit}")),
        _ => None,
    }
}

fn above(usage: &Usage, resource: &str, bound: Quantity, what: &str) -> Option<String> {
    let text = format!("maximum {resource} usage per {what} is {bound}");
    match (usage.limits.get(resource), usage.requests.get(resource)) {
        (None, _) => Some(format!("{text}. No limit is specified")),
        (Some(limit), _) if *limit > bound => Some(format!("{text}, but limit is {limit}")),
        (_, Some(request)) if *request > bound => Some(format!("{text}, but request is {request}")),
        _ => None,
    }
}

fn stretched(usage: &Usage, resource: &str, bound: Quantity, what: &str) -> Option<String> {
    let text = format!("{resource} max limit to request ratio per {what} is {bound}");
    let (request, limit) = (usage.requests.get(resource), usage.limits.get(resource));
    let (Some(request), Some(limit)) = (request.filter(|r| !r.is_zero()), limit.filter(|l| !l.is_zero())) else {
        return Some(format!("{text}, but no request is specified or request is 0"));
    };
    let ratio = limit.milli() as f64 / request.milli() as f64;
    (ratio > bound.milli() as f64 / 1000.0).then(|| format!("{text}, but provided ratio is {ratio:.6}"))
}

/// Amounts that cannot be read are left out: the kind's validation refuses them.
fn amounts(tree: &Value, pointer: &str) -> Amounts {
    let map = tree.pointer(pointer).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(r, amount)| Some((r.clone(), Quantity::from_value(amount).ok()?))).collect()
}
