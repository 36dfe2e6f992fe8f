//! The node's own Node.

use super::{Judged, text};
use crate::plugin::Operation;
use kybern_api::error::Status;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Labels that only administrators set, for keeping workloads on trusted nodes.
const RESERVED_PREFIX: &str = "node-restriction.kubernetes.io/";
/// Of Kubernetes' own label domains, what a node may say of itself.
const OWN_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/windows-build",
];
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

impl Judged<'_> {
    pub(super) fn node(&self, obj: Option<&Value>) -> Result<(), Status> {
        if self.object_name(obj) != self.node {
            return self.refuse(&format!("is not allowed to modify node \"{}\"", self.object_name(obj)));
        }
        let Some(new) = obj else { return Ok(()) };
        let empty = Value::Null;
        let old = match self.req.operation {
            Operation::Create => &empty,
            Operation::Update => self.req.old.unwrap_or(&empty),
            Operation::Delete | Operation::Connect => return Ok(()),
        };
        self.labels(new, old)?;
        if self.req.operation == Operation::Create {
            return Ok(());
        }
        // a node that sheds its taints draws pods that were kept off it
        if differs(new, old, "/spec/taints") {
            return self.refuse("is not allowed to modify taints");
        }
        // an owner that does not exist would have the node's Node collected (CVE-2025-5187)
        if differs(new, old, "/metadata/ownerReferences") {
            return self.refuse("is not allowed to modify ownerReferences");
        }
        Ok(())
    }

    fn labels(&self, new: &Value, old: &Value) -> Result<(), Status> {
        let refused: Vec<&str> = changed_labels(new, old).into_iter().filter(|label| !may_set(label)).collect();
        if refused.is_empty() {
            return Ok(());
        }
        self.refuse(&format!("is not allowed to modify labels: {}", refused.join(", ")))
    }
}

/// Absent, null and empty are the same.
pub(super) fn differs(new: &Value, old: &Value, pointer: &str) -> bool {
    let part = |tree: &Value| {
        let found = tree.pointer(pointer).cloned().unwrap_or(Value::Null);
        if found.as_array().is_some_and(Vec::is_empty) { Value::Null } else { found }
    };
    part(new) != part(old)
}

/// Keys of labels that were added, changed or removed.
pub(super) fn changed_labels<'a>(new: &'a Value, old: &'a Value) -> BTreeSet<&'a str> {
    fn labels(tree: &Value) -> Option<&Map<String, Value>> {
        tree.pointer("/metadata/labels").and_then(Value::as_object)
    }
    let (new, old) = (labels(new), labels(old));
    let keys = new.into_iter().chain(old).flat_map(|map| map.keys());
    keys.filter(|key| new.and_then(|m| m.get(*key)) != old.and_then(|m| m.get(*key))).map(String::as_str).collect()
}

/// Labels outside Kubernetes' domains are free; inside, only those that say what a node knows of itself.
fn may_set(label: &str) -> bool {
    if label.starts_with(RESERVED_PREFIX) || label.contains(&format!(".{RESERVED_PREFIX}")) {
        return false;
    }
    let Some((domain, _)) = label.split_once('/') else { return true };
    let inside = |root: &str| domain == root || domain.strip_suffix(root).is_some_and(|rest| rest.ends_with('.'));
    if !inside("kubernetes.io") && !inside("k8s.io") {
        return true;
    }
    OWN_LABELS.contains(&label) || OWN_DOMAINS.into_iter().any(inside)
}

/// The uid of the stored Node.
pub(super) fn stored_uid(judged: &Judged<'_>) -> Option<String> {
    judged.env.objects.get("", "nodes", "", judged.node).map(|node| node.head.uid.to_string())
}

/// Is the reference the node itself, as a mirror pod's owner must be?
pub(super) fn is_self(judged: &Judged<'_>, owner: &Value) -> bool {
    let flag = |key: &str| owner.get(key).and_then(Value::as_bool).unwrap_or_default();
    text(owner, "/apiVersion") == "v1"
        && text(owner, "/kind") == "Node"
        && text(owner, "/name") == judged.node
        && stored_uid(judged).is_some_and(|uid| uid == text(owner, "/uid"))
        && flag("controller")
        && !flag("blockOwnerDeletion")
}
