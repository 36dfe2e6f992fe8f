//! containerd's own event stream. Debian's containerd 1.6 has no CRI container events.

use crate::error::{Error, Result};
use kybern_wire::containerd::events::TaskEvent;
use kybern_wire::containerd::services::events::v1 as pb;
use prost::Message;
use tonic::transport::Channel;

/// A container or sandbox whose task started, ended or ran out of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskChanged {
    /// Id of the container or sandbox.
    pub id: String,
}

/// An open subscription. It ends when containerd does.
#[derive(Debug)]
pub struct Subscription {
    stream: tonic::Streaming<pb::Envelope>,
}

/// Subscribes to what changes a container's state.
///
/// # Errors
/// When containerd does not answer.
pub async fn subscribe(channel: Channel) -> Result<Subscription> {
    let filters = ["start", "exit", "oom"].map(|t| format!("topic==\"/tasks/{t}\",namespace==k8s.io")).to_vec();
    let mut client = pb::events_client::EventsClient::new(channel);
    let answer = client.subscribe(pb::SubscribeRequest { filters }).await.map_err(Error::runtime("Subscribe"))?;
    Ok(Subscription { stream: answer.into_inner() })
}

impl Subscription {
    /// The next change; None when the stream has ended. Payloads that do not decode are skipped.
    pub async fn next(&mut self) -> Option<TaskChanged> {
        loop {
            let envelope = self.stream.message().await.ok()??;
            let Some(event) = envelope.event else { continue };
            if let Ok(task) = TaskEvent::decode(event.value.as_ref())
                && !task.container_id.is_empty()
            {
                return Some(TaskChanged { id: task.container_id });
            }
        }
    }
}
