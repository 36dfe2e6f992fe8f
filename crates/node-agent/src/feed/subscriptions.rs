//! The watches that the feed carries, and where each of them stands.

use futures::StreamExt;
use futures::stream::BoxStream;
use kybern_api::error::{Reason, Status};
use kybern_api::object::EventType;
use kybern_client::transport::WatchEvent;
use kybern_client::wire;
use kybern_wire::node::feed_event::Type;
use kybern_wire::node::{FeedEvent, FeedRequest, Subscribe, feed_request};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// All subscriptions. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Subscriptions(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    next: u32,
    open: HashMap<u32, Subscription>,
    /// Requests to the server that carries the feed; None between two servers.
    server: Option<mpsc::UnboundedSender<FeedRequest>>,
}

struct Subscription {
    /// As it would have to be asked for now: from the last revision delivered.
    subscribe: Subscribe,
    /// Before, a new server must begin with the present objects.
    synced: bool,
    out: mpsc::UnboundedSender<Result<WatchEvent, Status>>,
}

impl State {
    fn ask(&self, request: feed_request::Request) {
        if let Some(server) = &self.server {
            // A closed queue means that the server is being replaced; the next one is asked anew.
            server.send(FeedRequest { request: Some(request) }).ok();
        }
    }
}

/// Ends its subscription when the watch is dropped.
struct Guard {
    all: Subscriptions,
    id: u32,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.all.0.lock();
        if state.open.remove(&self.id).is_some() {
            state.ask(feed_request::Request::Unsubscribe(self.id));
        }
    }
}

impl Subscriptions {
    /// Opens a watch; it goes on over changes of servers until it fails or is dropped.
    pub(super) fn subscribe(&self, mut subscribe: Subscribe) -> BoxStream<'static, Result<WatchEvent, Status>> {
        let (out, events) = mpsc::unbounded_channel();
        let guard = {
            let mut state = self.0.lock();
            state.next += 1;
            subscribe.id = state.next;
            state.ask(feed_request::Request::Subscribe(subscribe.clone()));
            let (id, synced) = (subscribe.id, subscribe.resource_version > 0);
            state.open.insert(id, Subscription { subscribe, synced, out });
            Guard { all: self.clone(), id }
        };
        futures::stream::unfold((events, guard), |(mut events, guard)| async move {
            events.recv().await.map(|event| (event, (events, guard)))
        })
        .boxed()
    }
    /// A server takes over: it is asked for everything. Its requests come out of the receiver.
    pub(super) fn attach(&self) -> mpsc::UnboundedReceiver<FeedRequest> {
        let (server, requests) = mpsc::unbounded_channel();
        let mut state = self.0.lock();
        state.server = Some(server);
        for s in state.open.values() {
            state.ask(feed_request::Request::Subscribe(s.subscribe.clone()));
        }
        requests
    }
    /// The server is gone.
    pub(super) fn detach(&self) {
        self.0.lock().server = None;
    }
    /// Hands an event to its watch.
    pub(super) fn deliver(&self, event: FeedEvent) {
        let mut state = self.0.lock();
        let id = event.id;
        let Some(subscription) = state.open.get_mut(&id) else { return };
        if let Err(status) = subscription.take(event) {
            subscription.out.send(Err(status)).ok();
            state.open.remove(&id);
            state.ask(feed_request::Request::Unsubscribe(id));
        }
    }
}

impl Subscription {
    /// # Errors
    /// What ends the watch.
    fn take(&mut self, event: FeedEvent) -> Result<(), Status> {
        let kind = match event.r#type() {
            Type::Added => EventType::Added,
            Type::Modified => EventType::Modified,
            Type::Deleted => EventType::Deleted,
            Type::Reset if self.synced => {
                return Err(Status::new(Reason::Expired, "the server begins anew: list again"));
            }
            Type::Reset | Type::Unspecified => return Ok(()),
            Type::Synced | Type::Bookmark => {
                self.synced = true;
                self.subscribe.resource_version = event.revision;
                self.out.send(Ok(WatchEvent::Bookmark(event.revision))).ok();
                return Ok(());
            }
            Type::Error => {
                return Err(
                    Status::from_json(500, &event.object).unwrap_or_else(|| Status::internal("the watch failed"))
                );
            }
        };
        let object = wire::object(&event.object)?;
        if self.synced {
            self.subscribe.resource_version = event.revision;
        }
        self.out.send(Ok(WatchEvent::Object(kind, object))).ok();
        Ok(())
    }
}
