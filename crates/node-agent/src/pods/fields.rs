//! The downward API: fields and resources of a pod that its containers may read.

use super::resources;
use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use kybern_api::meta::quantity::Quantity;
use std::collections::BTreeMap;
use std::str::FromStr;

/// Values that are the node's to know.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Pod addresses.
    pub pod_ips: Vec<String>,
    /// The node's address.
    pub host_ip: String,
    /// Allocatable CPU in millicores: the limit of a container without one.
    pub cpu_milli: i64,
    /// Allocatable memory in bytes, likewise.
    pub memory: i64,
}

/// A field of the pod by path, as `fieldRef` names it.
///
/// # Errors
/// When the path is not one of those a container may read.
pub fn field(pod: &Pod, around: &Surroundings, path: &str) -> Result<String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    if let Some((map, key)) = subscript(path) {
        let values = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(unsupported(path)),
        };
        return Ok(values.and_then(|v| v.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => around.host_ip.clone(),
        "status.podIP" => around.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => around.pod_ips.join(","),
        _ => return Err(unsupported(path)),
    })
}

fn unsupported(path: &str) -> Error {
    Error::Pod(format!("unsupported fieldPath: {path}"))
}

/// `metadata.labels['key']` as (`metadata.labels`, `key`).
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once('[')?;
    let key = rest.strip_suffix(']')?.trim_matches(['\'', '"']);
    Some((map, key))
}

/// A map as the downward API writes it: `key="value"` lines, sorted.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(k, v)| format!("{k}={v:?}")).collect();
    lines.join("\n")
}

/// A container's request or limit, in units of the divisor, rounded up.
///
/// # Errors
/// When the resource or the divisor is none.
pub fn resource(container: &Container, around: &Surroundings, selector: &ResourceFieldSelector) -> Result<String> {
    let (kind, name) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| Error::Pod(format!("unsupported container resource: {}", selector.resource)))?;
    let amount = match kind {
        "limits" => resources::limit(container, name),
        "requests" => resources::request(container, name),
        _ => return Err(Error::Pod(format!("unsupported container resource: {}", selector.resource))),
    };
    let amount = amount.unwrap_or_else(|| match (kind, name) {
        ("limits", "cpu") => Quantity::from_milli(around.cpu_milli),
        ("limits", "memory") => Quantity::from_bytes(around.memory),
        _ => Quantity::ZERO,
    });
    let written = selector.divisor.as_ref().map(|d| d.0.as_str()).filter(|d| !d.is_empty() && *d != "0");
    let divisor = match written {
        Some(d) => Quantity::from_str(d).map_err(|e| Error::Pod(e.to_string()))?,
        None => Quantity::from_int(1),
    };
    let (amount, divisor) = match name {
        "cpu" => (amount.milli(), divisor.milli()),
        _ => (amount.value(), divisor.value()),
    };
    Ok(amount.div_euclid(divisor.max(1)).saturating_add(i64::from(amount.rem_euclid(divisor.max(1)) > 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_of_a_pod() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {"b": "2", "a": "1"}}, "spec": {"containers": [], "nodeName": "n"},
        }))
        .unwrap();
        let around = Surroundings { pod_ips: vec!["1.2.3.4".into()], ..Default::default() };
        let f = |path: &str| field(&pod, &around, path).unwrap();
        assert_eq!(f("metadata.labels"), "a=\"1\"\nb=\"2\"");
        assert_eq!(
            (f("metadata.labels['b']"), f("status.podIP"), f("spec.nodeName")),
            ("2".into(), "1.2.3.4".into(), "n".into())
        );
        assert!(field(&pod, &around, "spec.containers").is_err());
    }

    #[test]
    fn resources_round_up_in_their_divisor() {
        let c: Container = serde_json::from_value(json!({
            "name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "100Mi"}},
        }))
        .unwrap();
        let around = Surroundings { cpu_milli: 2000, memory: 1 << 30, ..Default::default() };
        let r = |resource: &str, divisor: &str| {
            let s = serde_json::from_value(json!({"resource": resource, "divisor": divisor})).unwrap();
            resource_of(&c, &around, &s)
        };
        assert_eq!(r("limits.cpu", "0"), "2");
        assert_eq!(r("limits.cpu", "1m"), "1500");
        assert_eq!(r("limits.memory", "1Mi"), "100");
        assert_eq!(r("requests.memory", "1"), (100 << 20).to_string());
    }

    fn resource_of(c: &Container, around: &Surroundings, s: &ResourceFieldSelector) -> String {
        resource(c, around, s).unwrap()
    }
}
