//! autoscaling/v1 of the HorizontalPodAutoscaler: one CPU target in fields of its own, all else that
//! v2 has in annotations.

use crate::tree;
use serde_json::{Value, json};

/// Annotations that carry what v1 has no field for, and where it stands in v2.
const CARRIED: [(&str, &str); 4] = [
    ("autoscaling.alpha.kubernetes.io/metrics", "spec.metrics"),
    ("autoscaling.alpha.kubernetes.io/current-metrics", "status.currentMetrics"),
    ("autoscaling.alpha.kubernetes.io/conditions", "status.conditions"),
    ("autoscaling.alpha.kubernetes.io/behavior", "spec.behavior"),
];

/// v2 to v1.
pub(super) fn from_stored(obj: &mut Value) {
    lower_cpu(obj, "spec.metrics", "target", "spec", "targetCPUUtilizationPercentage");
    lower_cpu(obj, "status.currentMetrics", "current", "status", "currentCPUUtilizationPercentage");
    for (annotation, path) in CARRIED {
        let Some((parent, key)) = path.split_once('.') else { continue };
        let Some(value) = tree::at_mut(obj, parent).and_then(|p| tree::remove(p, key)) else { continue };
        if value.as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        if let Some(annotations) = tree::object(obj, "metadata").and_then(|m| tree::object(m, "annotations")) {
            tree::set_if_absent(annotations, annotation, value.to_string());
        }
    }
}

/// v1 to v2.
pub(super) fn to_stored(obj: &mut Value) {
    for (annotation, path) in CARRIED {
        let carried = tree::at_mut(obj, "metadata.annotations").and_then(|a| tree::remove(a, annotation));
        let Some(value) = carried.as_ref().and_then(Value::as_str).and_then(|t| serde_json::from_str::<Value>(t).ok())
        else {
            continue;
        };
        if let Some((parent, key)) = path.split_once('.')
            && let Some(parent) = tree::object(obj, parent)
        {
            tree::set_if_absent(parent, key, value);
        }
    }
    if tree::at(obj, "metadata.annotations").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
        tree::at_mut(obj, "metadata").and_then(|m| tree::remove(m, "annotations"));
    }
    raise_cpu(
        obj,
        "spec",
        "targetCPUUtilizationPercentage",
        "metrics",
        |n| json!({"type": "Utilization", "averageUtilization": n}),
    );
    raise_cpu(obj, "status", "currentCPUUtilizationPercentage", "currentMetrics", |n| json!({"averageUtilization": n}));
}

/// Which half of a metric holds the utilization.
fn half(list: &str) -> &'static str {
    if list == "metrics" { "target" } else { "current" }
}

/// Takes the CPU utilization metric out of the list at `path` and into a field of its own.
fn lower_cpu(obj: &mut Value, path: &str, half: &str, parent: &str, key: &str) {
    let utilization = |m: &Value| {
        let cpu = tree::text(m, "type") == "Resource" && tree::text(m, "resource.name") == "cpu";
        cpu.then(|| tree::int(m, &format!("resource.{half}.averageUtilization"))).flatten()
    };
    let Some(Value::Array(metrics)) = tree::at_mut(obj, path) else { return };
    let Some((index, value)) = metrics.iter().enumerate().find_map(|(i, m)| Some((i, utilization(m)?))) else { return };
    metrics.remove(index);
    if let Some(parent) = tree::object(obj, parent) {
        tree::set_if_absent(parent, key, value);
    }
}

/// Puts the utilization back in front of the list.
fn raise_cpu(obj: &mut Value, parent: &str, key: &str, list: &str, wrap: fn(i64) -> Value) {
    let Some(parent) = tree::at_mut(obj, parent) else { return };
    let Some(value) = tree::remove(parent, key).and_then(|v| v.as_i64()) else { return };
    let metric = json!({"type": "Resource", "resource": {"name": "cpu", half(list): wrap(value)}});
    tree::set_if_absent(parent, list, Value::Array(Vec::new()));
    if let Some(Value::Array(metrics)) = parent.get_mut(list) {
        metrics.insert(0, metric);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_are_each_other_s_inverse() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
        let pods = json!({"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "1"}}});
        let current = json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 5}}});
        for metrics in [vec![cpu.clone()], vec![cpu, pods.clone()], vec![pods]] {
            let stored = json!({
                "metadata": {"name": "h"},
                "spec": {"maxReplicas": 3, "metrics": metrics, "behavior": {"scaleUp": {"selectPolicy": "Max"}}},
                "status": {"currentMetrics": [current], "desiredReplicas": 1},
            });
            let mut v1 = stored.clone();
            from_stored(&mut v1);
            assert_eq!(tree::at(&v1, "spec.metrics"), None);
            assert_eq!(v1["status"]["currentCPUUtilizationPercentage"], 5);
            to_stored(&mut v1);
            assert_eq!(v1, stored);
        }
    }
}
