//! A StatefulSet's pods have names, labels and claims that follow from their ordinals.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};
use kybern_api::object::Object;
use kybern_client::transport::MERGE_PATCH;
use kybern_client::typed;
use kybern_reconcile::plan::{Action, Ref};
use serde_json::json;
use smol_str::SmolStr;
use std::collections::BTreeMap;

/// The label with the name of the pod's revision.
pub(super) const REVISION_LABEL: &str = "controller-revision-hash";
const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The set's name and the ordinal that a pod's name says, if it is such a name.
pub(super) fn parse(pod: &str) -> Option<(&str, i64)> {
    let (set, ordinal) = pod.rsplit_once('-')?;
    let plain = !ordinal.is_empty() && ordinal.bytes().all(|b| b.is_ascii_digit());
    // A pod called web-01 is no pod of ours: each identity has one name.
    let canonical = ordinal == "0" || !ordinal.starts_with('0');
    (plain && canonical).then_some(())?;
    ordinal.parse::<i32>().ok().map(|n| (set, i64::from(n)))
}

/// The name of a set's pod.
pub(super) fn pod_name(set: &str, ordinal: i64) -> SmolStr {
    smol_str::format_smolstr!("{set}-{ordinal}")
}

/// The name of a pod's claim.
pub(super) fn claim_name(claim: &str, set: &str, ordinal: i64) -> SmolStr {
    smol_str::format_smolstr!("{claim}-{set}-{ordinal}")
}

/// The names of the set's claim templates.
pub(super) fn claim_templates(set: &StatefulSet) -> impl Iterator<Item = &str> {
    let templates = set.spec.as_ref().and_then(|s| s.volume_claim_templates.as_deref()).unwrap_or_default();
    templates.iter().filter_map(|t| t.metadata.name.as_deref())
}

/// The labels that tell the set's pods apart.
fn labels(set: &str, ordinal: i64) -> [(&'static str, String); 2] {
    [(NAME_LABEL, pod_name(set, ordinal).to_string()), (INDEX_LABEL, ordinal.to_string())]
}

/// The pod of an ordinal at a revision.
pub(super) fn pod(owner: &Object, set: &StatefulSet, ordinal: i64, revision: &str, template: PodTemplateSpec) -> Pod {
    let name = pod_name(&owner.head.name, ordinal);
    let mut pod = crate::template::pod::<StatefulSet>(owner, template);
    let own = pod.metadata.labels.get_or_insert_with(BTreeMap::new);
    own.extend(labels(&owner.head.name, ordinal).map(|(key, value)| (key.to_owned(), value)));
    own.insert(REVISION_LABEL.into(), revision.to_owned());
    pod.metadata.name = Some(name.to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name.to_string());
    spec.subdomain = set.spec.as_ref().and_then(|s| s.service_name.clone()).filter(|s| !s.is_empty());
    let claimed: Vec<&str> = claim_templates(set).collect();
    let mut volumes: Vec<Volume> = claimed.iter().map(|c| claim_volume(c, &owner.head.name, ordinal)).collect();
    volumes.extend(spec.volumes.take().into_iter().flatten().filter(|v| !claimed.contains(&v.name.as_str())));
    spec.volumes = (!volumes.is_empty()).then_some(volumes);
    pod
}

fn claim_volume(claim: &str, set: &str, ordinal: i64) -> Volume {
    let source =
        PersistentVolumeClaimVolumeSource { claim_name: claim_name(claim, set, ordinal).to_string(), read_only: None };
    Volume { name: claim.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() }
}

/// Puts the labels of its identity (back) on a pod that lacks them.
pub(super) fn repair(pod: &Object, set: &str, ordinal: i64) -> Option<Action> {
    let wanted = labels(set, ordinal);
    if wanted.iter().all(|(key, value)| pod.head.label(key) == Some(value)) {
        return None;
    }
    let labels: BTreeMap<&str, &String> = wanted.iter().map(|(k, v)| (*k, v)).collect();
    Some(Action::Patch {
        to: Ref::to(&typed::resource::<Pod>(), pod),
        subresource: "",
        media_type: MERGE_PATCH,
        patch: json!({"metadata": {"labels": labels, "resourceVersion": pod.revision.to_string()}}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_are_read_from_names() {
        assert_eq!(parse("web-0"), Some(("web", 0)));
        assert_eq!(parse("my-web-12"), Some(("my-web", 12)));
        for other in ["web", "web-", "web-x", "web-01", "web-00", "web--", "web-99999999999", "web-+1"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
