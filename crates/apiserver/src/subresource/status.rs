//! Which part of an object a write through a subresource may change.

use kybern_api::kind::KindDef;
use kybern_api::tree;
use serde_json::Value;

/// How a subresource's body and the stored object become the new object.
enum Part {
    /// The body, but for the status.
    AllButStatus,
    /// Status and metadata.
    Status,
    /// One list of the spec.
    SpecList(&'static str),
    /// Everything: the subresource's own code has put the object together.
    Everything,
}

fn part(subresource: &str) -> Part {
    match subresource {
        "status" | "approval" => Part::Status,
        "finalize" => Part::SpecList("finalizers"),
        "ephemeralcontainers" => Part::SpecList("ephemeralContainers"),
        "binding" | "eviction" => Part::Everything,
        _ => Part::AllButStatus,
    }
}

/// Keeps what a write may not touch: to the object its status, to the status the rest.
pub fn isolate(def: &KindDef, subresource: &str, obj: &mut Value, old: &Value) {
    match part(subresource) {
        Part::AllButStatus if def.has_status() => tree::copy(obj, old, "status"),
        Part::AllButStatus | Part::Everything => {}
        Part::Status => {
            let body = std::mem::replace(obj, old.clone());
            tree::copy(obj, &body, "status");
            tree::copy(obj, &body, "metadata");
        }
        Part::SpecList(name) => {
            let body = std::mem::replace(obj, old.clone());
            if let (Some(spec), Some(sent)) = (tree::object(obj, "spec"), body.get("spec")) {
                tree::copy(spec, sent, name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_part_takes_its_own() {
        let def = kybern_api::kinds::find("", "pods").expect("pods are in the table");
        let old = json!({"metadata": {"name": "a"}, "spec": {"n": 1}, "status": {"s": 1}});
        let body = json!({"metadata": {"name": "a", "labels": {}}, "spec": {"n": 2, "ephemeralContainers": [1]}, "status": {"s": 2}});
        let cases = [
            ("", json!({"n": 2, "ephemeralContainers": [1]}), 1),
            ("status", json!({"n": 1}), 2),
            ("ephemeralcontainers", json!({"n": 1, "ephemeralContainers": [1]}), 1),
        ];
        for (subresource, spec, status) in cases {
            let mut obj = body.clone();
            isolate(def, subresource, &mut obj, &old);
            assert_eq!((&obj["spec"], obj["status"]["s"].as_i64()), (&spec, Some(status)), "{subresource:?}");
        }
    }
}
