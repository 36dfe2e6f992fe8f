//! Keeps the objects of one resource and selection current: list, then watch, resumed for ever.

use crate::store::{Delta, Item, Name, RowFn, Store};
use crate::transport::{List, Resource, Selection, Transport, WatchEvent};
use futures::StreamExt;
use kybern_api::error::{Reason, Status};
use kybern_api::object::{EventType, Object};
use parking_lot::Mutex;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// First wait after a failure; doubles up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(50);
/// Longest wait between two attempts: a server that comes back is noticed within this.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// One list-and-watch. Cheap to read from any thread.
pub struct Informer {
    resource: Resource,
    row: Option<RowFn>,
    shared: Mutex<Shared>,
    /// Counts changes; 0 until the first list is in.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Shared {
    store: Store,
    subscribers: Vec<mpsc::UnboundedSender<Delta>>,
}

impl Informer {
    /// Starts the task that feeds it; the task ends when `cancel` fires.
    pub fn start(
        transport: Arc<dyn Transport>,
        resource: Resource,
        selection: Selection,
        row: Option<RowFn>,
        cancel: CancellationToken,
    ) -> Arc<Self> {
        let informer = Arc::new(Self { resource, row, shared: Mutex::default(), changes: watch::Sender::new(0) });
        let feeder = Feeder { informer: Arc::clone(&informer), transport, selection };
        tokio::spawn(async move { cancel.run_until_cancelled_owned(feeder.run()).await });
        informer
    }
    /// The resource it follows.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }
    /// A snapshot of everything it knows.
    pub fn store(&self) -> Store {
        self.shared.lock().store.clone()
    }
    /// One object.
    pub fn get(&self, name: &Name) -> Option<Item> {
        self.shared.lock().store.get(name).cloned()
    }
    /// All objects.
    pub fn list(&self) -> Vec<Item> {
        self.store().iter().cloned().collect()
    }
    /// Is the first list in?
    pub fn is_synced(&self) -> bool {
        *self.changes.borrow() > 0
    }
    /// Waits for the first list.
    pub async fn synced(&self) {
        self.until(|_| true).await;
    }
    /// Waits until the synced store fulfils `condition`.
    pub async fn until(&self, condition: impl Fn(&Store) -> bool) {
        let mut changes = self.changes.subscribe();
        loop {
            let seen = *changes.borrow_and_update();
            if seen > 0 && condition(&self.shared.lock().store) {
                return;
            }
            // The sender lives in self, so this cannot fail while we borrow self.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
    /// Every change from now on, preceded by everything there is (as additions): nothing is missed
    /// and nothing comes twice.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Delta> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut shared = self.shared.lock();
        for item in shared.store.iter() {
            // The receiver is still in our hands.
            _ = sender.send(Delta { old: None, new: Some(item.clone()) });
        }
        shared.subscribers.push(sender);
        receiver
    }

    fn item(&self, object: Object) -> Item {
        let row = self.row.as_ref().map(|make| make(&object));
        Item { object, row }
    }

    /// Takes over a fresh list: what differs from the present state becomes deltas.
    fn replace(&self, list: List) {
        let mut shared = self.shared.lock();
        let mut gone: std::collections::BTreeSet<Name> = shared.store.iter().map(|i| Name::of(&i.object)).collect();
        for object in list.items {
            let name = Name::of(&object);
            gone.remove(&name);
            if shared.store.get(&name).is_some_and(|i| i.object.revision == object.revision) {
                continue;
            }
            let new = self.item(object);
            shared.put(new);
        }
        for name in gone {
            shared.take(&name);
        }
        shared.store.advance(list.revision);
        drop(shared);
        self.changes.send_modify(|n| *n += 1);
    }

    /// Takes over one watch event.
    fn apply(&self, event: WatchEvent) {
        let mut shared = self.shared.lock();
        match event {
            WatchEvent::Bookmark(revision) => shared.store.advance(revision),
            WatchEvent::Object(EventType::Deleted, object) => {
                shared.take(&Name::of(&object));
                shared.store.advance(object.revision);
            }
            WatchEvent::Object(EventType::Added | EventType::Modified, object) => {
                let new = self.item(object);
                shared.put(new);
            }
        }
        drop(shared);
        self.changes.send_modify(|n| *n += 1);
    }
}

impl Shared {
    fn put(&mut self, new: Item) {
        let old = self.store.insert(new.clone());
        self.publish(Delta { old, new: Some(new) });
    }
    fn take(&mut self, name: &Name) {
        if let Some(old) = self.store.remove(name) {
            self.publish(Delta { old: Some(old), new: None });
        }
    }
    fn publish(&mut self, delta: Delta) {
        self.subscribers.retain(|s| s.send(delta.clone()).is_ok());
    }
}

/// Why a watch ended.
enum End {
    /// Go on from the last revision.
    Resume,
    /// The window has passed it: list again.
    Relist,
    /// Something is wrong: wait, then go on.
    Failed(Status),
}

struct Feeder {
    informer: Arc<Informer>,
    transport: Arc<dyn Transport>,
    selection: Selection,
}

impl Feeder {
    async fn run(self) {
        let mut failures = 0;
        let mut listed = false;
        loop {
            if !listed {
                match self.transport.list(&self.informer.resource, &self.selection).await {
                    Ok(list) => self.informer.replace(list),
                    Err(status) => {
                        failures += 1;
                        self.wait(failures, "list", &status).await;
                        continue;
                    }
                }
                listed = true;
            }
            let before = self.informer.shared.lock().store.revision();
            let end = self.watch(before).await;
            if self.informer.shared.lock().store.revision() > before {
                failures = 0;
            }
            match end {
                End::Resume => {}
                End::Relist => listed = false,
                End::Failed(status) => {
                    failures += 1;
                    self.wait(failures, "watch", &status).await;
                }
            }
        }
    }

