//! Pods on the node.

use super::node::{changed_labels, differs, is_self};
use super::{Judged, is_mirror_pod, list, text};
use crate::plugin::Operation;
use kybern_api::error::Status;
use serde_json::Value;

impl Judged<'_> {
    pub(super) fn pod(&self, obj: Option<&Value>) -> Result<(), Status> {
        match (self.req.subresource, self.req.operation) {
            ("", Operation::Create) => obj.map_or(Ok(()), |pod| self.mirror_pod(pod)),
            ("", Operation::Delete) | ("eviction", Operation::Create) => self.on_this_node(),
            ("status", Operation::Update) => {
                self.on_this_node()?;
                obj.map_or(Ok(()), |pod| self.pod_status(pod))
            }
            ("", _) => self.refuse("can only create and delete mirror pods, and delete pods bound to itself"),
            (other, _) => self.refuse(&format!("may not use the pod subresource \"{other}\"")),
        }
    }

    /// What the request was read from says it, where there is that; else what the server knows.
    fn on_this_node(&self) -> Result<(), Status> {
        let here = match self.req.old {
            Some(pod) => text(pod, "/spec/nodeName") == self.node,
            None => self.bound_pod(self.req.name).is_some(),
        };
        match here {
            true => Ok(()),
            false => self.refuse("can only act on pods with spec.nodeName set to itself"),
        }
    }

    /// A node makes pods only as mirrors of what it runs by itself; such a pod opens nothing.
    fn mirror_pod(&self, pod: &Value) -> Result<(), Status> {
        if !is_mirror_pod(pod) {
            return self.refuse("can only create mirror pods");
        }
        if text(pod, "/spec/nodeName") != self.node {
            return self.refuse("can only create pods with spec.nodeName set to itself");
        }
        if !matches!(list(pod, "/metadata/ownerReferences"), [owner] if is_self(self, owner)) {
            return self.refuse("can only create pods with an owner reference set to itself");
        }
        match opened(pod) {
            Some(what) => self.refuse(&format!("can not create pods that reference {what}")),
            None => Ok(()),
        }
    }

    /// Labels select pods for services and policies: they are not the node's.
    fn pod_status(&self, pod: &Value) -> Result<(), Status> {
        let old = self.req.old.unwrap_or(&Value::Null);
        if !changed_labels(pod, old).is_empty() {
            return self.refuse("cannot update labels through pod status");
        }
        if differs(pod, old, "/metadata/ownerReferences") {
            return self.refuse("cannot update ownerReferences through pod status");
        }
        // a claim in the status would open the claim to the node (CVE-2025-4563)
        if differs(pod, old, "/status/resourceClaimStatuses") {
            return self.refuse("cannot update resource claim statuses");
        }
        Ok(())
    }
}

/// Anything a pod references that would become readable to its node.
fn opened(pod: &Value) -> Option<&'static str> {
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Some("a service account");
    }
    if !list(pod, "/spec/imagePullSecrets").is_empty() {
        return Some("secrets");
    }
    if !list(pod, "/spec/resourceClaims").is_empty() {
        return Some("resource claims");
    }
    let by_volume = list(pod, "/spec/volumes").iter().find_map(volume);
    let kinds = ["containers", "initContainers", "ephemeralContainers"];
    let mut containers = kinds.iter().flat_map(|kind| list(pod, &format!("/spec/{kind}")));
    by_volume.or_else(|| containers.find_map(environment))
}

/// Volumes that hold nothing but what the node has anyway are let through; every other kind is not.
fn volume(volume: &Value) -> Option<&'static str> {
    let harmless = ["name", "hostPath", "emptyDir", "downwardAPI", "image"];
    let kinds = volume.as_object()?.iter().filter(|(_, value)| !value.is_null());
    kinds.map(|(key, _)| key.as_str()).find(|key| !harmless.contains(key)).map(|kind| match kind {
        "persistentVolumeClaim" | "ephemeral" => "persistent volume claims",
        "configMap" => "config maps",
        _ => "secrets",
    })
}

fn environment(container: &Value) -> Option<&'static str> {
    let from_variable = list(container, "/env").iter().find_map(|variable| {
        let source = variable.get("valueFrom")?;
        source.get("secretKeyRef").map(|_| "secrets").or(source.get("configMapKeyRef").map(|_| "config maps"))
    });
    let from_object = || {
        list(container, "/envFrom").iter().find_map(|source| {
            source.get("secretRef").map(|_| "secrets").or(source.get("configMapRef").map(|_| "config maps"))
        })
    };
    from_variable.or_else(from_object)
}
