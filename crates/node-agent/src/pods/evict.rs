//! Evictions for storage: a pod that uses more of the node's disk than it may. Pure.

use super::resources;
use super::status::Ending;
use k8s_openapi::api::core::v1::Pod;
use kybern_api::meta::quantity::Quantity;
use std::collections::BTreeMap;

const STORAGE: &str = "ephemeral-storage";

/// What a pod uses of the node's disk, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// By container: its own layer and its logs.
    pub containers: BTreeMap<String, i64>,
    /// By emptyDir volume on disk.
    pub volumes: BTreeMap<String, i64>,
}

/// Does the pod say how much disk it may use? Others need not be measured.
pub fn is_limited(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let limited = spec.containers.iter().any(|c| resources::limit(c, STORAGE).is_some());
    let sized = |v: &k8s_openapi::api::core::v1::Volume| v.empty_dir.as_ref().is_some_and(|e| e.size_limit.is_some());
    limited || spec.volumes.iter().flatten().any(sized)
}

/// Why the pod has to go; None: it keeps to its limits.
pub fn over_limit(pod: &Pod, used: &DiskUse) -> Option<Ending> {
    let spec = pod.spec.as_ref()?;
    let evicted =
        |message: String| Some(Ending { reason: "Evicted".into(), message, grace: Some(1), disruption: true });
    for volume in spec.volumes.iter().flatten() {
        let limit = volume.empty_dir.as_ref().and_then(|e| e.size_limit.as_ref()?.0.parse::<Quantity>().ok());
        let size = used.volumes.get(&volume.name).copied().unwrap_or(0);
        if let Some(limit) = limit.filter(|l| !l.is_zero() && size > l.value()) {
            return evicted(format!("Usage of EmptyDir volume \"{}\" exceeds the limit \"{limit}\". ", volume.name));
        }
    }
    let limits: Vec<Option<Quantity>> = spec.containers.iter().map(|c| resources::limit(c, STORAGE)).collect();
    if let Some(total) = limits.iter().copied().try_fold(Quantity::ZERO, |sum, l| l.map(|l| sum + l))
        && !limits.is_empty()
        && used.containers.values().sum::<i64>() + used.volumes.values().sum::<i64>() > total.value()
    {
        return evicted(format!("Pod ephemeral local storage usage exceeds the total limit of containers {total}. "));
    }
    for (c, limit) in spec.containers.iter().zip(limits) {
        let size = used.containers.get(&c.name).copied().unwrap_or(0);
        if let Some(limit) = limit.filter(|l| size > l.value()) {
            return evicted(format!("Container {} exceeded its local ephemeral storage limit \"{limit}\". ", c.name));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(limits: [Option<&str>; 2], volume: Option<&str>) -> Pod {
        let container = |name: &str, limit: Option<&str>| match limit {
            Some(l) => json!({"name": name, "resources": {"limits": {STORAGE: l}}}),
            None => json!({"name": name}),
        };
        let volumes = volume.map(|v| json!([{"name": "v", "emptyDir": {"sizeLimit": v}}]));
        serde_json::from_value(json!({"metadata": {}, "spec": {
            "containers": [container("a", limits[0]), container("b", limits[1])], "volumes": volumes}}))
        .unwrap()
    }

    #[test]
    fn limits_of_volumes_pods_and_containers() {
        let used = DiskUse {
            containers: [("a".to_owned(), 600), ("b".to_owned(), 10)].into(),
            volumes: [("v".to_owned(), 500)].into(),
        };
        let said = |pod: &Pod| over_limit(pod, &used).map(|e| e.message).unwrap_or_default();
        assert_eq!(said(&pod([None, None], None)), "");
        assert_eq!(said(&pod([None, None], Some("500"))), "");
        assert_eq!(said(&pod([None, None], Some("499"))), "Usage of EmptyDir volume \"v\" exceeds the limit \"499\". ");
        assert_eq!(
            said(&pod([Some("500"), Some("500")], None)),
            "Pod ephemeral local storage usage exceeds the total limit of containers 1k. "
        );
        assert_eq!(
            said(&pod([Some("500"), None], None)),
            "Container a exceeded its local ephemeral storage limit \"500\". "
        );
        assert!(is_limited(&pod([Some("1"), None], None)) && is_limited(&pod([None, None], Some("1"))));
        assert!(!is_limited(&pod([None, None], None)));
    }
}
