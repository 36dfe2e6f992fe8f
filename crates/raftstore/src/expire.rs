//! Keys with a time to live: the leader proposes their deletion.
//!
//! No clock enters the log. Every member counts each key's time from the moment it applied the write
//! itself, which is never before the write: so no member's deadline is early, whoever leads, and a new
//! leader adds nothing to the time left. A restart or an installed snapshot starts the count again.

use crate::model::{Guard, KeyValue, Op, Revision, Txn};
use crate::store::{Error, Leadership, Store, View};
use bytes::Bytes;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Weak;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// After a failed proposal the deletion is proposed again this much later.
const RETRY: Duration = Duration::from_secs(1);

/// Deletions proposed at a time.
const BATCH: usize = 256;

/// When the next deadline is further away than this (or there is none), the task looks again anyway.
const FAR: Duration = Duration::from_secs(3_600);

type Deadline = Reverse<(Instant, Bytes, Revision)>;

/// The deadlines of all keys that have a time to live, as this member counts them.
#[derive(Default)]
pub(crate) struct Deadlines {
    heap: Mutex<BinaryHeap<Deadline>>,
    earlier: Notify,
}

impl Deadlines {
    /// Starts the count of the keys among `keys` that have a time to live.
    pub(crate) fn add_all<'a>(&self, keys: impl Iterator<Item = &'a KeyValue>) {
        let mut keys = keys.filter(|kv| kv.ttl > 0).peekable();
        if keys.peek().is_none() {
            return;
        }
        let now = Instant::now();
        let mut heap = self.heap.lock();
        let first = heap.peek().map(|Reverse((at, _, _))| *at);
        for kv in keys {
            // A time to live beyond the clock's range never ends.
            if let Some(at) = now.checked_add(Duration::from_secs(kv.ttl)) {
                heap.push(Reverse((at, kv.key.clone(), kv.mod_revision)));
            }
        }
        if heap.peek().map(|Reverse((at, _, _))| *at) != first {
            self.earlier.notify_one();
        }
    }

    fn next(&self) -> Option<Instant> {
        self.heap.lock().peek().map(|Reverse((at, _, _))| *at)
    }

    /// Takes up to a batch of keys whose deadline has passed and that were not written since.
    fn take_due(&self, view: &dyn View) -> Vec<(Bytes, Revision)> {
        let now = Instant::now();
        let mut heap = self.heap.lock();
        let mut due = Vec::new();
        while due.len() < BATCH
            && let Some(Reverse((_, key, revision))) = pop_if(&mut heap, |at| at <= now)
        {
            if view.get(&key).is_some_and(|kv| kv.mod_revision == revision) {
                due.push((key, revision));
            }
        }
        due
    }

    fn put_back(&self, keys: Vec<(Bytes, Revision)>, at: Instant) {
        self.heap.lock().extend(keys.into_iter().map(|(key, revision)| Reverse((at, key, revision))));
    }
}

fn pop_if(heap: &mut BinaryHeap<Deadline>, wanted: impl Fn(Instant) -> bool) -> Option<Deadline> {
    let Reverse((at, _, _)) = heap.peek()?;
    if wanted(*at) { heap.pop() } else { None }
}

/// Deletes expired keys while this member leads. Ends when the store is gone or stopped.
pub(crate) async fn run<S: Store>(
    store: Weak<S>,
    deadlines: std::sync::Arc<Deadlines>,
    mut leadership: tokio::sync::watch::Receiver<Leadership>,
) {
    loop {
        let leads = *leadership.borrow_and_update();
        if leads.leading {
            let Some(store) = store.upgrade() else { return };
            if propose_due(&*store, &deadlines, leads.term).await == Err(Error::Stopped) {
                return;
            }
        }
        // A member that does not lead lets its deadlines pass and looks at them when it leads.
        let next = if leads.leading { deadlines.next() } else { None };
        let next = next.unwrap_or_else(|| Instant::now() + FAR);
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = deadlines.earlier.notified() => {}
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

/// Proposes the deletion of every due key, each guarded by the revision whose time has passed.
async fn propose_due<S: Store>(store: &S, deadlines: &Deadlines, term: u64) -> Result<(), Error> {
    loop {
        let due = deadlines.take_due(&*store.view());
        if due.is_empty() {
            return Ok(());
        }
        let proposals = due.iter().map(|(key, revision)| {
            let guards = vec![Guard::Revision(key.clone(), *revision)];
            store.txn(Txn { guards, ops: vec![Op::Delete(key.clone())], term })
        });
        let failed = futures::future::join_all(proposals).await.into_iter().find_map(Result::err);
        if let Some(error) = failed {
            // Those that did succeed are gone from the view and fall out when they come up again.
            tracing::debug!(%error, keys = due.len(), "deleting expired keys failed");
            deadlines.put_back(due, Instant::now() + RETRY);
            return Err(error);
        }
    }
}
