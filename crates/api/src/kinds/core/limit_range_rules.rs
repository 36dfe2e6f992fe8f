//! What a LimitRange may say: known resources, and bounds that leave room between them.

use crate::kind::Causes;
use crate::meta::names;
use crate::meta::quantity::Quantity;
use crate::validate::quantities::{container_resource_name, is_overcommitted, quantity, resource_name};
use crate::validate::{Field, field::Unique};
use std::collections::BTreeSet;

const TYPES: [&str; 3] = ["Container", "PersistentVolumeClaim", "Pod"];

/// Checks `spec.limits`.
pub(super) fn limits(list: &Field<'_, '_>, out: &mut Causes) {
    let mut types = Unique::default();
    for limit in list.items() {
        let kind = limit.field("type");
        type_name(&kind, out);
        types.check(&kind, out);
        amounts(&limit, out);
        let bounds: BTreeSet<&str> = LISTS.iter().flat_map(|list| keys(&limit, list)).collect();
        bounds.iter().for_each(|resource| order(&limit, resource, out));
    }
}

/// The lists of amounts of a limit.
const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

fn keys<'v>(limit: &Field<'_, 'v>, list: &str) -> impl Iterator<Item = &'v str> + use<'v> {
    limit.value.get(list).and_then(serde_json::Value::as_object).into_iter().flatten().map(|(key, _)| key.as_str())
}

fn type_name(kind: &Field<'_, '_>, out: &mut Causes) {
    let problems = names::qualified_name(kind.text());
    if problems.is_empty() && !kind.text().contains('/') && !TYPES.contains(&kind.text()) {
        kind.invalid("must be a standard limit type or fully qualified", out);
    }
    problems.iter().for_each(|p| kind.invalid_value(&kind.text().into(), p, out));
}

/// Names of the resources, and which lists a limit of its type may have.
fn amounts(limit: &Field<'_, '_>, out: &mut Causes) {
    let kind = limit.field("type");
    let of_containers = matches!(kind.text(), "Container" | "Pod");
    for name in LISTS {
        let list = limit.field(name);
        if kind.text() == "Pod" && name.starts_with("default") {
            if !list.is_empty() {
                list.forbidden("may not be specified when `type` is 'Pod'", out);
            }
            continue;
        }
        for (resource, amount) in list.entries() {
            if of_containers {
                container_resource_name(&amount, resource, out);
            } else {
                resource_name(&amount, resource, out);
            }
        }
    }
    let bounded = ["min", "max"].iter().any(|list| limit.field(list).entry("storage").present());
    if kind.text() == "PersistentVolumeClaim" && !bounded {
        let text = "either minimum or maximum storage value is required, but neither was provided";
        limit.field("limits").required(text, out);
    }
}

/// Least, request, default and most of one resource are in order.
fn order(limit: &Field<'_, '_>, resource: &str, out: &mut Causes) {
    let read = |list: &str| quantity(&limit.field(list).entry(resource));
    let (min, max, default, request) = (read("min"), read("max"), read("default"), read("defaultRequest"));
    let rules = [
        ("min", min, "min", min, "max", max),
        ("defaultRequest", request, "min", min, "default request", request),
        ("defaultRequest", request, "default request", request, "max", max),
        ("defaultRequest", request, "default request", request, "default limit", default),
        ("default", min, "min", min, "default", default),
        ("default", max, "default", default, "max", max),
    ];
    for (list, shown, low_name, low, high_name, high) in rules {
        if let (Some(low), Some(high), Some(shown)) = (low, high, shown)
            && low > high
        {
            let text = format!("{low_name} value {low} is greater than {high_name} value {high}");
            limit.field(list).entry(resource).invalid_value(&shown.to_string().into(), &text, out);
        }
    }
    ratio(&limit.field("maxLimitRequestRatio").entry(resource), min, max, out);
    if let (Some(default), Some(request)) = (default, request)
        && default != request
        && !is_overcommitted(resource)
    {
        let text = format!("default value {default} must equal to defaultRequest value {request} in {resource}");
        limit.field("defaultRequest").entry(resource).invalid_value(&request.to_string().into(), &text, out);
    }
}

/// How much a limit may exceed its request: at least once, and no more than the bounds let it.
fn ratio(field: &Field<'_, '_>, min: Option<Quantity>, max: Option<Quantity>, out: &mut Causes) {
    let Some(ratio) = quantity(field) else { return };
    if ratio < Quantity::from_int(1) {
        field.invalid(&format!("ratio {ratio} is less than 1"), out);
    }
    if let (Some(min), Some(max)) = (min, max) {
        let most = max.milli() as f64 / min.milli() as f64;
        if ratio.milli() as f64 / 1000.0 > most {
            field.invalid(&format!("ratio {ratio} is greater than max/min = {most:.6}"), out);
        }
    }
}
