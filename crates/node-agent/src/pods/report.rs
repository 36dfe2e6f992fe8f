//! A pod's status on its way to the API, and what is given back when the pod is over.

use super::observe::Observed;
use super::plan::PodActions;
use super::sources;
use super::status::{self, Facts};
use super::worker::{RETRY, Step, Worker};
use super::{config, resources};
use crate::error::{Error, Result};
use crate::references::Lookup;
use crate::volumes;
use k8s_openapi::api::core::v1::Pod;
use kybern_api::error::{Reason, Status};
use kybern_client::transport::MERGE_PATCH;
use kybern_client::typed::merge_diff;
use kybern_client::write::{At, DeleteOptions};
use serde_json::json;

impl Worker {
    pub(super) async fn report(
        &mut self,
        pod: &Pod,
        observed: &Observed,
        plan: &PodActions,
        vanished: bool,
    ) -> Result<()> {
        if vanished || self.closed || self.shared.references.is_offline(pod) {
            return Ok(());
        }
        let marks = self.marks.lock().clone();
        let waiting = self.held.iter().map(|(n, h)| (n.clone(), h.waiting.clone())).collect();
        let host_ip = self.shared.config.node_ip.to_string();
        let made = status::status(&Facts {
            pod,
            observed,
            marks: &marks,
            waiting: &waiting,
            ending: self.ending.as_ref(),
            finished: plan.finished,
            granted: &self.granted,
            pending: self.pending.as_ref(),
            stuck: self.stuck.as_deref(),
            host_ip: &host_ip,
            host_network: config::host_network(pod),
            now: self.shared.clock.now(),
        });
        if matches!(made.phase.as_deref(), Some("Succeeded" | "Failed")) {
            // Before it is told: whoever reads it may send the next pod at once.
            self.shared.leave(&self.subject.uid);
        }
        let encode = |s: &k8s_openapi::api::core::v1::PodStatus| {
            serde_json::to_value(s).map_err(|source| Error::Decode { what: "PodStatus", source })
        };
        let made = encode(&made)?;
        if self.is_static {
            self.reported = Some(made.clone());
            return self.show(made).await;
        }
        let old = encode(&pod.status.clone().unwrap_or_default())?;
        let Some(diff) = merge_diff(&old, &made).filter(|_| self.reported.as_ref() != Some(&made)) else {
            return Ok(());
        };
        let patch = json!({ "metadata": { "uid": self.subject.uid }, "status": diff });
        let at = At {
            resource: &self.shared.pods,
            namespace: &self.subject.namespace,
            name: &self.subject.name,
            subresource: "status",
        };
        match self.shared.writer.patch(at, MERGE_PATCH, &patch).await {
            Ok(_) => self.reported = Some(made),
            // The watch will say so too. To a node, a pod that is gone is none of its pods: 403.
            Err(e) if is_gone(&e) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    /// Keeps the API's picture of a static pod. The pod does not depend on it: what fails is tried again
    /// when the pod is looked at next.
    async fn show(&mut self, made: serde_json::Value) -> Result<()> {
        let Some(node) = self.shared.node_uid.borrow().clone() else { return Ok(()) };
        let mirror = self.shared.mirrors.lock().get(&self.subject.uid).cloned();
        let pods = &self.shared.pods;
        let at = At { resource: pods, namespace: &self.subject.namespace, name: &self.subject.name, subresource: "" };
        let written = match (mirror, &self.manifest) {
            (None, Some(manifest)) => {
                let mirror = sources::mirror(manifest, &self.shared.config.name, &node)?;
                self.shared.writer.create(At { name: "", ..at }, &mirror).await.map(drop)
            }
            (None, None) => Ok(()),
            (Some(m), _) if m.head.deleting.is_some() => {
                let options = DeleteOptions { uid: Some(m.head.uid.to_string()), grace: Some(0), ..Default::default() };
                self.shared.writer.delete(at, &options).await.map(drop)
            }
            (Some(m), _) => {
                let tree: serde_json::Value = m.tree().map_err(|source| Error::Decode { what: "Pod", source })?;
                let old = tree.get("status").cloned().unwrap_or_else(|| json!({}));
                let Some(diff) = merge_diff(&old, &made) else { return Ok(()) };
                let patch = json!({ "metadata": { "uid": m.head.uid }, "status": diff });
                self.shared.writer.patch(At { subresource: "status", ..at }, MERGE_PATCH, &patch).await.map(drop)
            }
        };
        match written {
            Err(e) if !is_gone(&e) && e.reason != Reason::AlreadyExists => {
                tracing::debug!(pod = self.subject.name, error = %e, "the mirror is not up to date");
                self.refresh = Some(self.shared.clock.now() + RETRY * 5);
            }
            _ => {}
        }
        Ok(())
    }

    /// Everything has stopped: gives back what the pod held and, if it is being deleted, lets it go.
    pub(super) async fn finish(&mut self, pod: &Pod, vanished: bool) -> Result<Step> {
        if !self.released {
            let qos = resources::qos(pod);
            self.shared.cgroups.remove(&self.shared.cgroups.pod(qos, &self.subject.uid))?;
            self.shared.leave(&self.subject.uid);
            self.shared.references.release(&self.subject.uid);
            self.shared.tokens.forget(&self.subject.uid);
            self.shared.puller.forget(&self.subject.uid);
            volumes::tear_down(&self.shared.paths, &self.subject.uid)?;
            self.released = true;
        }
        if pod.metadata.deletion_timestamp.is_none() {
            return Ok(Step::Wait(None));
        }
        let (namespace, name, uid) = config::identity(pod);
        let logs = self.shared.paths.pod_logs(namespace, name, uid);
        match std::fs::remove_dir_all(&logs) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::file("remove", &logs)(e)),
            _ => {}
        }
        if vanished {
            let mirror = self.shared.mirrors.lock().remove(&self.subject.uid).filter(|_| self.is_static);
            if let Some(mirror) = mirror {
                super::delete_mirror(self.shared.clone(), mirror).await;
            }
            return Ok(Step::Gone);
        }
        let at = At { resource: &self.shared.pods, namespace, name, subresource: "" };
        let options = DeleteOptions { uid: Some(uid.to_owned()), grace: Some(0), ..Default::default() };
        match self.shared.writer.delete(at, &options).await {
            Ok(_) => Ok(Step::Wait(None)),
            Err(e) if is_gone(&e) => Ok(Step::Gone),
            Err(e) => Err(e.into()),
        }
    }
}

/// Is the pod of a write no more (or no more this node's, which the Node authoriser answers with 403)?
fn is_gone(e: &Status) -> bool {
    matches!(e.reason, Reason::NotFound) || e.reason == Reason::Forbidden && e.message.contains("no relationship found")
}
