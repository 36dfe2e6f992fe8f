//! One task follows the store and keeps all caches current.

use crate::cache::kind::{KindCache, Objects};
use crate::registry::keys::{ROOT, resource_prefix};
use arc_swap::ArcSwap;
use bytes::Bytes;
use kybern_api::object::Object;
use kybern_api::seam::Clock;
use kybern_raftstore::model::{Event, KeyValue, WatchItem};
use kybern_raftstore::store::{Error, Store};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Turns a stored value into an object: opens it where the kind is sealed and parses its head.
pub trait Open: Send + Sync {
    /// The object; None when the bytes cannot be read, which is logged where it happens.
    fn open(&self, entry: &KeyValue) -> Option<Object>;
}

struct Fed {
    cache: Arc<KindCache>,
    open: Arc<dyn Open>,
}

type Table = HashMap<Bytes, Arc<Fed>>;

/// The caches of all kinds and the revision they have reached together.
pub struct Caches {
    table: ArcSwap<Table>,
    applied: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caches").field("applied", &*self.applied.borrow()).finish_non_exhaustive()
    }
}

impl Caches {
    /// No caches yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { table: ArcSwap::default(), applied: watch::Sender::new(0), clock }
    }

    /// Adds a kind's cache; it is filled when the feeder (re)starts.
    pub fn add(&self, cache: Arc<KindCache>, open: Arc<dyn Open>) {
        let fed = Arc::new(Fed { cache, open });
        self.table.rcu(|t| {
            let mut t = Table::clone(t);
            t.insert(fed.cache.keys().prefix().clone(), fed.clone());
            t
        });
    }

    /// Every cache holds everything up to this revision.
    pub fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Waits until every cache holds everything up to `revision`; false when `timeout` passes first.
    pub async fn wait_applied(&self, revision: u64, timeout: Duration) -> bool {
        if self.applied() >= revision {
            return true;
        }
        tokio::time::timeout(timeout, self.reached(revision)).await.is_ok()
    }

    /// Waits until every cache holds everything up to `revision`.
    pub async fn reached(&self, revision: u64) {
        // The sender lives as long as `self`.
        self.applied.subscribe().wait_for(|r| *r >= revision).await.ok();
    }

    /// Follows the store from `loaded` on until it stops. Starts over by itself when it fell behind.
    pub async fn feed(&self, store: Arc<dyn Store>, loaded: u64) {
        let mut from = loaded;
        loop {
            match self.follow(store.as_ref(), from).await {
                Error::Stopped => return,
                error => tracing::debug!(%error, "the caches fell behind the store and are loaded again"),
            }
            from = self.load(store.as_ref());
        }
    }

    /// Fills every cache from a view and returns its revision. It is the oldest state a watch can go on from, so that clients of a
    /// restarted server can resume, or else the current one.
    pub fn load(&self, store: &dyn Store) -> u64 {
        let view = store.view_at(store.oldest()).unwrap_or_else(|_| store.view());
        let revision = view.revision();
        for fed in self.table.load().values() {
            let prefix = fed.cache.keys().prefix();
            let (entries, _) = view.range(prefix, &end_of(prefix), 0);
            let objects: Objects =
                entries.iter().filter_map(|e| Some((fed.cache.keys().suffix_of(&e.key), fed.open.open(e)?))).collect();
            fed.cache.reset(objects, revision);
        }
        self.applied.send_replace(revision);
        revision
    }

    async fn follow(&self, store: &dyn Store, after: u64) -> Error {
        let mut watch = match store.watch(Bytes::from_static(ROOT), after + 1) {
            Ok(w) => w,
            // Nothing has been written after `after` yet: begin with what comes, unless just now
            // something did come, which only a new load shows.
            Err(Error::Future(_)) => match store.watch(Bytes::from_static(ROOT), 0) {
                Ok(_) if store.view().revision() > after => return Error::Lagged,
                Ok(w) => w,
                Err(e) => return e,
            },
            Err(e) => return e,
        };
        loop {
            let revision = match watch.next().await {
                Ok(WatchItem::Events(revision, events)) => {
                    self.apply(revision, &events);
                    revision
                }
                Ok(WatchItem::Progress(revision)) => revision,
                Err(e) => return e,
            };
            self.applied.send_if_modified(|r| {
                let moved = revision > *r;
                *r = revision.max(*r);
                moved
            });
        }
    }

    fn apply(&self, revision: u64, events: &[Event]) {
        let table = self.table.load();
        let now = self.clock.now().as_second();
        let mut rest = events;
        while let Some(first) = rest.first() {
            // Neighbours of one kind are applied together; a transaction seldom touches two.
            let prefix = resource_prefix(&first.key);
            let same = rest.iter().take_while(|e| resource_prefix(&e.key) == prefix).count();
            let (group, others) = rest.split_at(same);
            rest = others;
            let Some(fed) = prefix.and_then(|p| table.get(p)) else { continue };
            let changes = group.iter().filter_map(|e| {
                let current = match &e.current {
                    Some(entry) => Some(fed.open.open(entry)?),
                    None => None,
                };
                Some((fed.cache.keys().suffix_of(&e.key), current))
            });
            fed.cache.apply(changes, revision, now);
            fed.cache.news.tell();
        }
    }

    /// The cache under a prefix.
    pub fn find(&self, prefix: &[u8]) -> Option<Arc<KindCache>> {
        self.table.load().get(prefix).map(|f| f.cache.clone())
    }
}

/// The first key after all keys that start with `prefix` (which ends in `/`).
pub fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
