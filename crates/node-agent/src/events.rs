//! Events: what happened to a pod, for people. Best effort; a repeated one only raises its count.

use jiff::Timestamp;
use kybern_api::seam::{Clock, Ids};
use kybern_client::transport::{MERGE_PATCH, Resource};
use kybern_client::write::{At, Writer};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Events that wait to be sent; more are dropped.
const QUEUE: usize = 256;
/// Known events whose repetition raises a count; beyond this many, all are forgotten.
const REMEMBERED: usize = 512;

/// What an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Kind: `Pod` or `Node`.
    pub kind: &'static str,
    /// Namespace; empty for a node.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Happening {
    subject: Subject,
    kind: &'static str,
    reason: String,
    message: String,
}

/// Takes events and sends them from a task of its own.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: Option<mpsc::Sender<Happening>>,
}

impl Recorder {
    /// A recorder that sends as `node`'s agent. Its task ends when the last clone is dropped.
    pub fn start(writer: Writer, node: &str, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        let (queue, happenings) = mpsc::channel(QUEUE);
        let sender = Sender { writer, node: node.into(), clock, ids, known: HashMap::new() };
        tokio::spawn(sender.run(happenings));
        Self { queue: Some(queue) }
    }
    /// A recorder that sends nothing.
    pub fn silent() -> Self {
        Self { queue: None }
    }
    /// Something went as it should.
    pub fn normal(&self, subject: &Subject, reason: &str, message: String) {
        self.record(subject, "Normal", reason, message);
    }
    /// Something did not.
    pub fn warn(&self, subject: &Subject, reason: &str, message: String) {
        self.record(subject, "Warning", reason, message);
    }
    fn record(&self, subject: &Subject, kind: &'static str, reason: &str, message: String) {
        let happening = Happening { subject: subject.clone(), kind, reason: reason.into(), message };
        tracing::debug!(?happening, "event");
        if let Some(queue) = &self.queue
            && queue.try_send(happening).is_err()
        {
            tracing::warn!(reason, "too many events: one is dropped");
        }
    }
}

struct Sender {
    writer: Writer,
    node: String,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    /// Name and count of what was sent.
    known: HashMap<Happening, (String, i32)>,
}

impl Sender {
    async fn run(mut self, mut happenings: mpsc::Receiver<Happening>) {
        while let Some(happening) = happenings.recv().await {
            if let Err(e) = self.send(happening).await {
                tracing::debug!(error = %e, "an event was not taken");
            }
        }
    }

    async fn send(&mut self, h: Happening) -> Result<(), kybern_api::error::Status> {
        let resource = Resource::new("", "v1", "events");
        let now = kybern_api::meta::time::time(self.clock.now());
        let namespace = if h.subject.namespace.is_empty() { "default" } else { &h.subject.namespace }.to_owned();
        if let Some((name, count)) = self.known.get_mut(&h) {
            *count += 1;
            let at = At { resource: &resource, namespace: &namespace, name, subresource: "" };
            let patch = json!({ "count": *count, "lastTimestamp": now });
            match self.writer.patch(at, MERGE_PATCH, &patch).await {
                Ok(_) => return Ok(()),
                // It has expired: write a new one.
                Err(_) => self.known.remove(&h),
            };
        }
        let name = format!("{}.{}{}", h.subject.name, hex_time(self.clock.now()), self.ids.suffix());
        let event = json!({
            "kind": "Event", "apiVersion": "v1",
            "metadata": { "name": name, "namespace": namespace },
            "involvedObject": {
                "kind": h.subject.kind, "apiVersion": "v1", "namespace": h.subject.namespace,
                "name": h.subject.name, "uid": h.subject.uid,
            },
            "type": h.kind, "reason": h.reason, "message": h.message, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now,
            "source": { "component": "kubelet", "host": self.node },
            "reportingComponent": "kubelet", "reportingInstance": self.node,
        });
        let at = At { resource: &resource, namespace: &namespace, name: "", subresource: "" };
        self.writer.create(at, &event).await?;
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(h, (name, 1));
        Ok(())
    }
}

fn hex_time(at: Timestamp) -> String {
    format!("{:x}", at.as_nanosecond())
}
