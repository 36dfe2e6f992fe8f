//! containerd's own event stream. Debian's containerd 1.6 has no CRI container events.

use crate::error::{Error, Result};
use kybern_wire::containerd::events::TaskExit;
use kybern_wire::containerd::services::events::v1 as pb;
use prost::Message;
use tonic::transport::Channel;

/// A container or sandbox whose process ended. With an empty id: anything may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskChanged {
    /// Id of the container or sandbox.
    pub id: String,
}

/// What containerd tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A process ended.
    Task(TaskChanged),
    /// There are other images than before.
    Images,
}

/// An open subscription. It ends when containerd does.
#[derive(Debug)]
pub struct Subscription {
    stream: tonic::Streaming<pb::Envelope>,
}

/// Subscribes to ends of containers and changes of images. Starts are the agent's own doing.
///
/// # Errors
/// When containerd does not answer.
pub async fn subscribe(channel: Channel) -> Result<Subscription> {
    let topics = ["topic==\"/tasks/exit\"", "topic~=\"^/images/\""];
    let filters = topics.map(|topic| format!("{topic},namespace==k8s.io")).into();
    let mut client = pb::events_client::EventsClient::new(channel);
    let answer = client.subscribe(pb::SubscribeRequest { filters }).await.map_err(Error::runtime("Subscribe"))?;
    Ok(Subscription { stream: answer.into_inner() })
}

impl Subscription {
    /// The next change; None when the stream has ended. Payloads that do not decode are skipped.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let envelope = self.stream.message().await.ok()??;
            if envelope.topic.starts_with("/images/") {
                return Some(Event::Images);
            }
            let Some(event) = envelope.event else { continue };
            // The end of an exec in a container is nobody's business but its caller's.
            if let Ok(exit) = TaskExit::decode(event.value.as_ref())
                && exit.id == exit.container_id
            {
                return Some(Event::Task(TaskChanged { id: exit.container_id }));
            }
        }
    }
}
