//! The work queue: every key at most once waiting and at most once in work; delays; back-off.

use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// First wait after a failure; doubles.
const MIN_BACKOFF: Duration = Duration::from_millis(5);
/// Longest wait after failures.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// A queue of keys. Clones of the keys should be cheap.
pub struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// In `ready`, or to be put there when its work is done.
    dirty: HashSet<K>,
    working: HashSet<K>,
    delayed: BTreeSet<(Instant, K)>,
    due: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            delayed: BTreeSet::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// Asks for a key to be worked on, as soon as a worker is free.
    pub fn add(&self, key: K) {
        if self.state.lock().mark(key) {
            self.changed.notify_one();
        }
    }
    /// Asks for a key after `delay`; of several delays of a key the earliest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.state.lock().delay(key, Instant::now() + delay);
        self.changed.notify_one();
    }
    /// Asks for a key again after a failure, later each time. Returns the wait.
    pub fn retry(&self, key: K) -> Duration {
        let failures = {
            let mut state = self.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures = failures.saturating_add(1);
            *failures
        };
        let delay = MIN_BACKOFF.saturating_mul(1 << (failures - 1).min(20)).min(MAX_BACKOFF);
        self.add_after(key, delay);
        delay
    }
    /// Forgets a key's failures.
    pub fn forget(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }
    /// How often a key has failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.state.lock().failures.get(key).copied().unwrap_or(0)
    }
    /// The next key to work on; waits. Must be followed by [`Queue::done`].
    pub async fn next(&self) -> K {
        loop {
            let changed = self.changed.notified();
            let wake = {
                let mut state = self.state.lock();
                state.wake_due(Instant::now());
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        self.changed.notify_one();
                    }
                    return key;
                }
                state.delayed.first().map(|(at, _)| *at)
            };
            match wake {
                Some(at) => {
                    _ = tokio::time::timeout_at(at, changed).await;
                }
                None => changed.await,
            }
        }
    }
    /// The work on a key is finished; it may be handed out again.
    pub fn done(&self, key: &K) {
        let mut state = self.state.lock();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.changed.notify_one();
        }
    }
    /// Keys that wait for a worker (not counting delayed ones).
    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }
    /// Does no key wait for a worker?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    /// Marks a key; true when it became ready.
    fn mark(&mut self, key: K) -> bool {
        if !self.dirty.insert(key.clone()) || self.working.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }
    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }
    fn delay(&mut self, key: K, at: Instant) {
        if let Some(earlier) = self.due.get(&key).copied() {
            if earlier <= at {
                return;
            }
            self.delayed.remove(&(earlier, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.delayed.insert((at, key));
    }
    fn wake_due(&mut self, now: Instant) {
        while self.delayed.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.delayed.pop_first() {
                self.due.remove(&key);
                self.mark(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn a_key_in_work_waits_for_its_end() {
        let q = Queue::default();
        q.add("a");
        q.add("a");
        assert_eq!(q.next().await, "a");
        q.add("a");
        assert!(q.next().now_or_never().is_none());
        q.done(&"a");
        assert_eq!(q.next().await, "a");
        q.done(&"a");
        assert!(q.next().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_delay_counts() {
        let q = Queue::default();
        let start = Instant::now();
        q.add_after("a", Duration::from_secs(9));
        q.add_after("a", Duration::from_secs(2));
        q.add_after("a", Duration::from_secs(5));
        assert_eq!(q.next().await, "a");
        assert_eq!(start.elapsed().as_secs(), 2);
        q.done(&"a");
        assert!(tokio::time::timeout(Duration::from_secs(60), q.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn retries_wait_longer_until_forgotten() {
        let q = Queue::default();
        let waits: Vec<Duration> = (0..3).map(|_| q.retry("a")).collect();
        assert_eq!(waits, [5, 10, 20].map(Duration::from_millis));
        assert!((0..40).map(|_| q.retry("a")).all(|d| d <= MAX_BACKOFF));
        q.forget(&"a");
        assert_eq!(q.retry("a"), MIN_BACKOFF);
    }

    #[tokio::test(start_paused = true)]
    async fn several_workers_share_the_keys() {
        let q = std::sync::Arc::new(Queue::default());
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let q = std::sync::Arc::clone(&q);
                tokio::spawn(async move { q.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        (0..3).for_each(|n| q.add(n));
        let mut got = Vec::new();
        for w in workers {
            got.push(w.await.expect("worker"));
        }
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2]);
    }
}
