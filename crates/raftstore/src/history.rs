//! The replay window: recent events with previous values, and older states rebuilt from them.

use crate::machine::apply::Commit;
use crate::machine::state::State;
use crate::model::{Event, Revision};
use crate::store::Error;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How much history a member keeps. Whatever bound is reached first drops the oldest.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Most bytes of previous values (with a fixed charge per event).
    pub bytes: usize,
    /// Greatest age of an event.
    pub age: Duration,
}

impl Default for Retention {
    /// 96 MiB and five minutes: the time after which Kubernetes' own servers compact.
    fn default() -> Self {
        Self { bytes: 96 << 20, age: Duration::from_secs(300) }
    }
}

/// Charged per event beside its previous value: the event, its key and its share of the window.
const EVENT_OVERHEAD: usize = 300;

/// A state is kept for `view_at` every so many revisions; between them events are undone.
const KEEP_EVERY: Revision = 1_024;

/// States kept at most: evenly spaced ones and those recently asked for.
const KEEP_MOST: usize = 48;

struct Kept {
    commit: Commit,
    at: Instant,
    bytes: usize,
}

/// Events of the last revisions without a gap, and some of the states between them.
pub(crate) struct History {
    retention: Retention,
    /// Dense: one element per revision, the newest being the current revision.
    window: VecDeque<Kept>,
    bytes: usize,
    current: Arc<State>,
    states: BTreeMap<Revision, Arc<State>>,
}

impl History {
    /// History that begins at a state.
    pub(crate) fn new(current: Arc<State>, retention: Retention) -> Self {
        Self { retention, window: VecDeque::new(), bytes: 0, current, states: BTreeMap::new() }
    }

    /// History that begins with commits which ended in a state.
    pub(crate) fn with_commits(current: Arc<State>, commits: &[Commit], retention: Retention) -> Self {
        let mut history = Self::new(current.clone(), retention);
        history.push(current, commits);
        history
    }

    /// Appends the commits that led from the current state to `state`.
    pub(crate) fn push(&mut self, state: Arc<State>, commits: &[Commit]) {
        let at = Instant::now();
        for commit in commits {
            let bytes = commit.events.iter().map(charge).sum();
            self.bytes += bytes;
            self.window.push_back(Kept { commit: commit.clone(), at, bytes });
        }
        let last_kept = self.states.keys().next_back().copied().unwrap_or(0);
        if state.revision >= last_kept + KEEP_EVERY {
            self.keep(state.clone());
        }
        self.current = state;
        self.evict();
    }

    /// Forgets everything: the state jumped (a snapshot was installed).
    pub(crate) fn reset(&mut self, current: Arc<State>) {
        *self = Self::new(current, self.retention);
    }

    /// The oldest revision whose events are here; one past the current when none are.
    pub(crate) fn oldest(&mut self) -> Revision {
        self.evict();
        self.window.front().map_or(self.current.revision + 1, |kept| kept.commit.revision)
    }

    /// Commits from `from` on.
    ///
    /// # Errors
    /// `Compacted` below the window, `Future` above the next revision.
    pub(crate) fn since(&mut self, from: Revision) -> Result<impl Iterator<Item = &Commit>, Error> {
        let oldest = self.oldest();
        if from < oldest {
            return Err(Error::Compacted(oldest));
        }
        if from > self.current.revision + 1 {
            return Err(Error::Future(self.current.revision));
        }
        Ok(self.window.range((from - oldest) as usize..).map(|kept| &kept.commit))
    }

    /// The state at a revision: the nearest kept one above it, with the events in between undone.
    ///
    /// # Errors
    /// `Compacted` below the state the window begins with, `Future` above the current revision.
    pub(crate) fn state_at(&mut self, revision: Revision) -> Result<Arc<State>, Error> {
        if revision > self.current.revision {
            return Err(Error::Future(self.current.revision));
        }
        let oldest = self.oldest();
        if revision + 1 < oldest {
            return Err(Error::Compacted(oldest - 1));
        }
        let nearest = self.states.range(revision..).next().map_or(&self.current, |(_, state)| state);
        if nearest.revision == revision {
            return Ok(nearest.clone());
        }
        let mut state = State::clone(nearest);
        while state.revision > revision {
            let index = (state.revision - oldest) as usize;
            state.undo(&self.window[index].commit.events);
        }
        let state = Arc::new(state);
        self.keep(state.clone());
        Ok(state)
    }

    fn keep(&mut self, state: Arc<State>) {
        self.states.insert(state.revision, state);
        if self.states.len() > KEEP_MOST {
            let mut odd = false;
            self.states.retain(|_, _| {
                odd = !odd;
                odd
            });
        }
    }

    fn evict(&mut self) {
        let now = Instant::now();
        let over = |history: &Self| {
            history.bytes > history.retention.bytes
                || history.window.front().is_some_and(|kept| now.duration_since(kept.at) > history.retention.age)
        };
        let mut evicted = false;
        while over(self) {
            let Some(kept) = self.window.pop_front() else { break };
            self.bytes -= kept.bytes;
            evicted = true;
        }
        if evicted {
            let first = self.window.front().map_or(self.current.revision, |kept| kept.commit.revision - 1);
            self.states = self.states.split_off(&first);
        }
    }
}

fn charge(event: &Event) -> usize {
    EVENT_OVERHEAD + event.previous.as_ref().map_or(0, |kv| kv.value.len())
}
