//! The annotations by which a Deployment, its sets and kubectl talk.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use std::collections::BTreeMap;

/// The set's place in the history; the Deployment carries its newest set's.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier places of a set that was rolled back to, comma-separated.
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's size when the set was last sized.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// That size plus the surge then allowed.
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// The label that tells the sets' pods apart.
pub(super) const HASH_LABEL: &str = "pod-template-hash";

/// Annotations that belong to one object and are not copied to its sets.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// Longest revision history kept.
const HISTORY_LIMIT: usize = 2000;

/// The revision an annotated object carries; 0 for none.
pub(super) fn revision(annotations: Option<&BTreeMap<String, String>>) -> i64 {
    annotations.and_then(|a| a.get(REVISION)).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// Notes the Deployment's size on a set.
pub(super) fn remember_size(set: &mut ReplicaSet, desired: i32, max: i32) {
    let annotations = set.metadata.annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert(DESIRED.into(), desired.to_string());
    annotations.insert(MAX.into(), max.to_string());
}

/// Brings the new set's annotations up to date: the Deployment's own ones, the revision, and the
/// revisions it had before.
pub(super) fn update_set(set: &mut ReplicaSet, deployment: &Deployment, revision: i64) {
    let annotations = set.metadata.annotations.get_or_insert_with(BTreeMap::new);
    for (key, value) in deployment.metadata.annotations.iter().flatten().filter(|(k, _)| !OWN.contains(&k.as_str())) {
        annotations.insert(key.clone(), value.clone());
    }
    let before = annotations.get(REVISION).cloned();
    let stands_at = before.as_ref().and_then(|r| r.parse::<i64>().ok()).unwrap_or(0);
    if stands_at >= revision {
        return;
    }
    annotations.insert(REVISION.into(), revision.to_string());
    if let Some(before) = before.filter(|b| !b.is_empty()) {
        let history = annotations.get(REVISION_HISTORY).filter(|h| !h.is_empty());
        let mut history = history.map_or_else(|| before.clone(), |h| format!("{h},{before}"));
        while history.len() > HISTORY_LIMIT {
            history = history.split_once(',').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        }
        annotations.insert(REVISION_HISTORY.into(), history);
    }
}
