//! Binding a pod to a node.

use crate::error::Status;
use crate::meta::time;
use crate::tree;
use serde_json::{Value, json};

/// Assigns the pod to the binding's target, merges the binding's annotations, and says that the pod is
/// scheduled.
///
/// # Errors
/// 400 for a target that is no node; 409 for a pod that is gated, being deleted, or assigned already.
pub(super) fn bind(pod: &mut Value, binding: &Value, now: jiff::Timestamp) -> Result<(), Status> {
    let name = tree::text(pod, "metadata.name").to_owned();
    let node = tree::text(binding, "target.name").to_owned();
    let kind = tree::text(binding, "target.kind");
    if node.is_empty() || !matches!(kind, "" | "Node") {
        return Err(Status::bad_request("the target of a binding must be a node with a name"));
    }
    if let Some(why) = obstacle(pod, &name) {
        return Err(Status::conflict("", "pods/binding", &name, &why));
    }
    if let Some(spec) = tree::object(pod, "spec") {
        tree::set_default(spec, "nodeName", node);
    }
    annotate(pod, binding);
    if let Some(status) = tree::object(pod, "status") {
        scheduled(status, &time::time(now));
    }
    Ok(())
}

fn obstacle(pod: &Value, name: &str) -> Option<String> {
    if tree::at(pod, "metadata.deletionTimestamp").is_some() {
        return Some(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    match tree::text(pod, "spec.nodeName") {
        "" => {}
        node => return Some(format!("pod {name} is already assigned to node {node:?}")),
    }
    let gated = !tree::list(pod, "spec.schedulingGates").is_empty();
    gated.then(|| format!("pod {name} has non-empty .spec.schedulingGates"))
}

fn annotate(pod: &mut Value, binding: &Value) {
    let Some(Value::Object(new)) = tree::at(binding, "metadata.annotations") else { return };
    let annotations = tree::object(pod, "metadata").and_then(|m| tree::object(m, "annotations"));
    if let Some(Value::Object(annotations)) = annotations {
        annotations.extend(new.clone());
    }
}

fn scheduled(status: &mut Value, now: &str) {
    let condition = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now});
    tree::set_if_absent(status, "conditions", Vec::<Value>::new());
    let Some(Value::Array(conditions)) = status.get_mut("conditions") else { return };
    match conditions.iter_mut().find(|c| tree::text(c, "type") == "PodScheduled") {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

    fn binding(node: &str) -> Value {
        json!({"metadata": {"name": "p", "annotations": {"b": "2"}}, "target": {"kind": "Node", "name": node}})
    }

    #[test]
    fn a_free_pod_is_bound() {
        let mut pod = json!({"metadata": {"name": "p", "annotations": {"a": "1"}}, "spec": {},
            "status": {"conditions": [{"type": "PodScheduled", "status": "False"}]}});
        bind(&mut pod, &binding("n1"), jiff::Timestamp::UNIX_EPOCH).expect("it is free");
        assert_eq!(pod["spec"]["nodeName"], "n1");
        assert_eq!(pod["metadata"]["annotations"], json!({"a": "1", "b": "2"}));
        assert_eq!(pod["status"]["conditions"].as_array().map(Vec::len), Some(1));
        assert_eq!(pod["status"]["conditions"][0]["status"], "True");
    }

    #[test]
    fn obstacles_are_conflicts() {
        let cases = [
            (json!({"spec": {"nodeName": "n2"}}), r#"pod p is already assigned to node "n2""#),
            (json!({"spec": {"schedulingGates": [{"name": "g"}]}}), "pod p has non-empty .spec.schedulingGates"),
        ];
        for (mut pod, why) in cases {
            pod["metadata"] = json!({"name": "p"});
            let refused = bind(&mut pod, &binding("n1"), jiff::Timestamp::UNIX_EPOCH).expect_err("an obstacle");
            assert_eq!(refused.reason, Reason::Conflict);
            assert!(refused.message.ends_with(why), "{}", refused.message);
        }
        assert!(bind(&mut json!({}), &binding(""), jiff::Timestamp::UNIX_EPOCH).is_err());
    }
}