    async fn watch(&self, revision: u64) -> End {
        let mut stream = match self.transport.watch(&self.informer.resource, &self.selection, revision).await {
            Ok(stream) => stream,
            Err(status) => return End::of(status),
        };
        let mut delivered = false;
        while let Some(item) = stream.next().await {
            match item {
                Ok(event) => self.informer.apply(event),
                Err(status) => return End::of(status),
            }
            delivered = true;
        }
        // A stream that ends without a word is normal after a while; at once, it must not make us spin.
        if delivered {
            End::Resume
        } else {
            End::Failed(Status::new(Reason::ServiceUnavailable, "the watch ended at once"))
        }
    }

    async fn wait(&self, failures: u32, step: &str, status: &Status) {
        let delay = backoff(failures, &self.informer.resource);
        let plural = &self.informer.resource.plural;
        tracing::debug!(step, resource = %plural, error = %status, ?delay, "informer interrupted");
        tokio::time::sleep(delay).await;
    }
}

impl End {
    fn of(status: Status) -> Self {
        match status.reason {
            Reason::Expired | Reason::Gone => Self::Relist,
            _ => Self::Failed(status),
        }
    }
}

/// Doubling wait with up to a quarter of jitter. The jitter is drawn from the resource's hash: it
/// only has to keep the informers of one process apart.
fn backoff(failures: u32, resource: &Resource) -> Duration {
    let base = MIN_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_BACKOFF);
    let mut hasher = DefaultHasher::new();
    (resource, failures).hash(&mut hasher);
    base + base.mul_f64(0.25 * (hasher.finish() % 1000) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryApi;
    use crate::typed;
    use crate::write::{At, DeleteOptions, Writer};
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    #[test]
    fn backoff_doubles_up_to_its_limit() {
        let r = Resource::new("", "v1", "pods");
        assert!(backoff(1, &r) >= MIN_BACKOFF && backoff(1, &r) < MIN_BACKOFF * 2);
        assert!(backoff(3, &r) >= MIN_BACKOFF * 4);
        assert!(backoff(60, &r) <= MAX_BACKOFF.mul_f64(1.25));
    }

    struct Fixture {
        api: MemoryApi,
        writer: Writer,
        informer: Arc<Informer>,
        resource: Resource,
    }

    impl Fixture {
        fn new() -> Self {
            let api = MemoryApi::default();
            let transport: Arc<dyn Transport> = Arc::new(api.clone());
            let writer = Writer::new(Arc::clone(&transport), "test", 0);
            let resource = typed::resource::<ConfigMap>();
            let informer =
                Informer::start(transport, resource.clone(), Selection::default(), None, CancellationToken::new());
            Self { api, writer, informer, resource }
        }
        fn at<'a>(&'a self, name: &'a str) -> At<'a> {
            At { resource: &self.resource, namespace: "n", name, subresource: "" }
        }
        async fn create(&self, name: &str) {
            self.writer.create(self.at(""), &json!({"metadata": {"name": name}})).await.expect("create");
        }
        async fn settle(&self, count: usize) {
            self.informer.until(|s| s.len() == count).await;
        }
    }

    fn told(receiver: &mut mpsc::UnboundedReceiver<Delta>) -> Vec<String> {
        let word = |i: Option<Item>| i.map_or("-".into(), |i| i.object.head.name.to_string());
        std::iter::from_fn(|| receiver.try_recv().ok()).map(|d| format!("{}>{}", word(d.old), word(d.new))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn subscribers_get_what_there_is_and_then_every_change() {
        let f = Fixture::new();
        f.create("a").await;
        f.settle(1).await;
        let mut deltas = f.informer.subscribe();
        f.create("b").await;
        f.writer.delete(f.at("a"), &DeleteOptions::default()).await.expect("delete");
        f.informer.until(|s| s.revision() == 3).await;
        assert_eq!(told(&mut deltas), ["->a", "->b", "a>-"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_watch_resumes_without_gap() {
        let f = Fixture::new();
        f.create("a").await;
        f.settle(1).await;
        let mut deltas = f.informer.subscribe();
        f.api.cut();
        f.create("b").await;
        f.settle(2).await;
        assert_eq!(told(&mut deltas), ["->a", "->b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_watch_lists_again_and_tells_only_the_difference() {
        let f = Fixture::new();
        f.create("a").await;
        f.create("b").await;
        f.settle(2).await;
        let mut deltas = f.informer.subscribe();
        f.api.cut();
        f.writer.delete(f.at("a"), &DeleteOptions::default()).await.expect("delete");
        f.create("c").await;
        f.api.compact();
        f.informer.until(|s| s.revision() == 4).await;
        assert_eq!(told(&mut deltas), ["->a", "->b", "->c", "a>-"]);
    }
}
