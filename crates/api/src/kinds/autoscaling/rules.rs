//! What the spec of a HorizontalPodAutoscaler may say.

use crate::kind::Causes;
use crate::meta::names;
use crate::meta::quantity::Quantity;
use crate::validate::quantities::quantity;
use crate::validate::selectors::label_selector;
use crate::validate::{Field, quantities};

/// The longest window, in seconds.
const MAX_WINDOW: i64 = 3600;
/// The longest period of a policy, in seconds.
const MAX_PERIOD: i64 = 1800;
/// Type of a metric, the field of its source.
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

pub(super) fn spec(spec: &Field<'_, '_>, out: &mut Causes) {
    let (least, most) = (spec.field("minReplicas"), spec.field("maxReplicas"));
    if least.int().is_some_and(|n| n < 1) {
        least.invalid("must be greater than or equal to 1", out);
    }
    let highest = most.int().unwrap_or(0);
    if highest < 1 {
        most.invalid_value(&highest.into(), "must be greater than 0", out);
    }
    if least.int().is_some_and(|n| highest < n) {
        most.invalid_value(&highest.into(), "must be greater than or equal to `minReplicas`", out);
    }
    reference(&spec.field("scaleTargetRef"), out);
    for metric in spec.field("metrics").items() {
        source(&metric, out);
    }
    let behavior = spec.field("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        let rules = behavior.field(direction);
        if rules.present() {
            scaling(&rules, out);
        }
    }
}

/// An object that is named by kind and name.
fn reference(reference: &Field<'_, '_>, out: &mut Causes) {
    for key in ["kind", "name"] {
        let field = reference.field(key);
        if !field.set() {
            field.required("", out);
        } else {
            field.invalid_each(names::path_segment(field.text()), out);
        }
    }
}

fn source(metric: &Field<'_, '_>, out: &mut Causes) {
    let kind = metric.field("type");
    if !kind.set() {
        return kind.required("must specify a metric source type", out);
    }
    let Some((_, expected)) = SOURCES.iter().find(|(name, _)| *name == kind.text()) else {
        let all: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
        return kind.unsupported(&all, out);
    };
    for (_, name) in SOURCES {
        let source = metric.field(name);
        match (name == *expected, source.present()) {
            (true, false) => source.required("must populate information for the given metric source", out),
            (false, true) => source.forbidden("must populate the given metric source only", out),
            (true, true) => of_source(&source, name, out),
            (false, false) => {}
        }
    }
}

fn of_source(source: &Field<'_, '_>, kind: &str, out: &mut Causes) {
    let target = source.field("target");
    metric_target(&target, out);
    match kind {
        "resource" | "containerResource" => {
            if kind == "containerResource" && !source.field("container").set() {
                source.field("container").required("must specify a container", out);
            }
            if !source.field("name").set() {
                source.field("name").required("must specify a resource name", out);
            }
            let (share, amount) = (target.field("averageUtilization"), target.field("averageValue"));
            if !share.present() && !amount.present() {
                share.required("must set either a target raw value or a target utilization", out);
            }
            if share.present() && amount.present() {
                amount.forbidden("may not set both a target raw value and a target utilization", out);
            }
        }
        _ => {
            identifier(&source.field("metric"), out);
            named_target(source, kind, &target, out);
        }
    }
}

fn named_target(source: &Field<'_, '_>, kind: &str, target: &Field<'_, '_>, out: &mut Causes) {
    let (value, average) = (target.field("value"), target.field("averageValue"));
    if kind == "pods" {
        if quantity(&average).is_none_or(|q| q <= Quantity::ZERO) {
            average.required("must specify a positive target averageValue", out);
        }
        return;
    }
    if kind == "object" {
        reference(&source.field("describedObject"), out);
    }
    if !value.present() && !average.present() {
        let text = match kind {
            "object" => "must set either a target value or averageValue",
            _ => "must set either a target value for metric or a per-pod target",
        };
        if kind == "object" { average.required(text, out) } else { value.required(text, out) }
    }
    if kind == "external" && value.present() && average.present() {
        value.forbidden("may not set both a target value for metric and a per-pod target", out);
    }
}

fn identifier(metric: &Field<'_, '_>, out: &mut Causes) {
    let name = metric.field("name");
    if !name.set() {
        name.required("must specify a metric name", out);
    } else {
        name.invalid_each(names::path_segment(name.text()), out);
    }
    label_selector(&metric.field("selector"), out);
}

fn metric_target(target: &Field<'_, '_>, out: &mut Causes) {
    let kind = target.field("type");
    if !kind.set() {
        kind.required("must specify a metric target type", out);
    } else if !["Utilization", "Value", "AverageValue"].contains(&kind.text()) {
        kind.invalid("must be either Utilization, Value, or AverageValue", out);
    }
    for name in ["value", "averageValue"] {
        let amount = target.field(name);
        if amount.present() && quantity(&amount).is_none_or(|q| q <= Quantity::ZERO) {
            amount.invalid("must be positive", out);
        }
    }
    let share = target.field("averageUtilization");
    if share.int().is_some_and(|n| n < 1) {
        share.invalid("must be greater than 0", out);
    }
}

fn scaling(rules: &Field<'_, '_>, out: &mut Causes) {
    let window = rules.field("stabilizationWindowSeconds");
    match window.int() {
        Some(n) if n < 0 => window.invalid("must be greater than or equal to zero", out),
        Some(n) if n > MAX_WINDOW => window.invalid(&format!("must be less than or equal to {MAX_WINDOW}"), out),
        _ => {}
    }
    rules.field("selectPolicy").optional_one_of(&["Disabled", "Max", "Min"], out);
    quantities::not_negative(&rules.field("tolerance"), out);
    let policies = rules.field("policies");
    if policies.is_empty() {
        policies.required("must specify at least one Policy", out);
    }
    for policy in policies.items() {
        policy.field("type").one_of(&["Percent", "Pods"], out);
        let value = policy.field("value");
        if value.int().unwrap_or(0) <= 0 {
            value.invalid("must be greater than zero", out);
        }
        let period = policy.field("periodSeconds");
        match period.int().unwrap_or(0) {
            n if n <= 0 => period.invalid("must be greater than zero", out),
            n if n > MAX_PERIOD => period.invalid(&format!("must be less than or equal to {MAX_PERIOD}"), out),
            _ => {}
        }
    }
}
