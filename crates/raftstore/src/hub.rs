//! Event fan-out: from the one writer (apply) to every watcher, in revision order.
//!
//! Each watcher has a bounded queue of its own. The writer never waits: a watcher whose queue is full
//! is ended with `Lagged` and resumes from the window. A revision's events always arrive together.
//!
//! Watchers of quiet prefixes are not woken for every revision. They learn how far they have come when
//! they ask for the next item, when somebody completes a read barrier ([`Hub::nudge`]), and at the
//! latest [`PROGRESS_INTERVAL`] after the revision moved.

use crate::history::{History, Retention};
use crate::machine::apply::Commit;
use crate::machine::state::State;
use crate::model::{Event, Revision, WatchItem};
use crate::store::{Error, Watch};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Revisions a watcher may lie behind (beyond its replay) before it is ended.
const QUEUE_LIMIT: usize = 16_384;

/// Idle watchers hear of progress at least this soon after the revision moved.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The fan-out with its history.
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    /// Every event up to here is in the queues. Written after them, read before them.
    published: AtomicU64,
    /// The revision idle watchers were last woken for.
    nudged: AtomicU64,
    /// Is a delayed nudge under way?
    armed: AtomicBool,
}

struct Inner {
    history: History,
    watchers: BTreeMap<Bytes, Vec<Arc<Queue>>>,
    stopped: bool,
}

impl Hub {
    /// A hub whose history begins with commits which ended in a state.
    pub(crate) fn new(state: Arc<State>, commits: &[Commit], retention: Retention) -> Arc<Self> {
        let published = AtomicU64::new(state.revision);
        let nudged = AtomicU64::new(state.revision);
        let history = History::with_commits(state, commits, retention);
        let inner = Inner { history, watchers: BTreeMap::new(), stopped: false };
        Arc::new(Self { inner: Mutex::new(inner), published, nudged, armed: AtomicBool::new(false) })
    }

    /// Publishes the commits that led to `state`. Called by one writer at a time, in order.
    pub(crate) fn publish(self: &Arc<Self>, state: Arc<State>, commits: &[Commit]) {
        if commits.is_empty() {
            return;
        }
        let revision = state.revision;
        {
            let mut inner = self.inner.lock();
            inner.history.push(state, commits);
            for commit in commits {
                inner.fan_out(commit);
            }
        }
        self.published.store(revision, Ordering::Release);
        self.nudge_later();
    }

    /// Ends every watch and forgets the history: the state jumped to `state` without its events.
    pub(crate) fn reset(&self, state: Arc<State>) {
        let revision = state.revision;
        let mut inner = self.inner.lock();
        inner.history.reset(state);
        inner.end_all(&Error::Lagged);
        self.published.store(revision, Ordering::Release);
    }

    /// Ends every watch, now and from now on.
    pub(crate) fn stop(&self) {
        let mut inner = self.inner.lock();
        inner.stopped = true;
        inner.end_all(&Error::Stopped);
    }

    /// Wakes idle watchers so that they report how far they have come.
    pub(crate) fn nudge(&self) {
        let published = self.published.load(Ordering::Acquire);
        if self.nudged.fetch_max(published, Ordering::AcqRel) < published {
            for queue in self.inner.lock().watchers.values().flatten() {
                queue.wake.notify_one();
            }
        }
    }

    /// One delayed nudge at a time, so that a busy store wakes idle watchers ten times a second at most.
    fn nudge_later(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.armed.swap(true, Ordering::AcqRel) {
            return;
        }
        let hub = Arc::downgrade(self);
        runtime.spawn(async move {
            tokio::time::sleep(PROGRESS_INTERVAL).await;
            if let Some(hub) = hub.upgrade() {
                hub.armed.store(false, Ordering::Release);
                hub.nudge();
            }
        });
    }

    /// The oldest revision a watch may start from.
    pub(crate) fn oldest(&self) -> Revision {
        self.inner.lock().history.oldest()
    }

    /// The state at a revision.
    pub(crate) fn state_at(&self, revision: Revision) -> Result<Arc<State>, Error> {
        self.inner.lock().history.state_at(revision)
    }

    /// A watch of a prefix, with the window's events from `from` on (0: none) already in its queue.
    pub(crate) fn watch(self: &Arc<Self>, prefix: Bytes, from: Revision) -> Result<Subscription, Error> {
        let mut inner = self.inner.lock();
        if inner.stopped {
            return Err(Error::Stopped);
        }
        let published = self.published.load(Ordering::Acquire);
        let from = if from == 0 { published + 1 } else { from };
        let mut items = VecDeque::new();
        for commit in inner.history.since(from)? {
            items.extend(matching(commit, &prefix).map(|events| (commit.revision, events)));
        }
        let limit = items.len() + QUEUE_LIMIT;
        let queue =
            Arc::new(Queue { state: Mutex::new(QueueState { items, ended: None, limit }), wake: Notify::new() });
        inner.watchers.entry(prefix.clone()).or_default().push(queue.clone());
        Ok(Subscription { hub: self.clone(), queue, prefix, seen: from - 1 })
    }

