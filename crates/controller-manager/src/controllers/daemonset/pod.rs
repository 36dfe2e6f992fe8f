//! The pod of a node: the template, tolerations for what befalls nodes, and an affinity for this one.

use super::HASH_LABEL;
use crate::members::Member;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec, Toleration,
};
use kybern_api::object::Object;
use kybern_api::placement::{NO_EXECUTE, NO_SCHEDULE};
use kybern_client::transport::MERGE_PATCH;
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::plan::{Action, Ref};
use serde_json::json;
use smol_str::SmolStr;
use std::collections::BTreeMap;

/// Taints that say something about a node which its daemons have to live with.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", NO_EXECUTE),
    ("node.kubernetes.io/unreachable", NO_EXECUTE),
    ("node.kubernetes.io/disk-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/memory-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/pid-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/unschedulable", NO_SCHEDULE),
];
/// For pods in the host's network, which may be what brings the network up.
const NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", NO_SCHEDULE);

/// How often in a row the pod of this node has failed before this one. Kept on the pod, so that a new
/// leader does not begin to hurry.
const FAILURES: &str = "kybern.io/failed-before";

/// What decides about nodes: the template's spec as its pods will have it.
pub(super) struct Judge {
    pub(super) spec: PodSpec,
}

impl Judge {
    pub(super) fn of(template: &PodTemplateSpec) -> Self {
        let mut spec = template.spec.clone().unwrap_or_default();
        tolerate(&mut spec);
        Self { spec }
    }
}

/// The pod of a node.
pub(super) fn pod(owner: &Object, template: &PodTemplateSpec, hash: &str, node: &str, failures: u32) -> Pod {
    let mut pod = crate::template::pod::<DaemonSet>(owner, template.clone());
    let labels = pod.metadata.labels.get_or_insert_with(BTreeMap::new);
    labels.insert(HASH_LABEL.into(), hash.to_owned());
    if failures > 0 {
        let annotations = pod.metadata.annotations.get_or_insert_with(BTreeMap::new);
        annotations.insert(FAILURES.into(), failures.to_string());
    }
    let spec = pod.spec.get_or_insert_default();
    tolerate(spec);
    bind(spec, node);
    pod
}

fn tolerate(spec: &mut PodSpec) {
    let host_network = spec.host_network.unwrap_or(false).then_some(NETWORK);
    let tolerations = spec.tolerations.get_or_insert_with(Vec::new);
    for (key, effect) in TOLERATED.into_iter().chain(host_network) {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        };
        let same = |t: &Toleration| {
            t.key == toleration.key && t.operator == toleration.operator && t.effect == toleration.effect
        };
        match tolerations.iter_mut().find(|t| same(t)) {
            Some(there) => *there = toleration,
            None => tolerations.push(toleration),
        }
    }
}

/// Requires this very node, in place of what the template requires of nodes: that was judged here.
fn bind(spec: &mut PodSpec, node: &str) {
    let name = NodeSelectorRequirement {
        key: "metadata.name".into(),
        operator: "In".into(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_expressions: None, match_fields: Some(vec![name]) };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node a pod is on or made for; empty when it says neither.
pub(super) fn node_of(member: &Member<'_>) -> Result<SmolStr, Error> {
    if !member.row.node.is_empty() {
        return Ok(member.row.node.clone());
    }
    let pod = decode(member)?;
    let required = pod
        .spec
        .and_then(|s| s.affinity?.node_affinity?.required_during_scheduling_ignored_during_execution)
        .map(|r| r.node_selector_terms)
        .unwrap_or_default();
    let mut fields = required.into_iter().flat_map(|t| t.match_fields.unwrap_or_default());
    let named = fields.find(|f| f.key == "metadata.name" && f.operator == "In");
    let name = named.and_then(|f| f.values).filter(|v| v.len() == 1).and_then(|v| v.into_iter().next());
    Ok(name.map(SmolStr::from).unwrap_or_default())
}

/// How often in a row the pods of its node failed before this one.
pub(super) fn failures(member: &Member<'_>) -> Result<u32, Error> {
    let annotations = decode(member)?.metadata.annotations.unwrap_or_default();
    Ok(annotations.get(FAILURES).and_then(|n| n.parse().ok()).unwrap_or(0))
}

fn decode(member: &Member<'_>) -> Result<Pod, Error> {
    member.object.view().map_err(|e| Error::Decode(member.object.head.key(), e))
}

/// Puts a pod under another revision of the same template.
pub(super) fn relabel(pod: &Object, hash: &str) -> Action {
    Action::Patch {
        to: Ref::to(&typed::resource::<Pod>(), pod),
        subresource: "",
        media_type: MERGE_PATCH,
        patch: json!({"metadata": {"labels": {HASH_LABEL: hash}, "resourceVersion": pod.revision.to_string()}}),
    }
}
