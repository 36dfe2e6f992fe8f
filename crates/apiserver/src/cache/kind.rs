//! The objects of one kind in memory: the current state, and the window of changes that led to it.

use crate::cache::news::News;
use crate::cache::window::{Bounds, Change, Window};
use crate::registry::keys::Keys;
use bytes::Bytes;
use imbl::OrdMap;
use kybern_api::object::Object;
use parking_lot::RwLock;
use std::sync::Arc;

/// Objects in key order (namespace, then name), by key suffix. Cloning is a pointer copy.
pub type Objects = OrdMap<Bytes, Object>;

/// The state of a kind at one revision.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// All changes up to here, and none after, are in `objects`.
    pub revision: u64,
    /// The objects.
    pub objects: Objects,
}

impl Snapshot {
    /// Objects whose suffix starts with `prefix`, from `start` (or the beginning) on.
    pub fn range<'a>(&'a self, prefix: &'a str, start: Option<&[u8]>) -> impl Iterator<Item = (&'a Bytes, &'a Object)> {
        let from = Bytes::copy_from_slice(start.filter(|s| *s >= prefix.as_bytes()).unwrap_or(prefix.as_bytes()));
        self.objects.range(from..).take_while(move |(k, _)| k.starts_with(prefix.as_bytes()))
    }
}

struct State {
    objects: Objects,
    window: Window,
    changed: u64,
}

/// The cache of one storage (one kind; two rows that share a storage share it).
pub struct KindCache {
    keys: Keys,
    bounds: Bounds,
    state: RwLock<State>,
    /// Told after changes were appended, and when the cache was reset.
    pub(super) news: Arc<News>,
}

impl std::fmt::Debug for KindCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KindCache").field("prefix", self.keys.prefix()).finish_non_exhaustive()
    }
}

impl KindCache {
    /// An empty cache for the objects under `keys`.
    pub fn new(keys: Keys, bounds: Bounds) -> Self {
        let state = State { objects: Objects::new(), window: Window::new(0, 0, bounds), changed: 0 };
        Self { keys, bounds, state: RwLock::new(state), news: News::new() }
    }

    /// Where the kind's objects lie.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Starts over from a complete state at `revision`; open watches end with "too old".
    pub(super) fn reset(&self, objects: Objects, revision: u64) {
        let mut s = self.state.write();
        // Indexes go on growing past every open watcher's position, so none mistakes the new window for its own.
        let first = s.window.end() + 1;
        *s = State { objects, window: Window::new(revision, first, self.bounds), changed: revision };
        drop(s);
        self.news.tell_all();
    }

    /// Applies the changes of one revision, made known at `now` (seconds).
    pub(super) fn apply(&self, changes: impl IntoIterator<Item = (Bytes, Option<Object>)>, revision: u64, now: i64) {
        let mut s = self.state.write();
        for (suffix, current) in changes {
            let previous = match &current {
                Some(object) => s.objects.insert(suffix.clone(), object.clone()),
                None => s.objects.remove(&suffix),
            };
            if current.is_some() || previous.is_some() {
                s.window.push(Change::new(suffix, current, previous, revision), now);
            }
        }
        s.changed = revision;
    }

    /// Revision of the kind's last change.
    pub fn changed_at(&self) -> u64 {
        self.state.read().changed
    }

    /// One object.
    pub fn get(&self, suffix: &[u8]) -> Option<Object> {
        self.state.read().objects.get(suffix).cloned()
    }

    /// The current state. `applied` is the shared revision, read *before* this call: the state holds
    /// everything up to it, and perhaps already its own kind's later changes.
    pub fn snapshot(&self, applied: u64) -> Snapshot {
        let s = self.state.read();
        Snapshot { revision: applied.max(s.changed), objects: s.objects.clone() }
    }

    /// The state at an older revision; None when the window does not reach back so far.
    pub fn snapshot_at(&self, revision: u64) -> Option<Snapshot> {
        let s = self.state.read();
        if revision < s.window.base() {
            return None;
        }
        let mut objects = s.objects.clone();
        for change in s.window.undo(revision) {
            match &change.previous {
                Some(object) => objects.insert(change.suffix.clone(), object.clone()),
                None => objects.remove(&change.suffix),
            };
        }
        Some(Snapshot { revision, objects })
    }

    /// The oldest revision a watch may start after.
    pub fn oldest(&self) -> u64 {
        self.state.read().window.base()
    }

    /// Index of the first change after `revision`; None when it may have been forgotten.
    pub(super) fn position_after(&self, revision: u64) -> Option<u64> {
        self.state.read().window.after(revision)
    }

    /// The current state together with the index of the change that will follow it.
    pub(super) fn snapshot_and_position(&self, applied: u64) -> (Snapshot, u64) {
        let s = self.state.read();
        (Snapshot { revision: applied.max(s.changed), objects: s.objects.clone() }, s.window.end())
    }

    /// Copies up to `limit` changes from `position` on; false when they have been forgotten.
    pub(super) fn read(&self, position: u64, limit: usize, out: &mut Vec<Arc<Change>>) -> bool {
        self.state.read().window.read(position, limit, out)
    }
}
