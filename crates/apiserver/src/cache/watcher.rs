//! One watch: a position in a kind's window, and what it selects.
//!
//! Watchers hold no queue. They are woken after changes and read the shared window from where they
//! are; one that falls out of the window has been too slow, and its stream ends. It never skips.

use crate::cache::feeder::Caches;
use crate::cache::kind::{KindCache, Snapshot};
use crate::cache::news::Seat;
use crate::cache::selector::Selector;
use crate::cache::window::Change;
use bytes::Bytes;
use kybern_api::error::{Reason, Status};
use kybern_api::object::{EventType, Object};
use std::sync::Arc;
use tokio::time::Instant;

/// So many changes are taken from the window at once: enough to fill a large write.
const BATCH: usize = 256;

/// What a watch yields.
#[derive(Debug, Clone)]
pub enum Item {
    /// An object that was there when the watch began.
    Initial(Object),
    /// A change, as this watch sees it.
    Change(EventType, Arc<Change>),
    /// All changes up to this revision have been delivered; true after the initial objects.
    Bookmark(u64, bool),
}

/// Where a watch begins.
#[derive(Debug, Clone)]
pub enum Start {
    /// With the objects of the snapshot, if true, and then the changes after it.
    Snapshot(bool),
    /// With the changes after a revision.
    After(u64),
}

/// How a watch behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which objects.
    pub selector: Selector,
    /// Suffix prefix of the namespace, or empty.
    pub prefix: String,
    /// Bookmarks are wanted.
    pub bookmarks: bool,
    /// A bookmark marks the end of the initial objects.
    pub mark_initial: bool,
    /// It is read within this process: it is told of every change at once, however many watch.
    pub prompt: bool,
    /// When the stream ends.
    pub deadline: Instant,
    /// Ends the stream early: the server drains.
    pub stop: tokio_util::sync::CancellationToken,
}

struct Initial {
    snapshot: Snapshot,
    next: Option<Bytes>,
}

/// A watch in progress.
pub struct Watcher {
    caches: Arc<Caches>,
    cache: Arc<KindCache>,
    seat: Arc<Seat>,
    options: Options,
    initial: Option<Initial>,
    position: u64,
    after: u64,
    delivered: u64,
    bookmark_at: Instant,
    last_words: bool,
    scratch: Vec<Arc<Change>>,
    /// The start has been forgotten already: the first thing to say.
    refused: Option<Status>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("cache", &self.cache).field("position", &self.position).finish_non_exhaustive()
    }
}

/// Bookmarks come about once a minute.
const BOOKMARK_EVERY: std::time::Duration = std::time::Duration::from_secs(60);
/// The last bookmark comes so long before the deadline.
const LAST_BOOKMARK: std::time::Duration = std::time::Duration::from_secs(2);

/// The answer to a watch from a revision that has been forgotten.
pub fn too_old(requested: u64, oldest: u64) -> Status {
    Status::new(Reason::Expired, format!("too old resource version: {requested} ({oldest})"))
}

impl Watcher {
    /// Opens a watch on `cache`. When its start has been forgotten, its first item is the error.
    pub fn open(caches: Arc<Caches>, cache: Arc<KindCache>, start: Start, options: Options) -> Self {
        let mut refused = None;
        let (initial, position, after) = match start {
            Start::Snapshot(with_objects) => {
                let (snapshot, position) = cache.snapshot_and_position(caches.applied());
                let revision = snapshot.revision;
                let next = Some(Bytes::copy_from_slice(options.prefix.as_bytes()));
                (with_objects.then_some(Initial { snapshot, next }), position, revision)
            }
            Start::After(revision) => {
                let position = cache.position_after(revision);
                if position.is_none() {
                    refused = Some(too_old(revision, cache.oldest()));
                }
                (None, position.unwrap_or_default(), revision)
            }
        };
        let seat = Arc::new(cache.news.join(options.prompt));
        let bookmark_at = (Instant::now() + BOOKMARK_EVERY).min(options.deadline - LAST_BOOKMARK);
        Self {
            caches,
            cache,
            seat,
            options,
            initial,
            position,
            after,
            delivered: after,
            bookmark_at,
            last_words: false,
            scratch: Vec::new(),
            refused,
        }
    }

    /// Appends the next items to `out`; waits until there is at least one. False: the watch has ended.
    ///
    /// # Errors
    /// Expired, when the watch was too slow and changes have been forgotten.
    pub async fn next(&mut self, out: &mut Vec<Item>) -> Result<bool, Status> {
        if let Some(status) = self.refused.take() {
            return Err(status);
        }
        loop {
            if self.initial.is_some() {
                self.take_initial(out);
                return Ok(true);
            }
            let seat = self.seat.clone();
            let news = seat.next();
            tokio::pin!(news);
            // Registered before looking, so that what comes while looking wakes us.
            news.as_mut().enable();
            self.take_changes(out)?;
            if !out.is_empty() {
                return Ok(true);
            }
            tokio::select! {
                () = &mut news => {}
                () = tokio::time::sleep_until(self.options.deadline) => return Ok(false),
                () = self.options.stop.cancelled() => return Ok(false),
                () = tokio::time::sleep_until(self.bookmark_at), if self.options.bookmarks && !self.last_words => {
                    self.bookmark(out)?;
                    return Ok(true);
                }
            }
        }
    }

    fn take_initial(&mut self, out: &mut Vec<Item>) {
        let Some(mut initial) = self.initial.take() else { return };
        let start = initial.next.take();
        for (taken, (suffix, object)) in initial.snapshot.range(&self.options.prefix, start.as_deref()).enumerate() {
            if taken == BATCH {
                initial.next = Some(suffix.clone());
                break;
            }
            if self.options.selector.matches(&object.head) {
                out.push(Item::Initial(object.clone()));
            }
        }
        if initial.next.is_some() {
            self.initial = Some(initial);
        } else if self.options.mark_initial {
            out.push(Item::Bookmark(initial.snapshot.revision, true));
        }
    }

    fn take_changes(&mut self, out: &mut Vec<Item>) -> Result<(), Status> {
        loop {
            let mut changes = std::mem::take(&mut self.scratch);
            if !self.cache.read(self.position, BATCH, &mut changes) {
                return Err(too_old(self.delivered, self.cache.oldest()));
            }
            let last = changes.len() < BATCH;
            self.position += changes.len() as u64;
            for change in changes.drain(..) {
                if change.revision <= self.after || !change.suffix.starts_with(self.options.prefix.as_bytes()) {
                    continue;
                }
                self.delivered = change.revision;
                if let Some(kind) = self.options.selector.judge(&change) {
                    out.push(Item::Change(kind, change));
                }
            }
            self.scratch = changes;
            if last || !out.is_empty() {
                return Ok(());
            }
        }
    }

    /// A bookmark of the shared revision, once everything up to it has been delivered; changes that
    /// came meanwhile go first, and say as much themselves.
    fn bookmark(&mut self, out: &mut Vec<Item>) -> Result<(), Status> {
        let applied = self.caches.applied();
        self.take_changes(out)?;
        let last = self.options.deadline - LAST_BOOKMARK;
        self.last_words = self.bookmark_at >= last;
        self.bookmark_at = (self.bookmark_at + BOOKMARK_EVERY).min(last);
        if out.is_empty() {
            out.push(Item::Bookmark(applied.max(self.delivered), false));
        }
        Ok(())
    }
}
