//! One node's watches over one stream.

use crate::doors::local::LocalTransport;
use bytes::Bytes;
use futures::StreamExt;
use kybern_api::error::{Reason, Status};
use kybern_api::object::{EventType, Object};
use kybern_client::transport::{List, Resource, Selection, Transport, WatchEvent};
use kybern_wire::node::feed_event::Type;
use kybern_wire::node::{FeedEvent, FeedRequest, Subscribe, feed_request};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;

/// Events that wait for the transport, over all subscriptions; a node that reads slowly slows its
/// watches down, and those fall out of the window and begin anew.
const QUEUE: usize = 256;
/// Subscriptions of one node: its pods' config maps and secrets have one each.
const MAX_SUBSCRIPTIONS: usize = 4096;
/// Pause before a watch that ended at once is opened again.
const REOPEN: Duration = Duration::from_millis(200);

/// The events of the subscriptions that arrive, and the task that makes them until the node ends the
/// stream.
pub(super) fn run(
    transport: LocalTransport,
    mut requests: Streaming<FeedRequest>,
) -> (ReceiverStream<FeedEvent>, impl Future<Output = ()> + Send) {
    let (out, events) = mpsc::channel(QUEUE);
    let task = async move {
        let mut subscriptions: HashMap<u32, AbortOnDropHandle<()>> = HashMap::new();
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                () = out.closed() => return,
            };
            let Ok(Some(request)) = request else { return };
            match request.request {
                Some(feed_request::Request::Subscribe(s)) => {
                    subscriptions.retain(|_, task| !task.is_finished());
                    if subscriptions.len() >= MAX_SUBSCRIPTIONS {
                        let status = Status::too_many_requests("too many subscriptions", 1);
                        out.send(error_event(s.id, &status)).await.ok();
                        continue;
                    }
                    let id = s.id;
                    let task = Subscription { transport: transport.clone(), out: out.clone(), id };
                    subscriptions.insert(id, AbortOnDropHandle::new(tokio::spawn(task.run(s))));
                }
                Some(feed_request::Request::Unsubscribe(id)) => {
                    subscriptions.remove(&id);
                }
                None => {}
            }
        }
    };
    (ReceiverStream::new(events), task)
}

/// The node is gone: nobody takes events any more.
struct Gone;

enum End {
    Gone,
    /// The subscription cannot go on.
    Failed(Status),
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

struct Subscription {
    transport: LocalTransport,
    out: mpsc::Sender<FeedEvent>,
    id: u32,
}

impl Subscription {
    async fn run(self, subscribe: Subscribe) {
        let resource = Resource::new(&subscribe.group, &subscribe.version, &subscribe.resource);
        let selection = Selection {
            namespace: subscribe.namespace,
            labels: subscribe.label_selector,
            fields: subscribe.field_selector,
        };
        let mut revision = subscribe.resource_version;
        loop {
            match self.follow(&resource, &selection, revision).await {
                Ok(last) => revision = last,
                Err(End::Failed(status)) if matches!(status.reason, Reason::Expired | Reason::Gone) => revision = 0,
                Err(End::Failed(status)) => {
                    self.out.send(error_event(self.id, &status)).await.ok();
                    return;
                }
                Err(End::Gone) => return,
            }
        }
    }
    /// Lists if nothing is known yet, then watches until the watch ends; the last revision delivered.
    async fn follow(&self, resource: &Resource, selection: &Selection, revision: u64) -> Result<u64, End> {
        let mut last = if revision == 0 { self.present(resource, selection).await? } else { revision };
        let mut changes = self.transport.watch(resource, selection, last).await.map_err(End::Failed)?;
        let mut seen = false;
        while let Some(change) = changes.next().await {
            seen = true;
            match change.map_err(End::Failed)? {
                WatchEvent::Object(kind, object) => {
                    last = object.revision;
                    self.object(kind, object).await?;
                }
                WatchEvent::Bookmark(revision) => {
                    last = revision;
                    self.send(Type::Bookmark, revision, Bytes::new()).await?;
                }
            }
        }
        if !seen {
            tokio::time::sleep(REOPEN).await;
        }
        Ok(last)
    }

    async fn present(&self, resource: &Resource, selection: &Selection) -> Result<u64, End> {
        let List { revision, items } = self.transport.list(resource, selection).await.map_err(End::Failed)?;
        self.send(Type::Reset, revision, Bytes::new()).await?;
        for object in items {
            self.object(EventType::Added, object).await?;
        }
        self.send(Type::Synced, revision, Bytes::new()).await?;
        Ok(revision)
    }

    async fn object(&self, kind: EventType, object: Object) -> Result<(), Gone> {
        let kind = match kind {
            EventType::Added => Type::Added,
            EventType::Modified => Type::Modified,
            EventType::Deleted => Type::Deleted,
        };
        self.send(kind, object.revision, object.bytes).await
    }

    async fn send(&self, kind: Type, revision: u64, object: Bytes) -> Result<(), Gone> {
        let event = FeedEvent { id: self.id, r#type: kind.into(), revision, object };
        self.out.send(event).await.map_err(|_| Gone)
    }
}

fn error_event(id: u32, status: &Status) -> FeedEvent {
    FeedEvent { id, r#type: Type::Error.into(), revision: 0, object: status.to_json().into() }
}
