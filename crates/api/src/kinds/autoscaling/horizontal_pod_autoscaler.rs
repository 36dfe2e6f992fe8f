//! HorizontalPodAutoscaler: scales a workload by its metrics. Stored as v2, also served as v1.

use super::{rules, v1};
use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, field, name};
use crate::tree;
use crate::validate::Field;
use serde_json::{Value, json};

pub(super) fn row() -> KindDef {
    Row::new("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
        .also("v1", v1::from_stored, v1::to_stored)
        .short(&["hpa"])
        .category("all")
        .status()
        .columns([
            name(),
            computed("Reference", "What it scales.", |v| {
                let target = |key: &str| tree::text(v.obj, &format!("spec.scaleTargetRef.{key}")).to_owned();
                format!("{}/{}", target("kind"), target("name")).into()
            }),
            computed("Targets", "Current and wanted values of the metrics.", |v| targets(v.obj)),
            computed("MinPods", "How few pods there may be.", |v| {
                plain(tree::at(v.obj, "spec.minReplicas")).map_or(cells::UNSET.into(), Value::from)
            }),
            field("MaxPods", "string", "spec.maxReplicas", 0),
            field("Replicas", "string", "status.currentReplicas", 0),
            age(),
        ])
        .strategy(&HorizontalPodAutoscaler)
        .build()
}

/// `current/target` of two metrics, then how many more there are.
fn targets(obj: &Value) -> Value {
    let metrics = tree::list(obj, "spec.metrics");
    let current = tree::list(obj, "status.currentMetrics");
    let all: Vec<String> = metrics.iter().enumerate().map(|(i, m)| target(m, current.get(i))).collect();
    let shown = cells::joined(all.iter().take(2).map(String::as_str), ", ", cells::NONE);
    match (&shown, all.len()) {
        (Value::String(text), 3..) => format!("{text} + {} more...", all.len() - 2).into(),
        _ => shown,
    }
}

/// One metric. Its source object is named like its type, first letter lowered.
fn target(metric: &Value, current: Option<&Value>) -> String {
    let source = match tree::text(metric, "type") {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown type>".to_owned(),
    };
    let named = matches!(source, "resource" | "containerResource");
    let prefix = if named { format!("{}: ", tree::text(metric, &format!("{source}.name"))) } else { String::new() };
    let averaged = matches!(source, "external" | "object");
    for (key, unit) in
        [("averageUtilization", "%"), ("averageValue", if averaged { " (avg)" } else { "" }), ("value", "")]
    {
        if let Some(wanted) = plain(tree::at(metric, &format!("{source}.target.{key}"))) {
            let have = current.and_then(|c| plain(tree::at(c, &format!("{source}.current.{key}"))));
            let have =
                have.map_or_else(|| cells::UNKNOWN.to_owned(), |h| if unit == "%" { format!("{h}%") } else { h });
            return format!("{prefix}{have}/{wanted}{unit}");
        }
    }
    format!("{prefix}{}/<auto>", cells::UNKNOWN)
}

fn plain(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    fn validate(&self, ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        if ctx.subresource == "status" {
            let status = root.field("status");
            status.field("currentReplicas").not_negative(out);
            status.field("desiredReplicas").not_negative(out);
        } else {
            rules::spec(&root.field("spec"), out);
        }
    }
    fn default(&self, obj: &mut Value) {
        let Some(spec) = obj.get_mut("spec") else { return };
        tree::set_if_absent(spec, "minReplicas", 1);
        if tree::list(spec, "metrics").is_empty() {
            tree::remove(spec, "metrics");
            let target = json!({"type": "Utilization", "averageUtilization": 80});
            tree::set_if_absent(
                spec,
                "metrics",
                json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]),
            );
        }
        if let Some(behavior) = spec.get_mut("behavior") {
            scaling(behavior);
        }
    }
}

fn scaling(behavior: &mut Value) {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    if let Some(up) = tree::object(behavior, "scaleUp") {
        tree::set_if_absent(up, "stabilizationWindowSeconds", 0);
        tree::set_default(up, "selectPolicy", "Max");
        tree::set_if_absent(up, "policies", json!([pods, percent]));
    }
    if let Some(down) = tree::object(behavior, "scaleDown") {
        tree::set_default(down, "selectPolicy", "Max");
        tree::set_if_absent(down, "policies", json!([percent]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_targets_are_shown() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}});
        let pods = json!({"type": "Pods", "pods": {"target": {"averageValue": "10"}}});
        let obj = json!({"spec": {"metrics": [cpu, pods, cpu]},
            "status": {"currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 5}}}]}});
        assert_eq!(targets(&obj), "cpu: 5%/80%, <unknown>/10 + 1 more...");
        assert_eq!(targets(&json!({})), "<none>");
    }
}
