//! The only IO: bindings, and what is said about pods that have no node.

use crate::pod::PodInfo;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kybern_api::error::{Reason, Status};
use kybern_api::seam::Clock;
use kybern_client::transport::{Resource, STRATEGIC_MERGE_PATCH};
use kybern_client::typed;
use kybern_client::write::{At, Writer};
use kybern_reconcile::events::Recorder;
use kybern_reconcile::plan::Note;
use kybern_reconcile::view::whole_seconds;
use serde_json::json;
use smol_str::SmolStr;
use std::sync::Arc;

/// Writes decisions.
#[derive(Clone)]
pub(crate) struct Binder {
    writer: Writer,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    pods: Resource,
}

impl Binder {
    pub(crate) fn new(writer: Writer, recorder: Recorder, clock: Arc<dyn Clock>) -> Self {
        Self { writer, recorder, clock, pods: typed::resource::<Pod>() }
    }

    fn at<'a>(&'a self, pod: &'a PodInfo, subresource: &'a str) -> At<'a> {
        At { resource: &self.pods, namespace: &pod.name.namespace, name: &pod.name.name, subresource }
    }

    /// Binds a pod. After an unknown outcome the server is asked.
    pub(crate) async fn bind(&self, pod: &PodInfo, node: &SmolStr) -> Result<(), Status> {
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
            Ok(_) => {}
            Err(status) if status.reason == Reason::Timeout => self.look(pod, node, status).await?,
            Err(status) => return Err(status),
        }
        let message = format!("Successfully assigned {}/{} to {node}", pod.name.namespace, pod.name.name);
        self.note(pod, false, "Scheduled", message);
        Ok(())
    }

    /// Is the pod bound as decided, although the answer was lost?
    async fn look(&self, pod: &PodInfo, node: &SmolStr, lost: Status) -> Result<(), Status> {
        let found = self.writer.transport().get(&self.pods, &pod.name.namespace, &pod.name.name).await?;
        let bound = PodInfo::read(&found).is_ok_and(|p| p.uid == pod.uid && p.node == *node);
        if bound { Ok(()) } else { Err(lost) }
    }

    /// Tells why a pod has no node; not again what it already says.
    pub(crate) async fn refuse(&self, pod: &PodInfo, message: &str) {
        self.note(pod, true, "FailedScheduling", message.to_owned());
        if pod.complaint.as_deref() == Some(message) {
            return;
        }
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": Time(whole_seconds(self.clock.now())),
        });
        let patch = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}});
        if let Err(status) = self.writer.patch(self.at(pod, "status"), STRATEGIC_MERGE_PATCH, &patch).await {
            tracing::debug!(pod = %pod.name.name, error = %status, "condition not written");
        }
    }

    fn note(&self, pod: &PodInfo, warning: bool, reason: &str, message: String) {
        let about = ObjectReference {
            api_version: Some(<Pod as k8s_openapi::Resource>::API_VERSION.into()),
            kind: Some(<Pod as k8s_openapi::Resource>::KIND.into()),
            name: Some(pod.name.name.to_string()),
            namespace: Some(pod.name.namespace.to_string()),
            uid: Some(pod.uid.to_string()),
            ..ObjectReference::default()
        };
        self.recorder.record(Note { about, warning, reason: reason.into(), message });
    }
}
