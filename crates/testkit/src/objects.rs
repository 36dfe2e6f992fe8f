//! The smallest objects that are valid; tests set what matters to them.

use serde_json::{Value, json};

/// A namespace.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// A config map with one key.
pub fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}})
}

/// A secret with one key; `value` is base64.
pub fn secret(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"key": value}})
}

/// A pod of one container.
pub fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod_spec()})
}

/// The spec of a pod of one container.
pub fn pod_spec() -> Value {
    json!({"containers": [{"name": "main", "image": "example.org/web:1"}]})
}

/// A deployment whose pods carry `app: NAME`.
pub fn deployment(name: &str, replicas: i64) -> Value {
    workload("apps/v1", "Deployment", name, replicas)
}

/// A replica set whose pods carry `app: NAME`.
pub fn replica_set(name: &str, replicas: i64) -> Value {
    workload("apps/v1", "ReplicaSet", name, replicas)
}

fn workload(version: &str, kind: &str, name: &str, replicas: i64) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec()},
        },
    })
}

/// A service on port 80 for pods that carry `app: NAME`.
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    })
}

/// A node with room for pods.
pub fn node(name: &str) -> Value {
    let room = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}
