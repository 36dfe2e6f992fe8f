//! Selectors of a pod that take values from the pod's own labels.

use crate::tree;
use serde_json::{Map, Value, json};

/// Where pod affinity terms stand: the list, and the path of the term in its elements.
const TERMS: [(&str, &str); 2] = [
    ("requiredDuringSchedulingIgnoredDuringExecution", ""),
    ("preferredDuringSchedulingIgnoredDuringExecution", "podAffinityTerm"),
];

/// Writes what `matchLabelKeys` and `mismatchLabelKeys` mean for this pod into the label selectors of
/// its affinity terms and spread constraints, once, when the pod is created.
pub(super) fn merge_label_keys(pod: &mut Value) {
    let labels = match tree::at(pod, "metadata.labels") {
        Some(Value::Object(labels)) => labels.clone(),
        _ => return,
    };
    let Some(spec) = pod.get_mut("spec") else { return };
    tree::each(spec, "topologySpreadConstraints", |constraint| merge(constraint, &labels));
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.get_mut("affinity").and_then(|a| a.get_mut(kind)) else { continue };
        for (list, path) in TERMS {
            tree::each(affinity, list, |element| {
                let term = if path.is_empty() { Some(element) } else { element.get_mut(path) };
                if let Some(term) = term {
                    merge(term, &labels);
                }
            });
        }
    }
}

/// A term without a selector selects nothing, whatever its keys say.
fn merge(term: &mut Value, labels: &Map<String, Value>) {
    let mut expressions = Vec::new();
    for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in tree::list(term, keys).iter().filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                expressions.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    let Some(selector) = term.get_mut("labelSelector").filter(|_| !expressions.is_empty()) else { return };
    tree::set_if_absent(selector, "matchExpressions", Vec::<Value>::new());
    if let Some(Value::Array(list)) = selector.get_mut("matchExpressions") {
        list.extend(expressions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_requirements() {
        let term = json!({"labelSelector": {}, "matchLabelKeys": ["a", "absent"], "mismatchLabelKeys": ["b"]});
        let mut pod = json!({
            "metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": term}]}},
                "topologySpreadConstraints": [{"matchLabelKeys": ["a"]}],
            },
        });
        merge_label_keys(&mut pod);
        let preferred =
            &pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(
            preferred["podAffinityTerm"]["labelSelector"]["matchExpressions"],
            json!([{"key": "a", "operator": "In", "values": ["1"]}, {"key": "b", "operator": "NotIn", "values": ["2"]}])
        );
        assert_eq!(pod["spec"]["topologySpreadConstraints"][0].get("labelSelector"), None);
    }
}
