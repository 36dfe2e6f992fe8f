//! The only IO: volumes, bindings and victims, and what is said about pods that have no node.

use crate::pod::PodInfo;
use crate::volume::{Claim, SELECTED_NODE, Volume, VolumePlan};
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kybern_api::error::{Reason, Status};
use kybern_api::seam::Clock;
use kybern_client::informer::Informer;
use kybern_client::transport::{MERGE_PATCH, Resource, STRATEGIC_MERGE_PATCH};
use kybern_client::typed;
use kybern_client::write::{At, DeleteOptions, Writer};
use kybern_reconcile::events::Recorder;
use kybern_reconcile::plan::Note;
use kybern_reconcile::view::whole_seconds;
use serde_json::{Value, json};
use smol_str::SmolStr;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Says of a volume that its claim was chosen for it, not by its maker.
const CHOSEN: &str = "pv.kubernetes.io/bound-by-controller";

/// Writes decisions.
#[derive(Clone)]
pub(crate) struct Binder {
    writer: Writer,
    /// By `schedulerName`.
    recorders: Arc<HashMap<SmolStr, Recorder>>,
    clock: Arc<dyn Clock>,
    claims: Arc<Informer>,
    pods: Resource,
}

/// How long a binding waits for its volumes.
pub(crate) type Patience = Duration;

impl Binder {
    pub(crate) fn new(
        writer: Writer,
        recorders: HashMap<SmolStr, Recorder>,
        clock: Arc<dyn Clock>,
        claims: Arc<Informer>,
    ) -> Self {
        Self { writer, recorders: Arc::new(recorders), clock, claims, pods: typed::resource::<Pod>() }
    }