    fn unsubscribe(&self, prefix: &Bytes, queue: &Arc<Queue>) {
        let mut inner = self.inner.lock();
        let Some(group) = inner.watchers.get_mut(prefix) else { return };
        group.retain(|other| !Arc::ptr_eq(other, queue));
        if group.is_empty() {
            inner.watchers.remove(prefix);
        }
    }
}

impl Inner {
    fn fan_out(&mut self, commit: &Commit) {
        let mut prefixes: Vec<&Bytes> = Vec::new();
        for event in commit.events.iter() {
            prefixes_of(&self.watchers, &event.key, &mut prefixes);
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        for prefix in prefixes {
            let Some(events) = matching(commit, prefix) else { continue };
            for queue in self.watchers.get(prefix).into_iter().flatten() {
                queue.push(commit.revision, events.clone());
            }
        }
    }

    fn end_all(&mut self, why: &Error) {
        for queue in std::mem::take(&mut self.watchers).into_values().flatten() {
            queue.end(why.clone());
        }
    }
}

/// The watched prefixes that a key starts with, longest first: each step either finds one or skips to
/// what the key and its nearest smaller neighbour have in common.
fn prefixes_of<'a>(watchers: &'a BTreeMap<Bytes, Vec<Arc<Queue>>>, key: &[u8], found: &mut Vec<&'a Bytes>) {
    let mut bound = key;
    while let Some((prefix, _)) = watchers.range::<[u8], _>((Bound::Unbounded, Bound::Included(bound))).next_back() {
        let common = prefix.iter().zip(key).take_while(|(a, b)| a == b).count();
        if common < prefix.len() {
            bound = &key[..common];
        } else {
            found.push(prefix);
            if common == 0 {
                break;
            }
            bound = &key[..common - 1];
        }
    }
}

/// The events of a commit under a prefix: shared when all are, None when none is.
fn matching(commit: &Commit, prefix: &[u8]) -> Option<Arc<[Event]>> {
    let hits = commit.events.iter().filter(|event| event.key.starts_with(prefix));
    match hits.clone().count() {
        0 => None,
        n if n == commit.events.len() => Some(commit.events.clone()),
        _ => Some(hits.cloned().collect()),
    }
}

/// The events of a revision that one watcher gets.
type Queued = (Revision, Arc<[Event]>);

/// One watcher's queue.
struct Queue {
    state: Mutex<QueueState>,
    wake: Notify,
}

struct QueueState {
    items: VecDeque<Queued>,
    ended: Option<Error>,
    limit: usize,
}

impl Queue {
    fn push(&self, revision: Revision, events: Arc<[Event]>) {
        {
            let mut state = self.state.lock();
            if state.ended.is_some() {
                return;
            }
            if state.items.len() < state.limit {
                state.items.push_back((revision, events));
            } else {
                state.items = VecDeque::new();
                state.ended = Some(Error::Lagged);
            }
        }
        self.wake.notify_one();
    }

    fn end(&self, why: Error) {
        {
            let mut state = self.state.lock();
            // What is queued was delivered in order and stays deliverable: the end comes after it.
            state.ended.get_or_insert(why);
        }
        self.wake.notify_one();
    }

    /// The next item, or None when there is none yet; an error once the queue has ended.
    fn pop(&self) -> Result<Option<Queued>, Error> {
        let mut state = self.state.lock();
        if let Some(item) = state.items.pop_front() {
            return Ok(Some(item));
        }
        if state.items.capacity() > 1_024 {
            state.items.shrink_to(0);
            state.limit = QUEUE_LIMIT;
        }
        state.ended.clone().map_or(Ok(None), Err)
    }
}

/// A watch on the hub; ends when dropped.
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    queue: Arc<Queue>,
    prefix: Bytes,
    /// Everything up to here was handed out.
    seen: Revision,
}

#[async_trait::async_trait]
impl Watch for Subscription {
    async fn next(&mut self) -> Result<WatchItem, Error> {
        loop {
            let published = self.hub.published.load(Ordering::Acquire);
            if let Some((revision, events)) = self.queue.pop()? {
                self.seen = revision;
                return Ok(WatchItem::Events(revision, events));
            }
            if published > self.seen {
                self.seen = published;
                return Ok(WatchItem::Progress(published));
            }
            self.queue.wake.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.unsubscribe(&self.prefix, &self.queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watchers(prefixes: &[&'static str]) -> BTreeMap<Bytes, Vec<Arc<Queue>>> {
        prefixes.iter().map(|prefix| (Bytes::from(*prefix), Vec::new())).collect()
    }

    #[test]
    fn every_prefix_of_a_key_is_found_and_no_other() {
        let prefixes = ["", "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "a", "/a/a", "/a/b/d"];
        let watchers = watchers(&prefixes);
        for key in ["", "/", "/a", "/a/b", "/a/b/c/d", "/a/b/z", "/ab", "/abc", "/b", "/c", "a", "zz", "/a/"] {
            let mut found = Vec::new();
            prefixes_of(&watchers, key.as_bytes(), &mut found);
            let mut expected: Vec<&str> = prefixes.into_iter().filter(|prefix| key.starts_with(prefix)).collect();
            expected.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
            assert_eq!(found, expected, "key {key:?}");
        }
    }
}