    fn at<'a>(&'a self, pod: &'a PodInfo, subresource: &'a str) -> At<'a> {
        At { resource: &self.pods, namespace: &pod.name.namespace, name: &pod.name.name, subresource }
    }

    /// Gives a pod its volumes and its node.
    ///
    /// # Errors
    /// The server's Status, or a Timeout of the volumes; the pod has no node then.
    pub(crate) async fn bind(
        &self,
        pod: &PodInfo,
        node: &SmolStr,
        volumes: &VolumePlan,
        patience: Patience,
    ) -> Result<(), Status> {
        let done = match self.prepare(node, volumes, patience).await {
            Ok(()) => self
                .bind_pod(pod, node)
                .await
                .map_err(|s| ("binding rejected: running Bind plugin \"DefaultBinder\"", s)),
            Err(status) => Err(("running PreBind plugin \"VolumeBinding\": binding volumes", status)),
        };
        match done {
            Ok(()) => {
                let message = format!("Successfully assigned {}/{} to {node}", pod.name.namespace, pod.name.name);
                self.note(pod, false, "Scheduled", message);
                Ok(())
            }
            Err((step, status)) => {
                if status.reason != Reason::NotFound {
                    self.note(pod, true, "FailedScheduling", format!("{step}: {status}"));
                }
                Err(status)
            }
        }
    }

    /// Binds a pod. After an unknown outcome the server is asked.
    async fn bind_pod(&self, pod: &PodInfo, node: &SmolStr) -> Result<(), Status> {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.name.name.to_string()),
                namespace: Some(pod.name.namespace.to_string()),
                uid: Some(pod.uid.to_string()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some(<Node as k8s_openapi::Resource>::KIND.into()),
                name: Some(node.to_string()),
                ..ObjectReference::default()
            },
        };
        let body = typed::tree(&binding).map_err(|e| Status::internal(e.to_string()))?;
        match self.writer.create(self.at(pod, "binding"), &body).await {
            Ok(_) => Ok(()),
            Err(status) if status.reason == Reason::Timeout => self.look(pod, node, status).await,
            Err(status) => Err(status),
        }
    }

    /// Is the pod bound as decided, although the answer was lost?
    async fn look(&self, pod: &PodInfo, node: &SmolStr, lost: Status) -> Result<(), Status> {
        let found = self.writer.transport().get(&self.pods, &pod.name.namespace, &pod.name.name).await?;
        let bound = PodInfo::read(&found).is_ok_and(|p| p.uid == pod.uid && p.node == *node);
        if bound { Ok(()) } else { Err(lost) }
    }

    /// Gives volumes to claims, has others made, and waits until all claims are bound.
    async fn prepare(&self, node: &SmolStr, plan: &VolumePlan, patience: Patience) -> Result<(), Status> {
        if plan.is_empty() {
            return Ok(());
        }
        for (volume, claim) in &plan.bind {
            self.promise(volume, claim).await?;
        }
        for claim in plan.provision.iter().filter(|c| c.selected.is_empty()) {
            self.select(claim, node).await?;
        }
        let claims = plan.bind.iter().map(|(_, c)| c).chain(&plan.provision);
        let wanted: Vec<&Arc<Claim>> = claims.collect();
        let settled = self.claims.until(|store| {
            let state = |c: &&Arc<Claim>| Claim::read(&store.get(&c.name)?.object).ok();
            wanted.iter().all(|c| state(c).is_some_and(|s| s.bound)) || wanted.iter().any(|c| state(c).is_none())
        });
        match tokio::time::timeout(patience, settled).await {
            Ok(()) => wanted.iter().try_for_each(|c| match self.claims.get(&c.name) {
                Some(_) => Ok(()),
                None => Err(Status::internal(crate::volume::not_found(&c.name.name))),
            }),
            Err(_) => Err(Status::new(Reason::Timeout, "context deadline exceeded")),
        }
    }

    async fn promise(&self, volume: &Volume, claim: &Claim) -> Result<(), Status> {
        let reference = json!({
            "apiVersion": "v1", "kind": <PersistentVolumeClaim as k8s_openapi::Resource>::KIND,
            "namespace": claim.name.namespace, "name": claim.name.name, "uid": claim.uid,
            "resourceVersion": claim.revision.to_string(),
        });
        let metadata = json!({"resourceVersion": volume.revision.to_string(), "annotations": {CHOSEN: "yes"}});
        let patch = json!({"metadata": metadata, "spec": {"claimRef": reference}});
        let resource = typed::resource::<PersistentVolume>();
        let at = At { resource: &resource, namespace: "", name: &volume.name, subresource: "" };
        self.writer.patch(at, MERGE_PATCH, &patch).await.map(|_| ())
    }

    async fn select(&self, claim: &Claim, node: &SmolStr) -> Result<(), Status> {
        let metadata = json!({"resourceVersion": claim.revision.to_string(), "annotations": {SELECTED_NODE: node}});
        let resource = typed::resource::<PersistentVolumeClaim>();
        let (namespace, name) = (&claim.name.namespace, &claim.name.name);
        let at = At { resource: &resource, namespace, name, subresource: "" };
        self.writer.patch(at, MERGE_PATCH, &json!({ "metadata": metadata })).await.map(|_| ())
    }

    /// Tells why a pod has no node, and for which it is nominated (None: that stays); not again what
    /// it already says.
    pub(crate) async fn refuse(&self, pod: &PodInfo, message: &str, nominated: Option<&SmolStr>) {
        self.note(pod, true, "FailedScheduling", message.to_owned());
        let mut status = serde_json::Map::new();
        if pod.complaint.as_deref() != Some(message) {
            let condition = self.condition("PodScheduled", "False", "Unschedulable", message);
            status.insert("conditions".into(), json!([condition]));
        }
        if let Some(node) = nominated.filter(|n| **n != pod.nominated) {
            status.insert("nominatedNodeName".into(), if node.is_empty() { Value::Null } else { json!(node) });
        }
        self.patch_status(pod, status).await;
    }

    /// A more important pod has taken the nomination.
    pub(crate) async fn clear_nomination(&self, pod: &PodInfo) {
        self.patch_status(pod, serde_json::Map::from_iter([("nominatedNodeName".to_owned(), Value::Null)])).await;
    }

    async fn patch_status(&self, pod: &PodInfo, status: serde_json::Map<String, Value>) {
        if status.is_empty() {
            return;
        }
        let patch = json!({"metadata": {"uid": pod.uid}, "status": status});
        if let Err(status) = self.writer.patch(self.at(pod, "status"), STRATEGIC_MERGE_PATCH, &patch).await {
            tracing::debug!(pod = %pod.name.name, error = %status, "status not written");
        }
    }

    fn condition(&self, kind: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": Time(whole_seconds(self.clock.now())),
        })
    }

    /// Deletes a victim of `pod`, saying why. One that is gone already is as good.
    ///
    /// # Errors
    /// The server's Status.
    pub(crate) async fn evict(&self, victim: &PodInfo, pod: &PodInfo, node: &SmolStr) -> Result<(), Status> {
        let message = format!("{}: preempting to accommodate a higher priority pod", pod.scheduler);
        let condition = self.condition("DisruptionTarget", "True", "PreemptionByScheduler", &message);
        let patch = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}});
        let told = self.writer.patch(self.at(victim, "status"), STRATEGIC_MERGE_PATCH, &patch).await.map(|_| ());
        let options = DeleteOptions { uid: Some(victim.uid.to_string()), ..DeleteOptions::default() };
        let gone = match told {
            Ok(()) => self.writer.delete(self.at(victim, ""), &options).await.map(|_| ()),
            Err(status) => Err(status),
        };
        match gone {
            Ok(()) => {
                let message = format!("Preempted by pod {} on node {node}", pod.uid);
                self.note_as(&pod.scheduler, victim, false, "Preempted", message);
                Ok(())
            }
            Err(status) if status.reason == Reason::NotFound => Ok(()),
            Err(status) => Err(status),
        }
    }

    fn note(&self, pod: &PodInfo, warning: bool, reason: &str, message: String) {
        self.note_as(&pod.scheduler, pod, warning, reason, message);
    }

    fn note_as(&self, scheduler: &str, pod: &PodInfo, warning: bool, reason: &str, message: String) {
        let about = ObjectReference {
            api_version: Some(<Pod as k8s_openapi::Resource>::API_VERSION.into()),
            kind: Some(<Pod as k8s_openapi::Resource>::KIND.into()),
            name: Some(pod.name.name.to_string()),
            namespace: Some(pod.name.namespace.to_string()),
            uid: Some(pod.uid.to_string()),
            ..ObjectReference::default()
        };
        if let Some(recorder) = self.recorders.get(scheduler) {
            recorder.record(Note { about, warning, reason: reason.to_owned().into(), message });
        }
    }
}
