//! The last changes of a kind: what watches replay from and what older snapshots are rebuilt with.

use bytes::Bytes;
use kybern_api::object::{EventType, Object};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// One change of one object, with the state before it.
#[derive(Debug)]
pub struct Change {
    /// The key without the kind's prefix.
    pub suffix: Bytes,
    /// The new state; None when it was deleted.
    pub current: Option<Object>,
    /// The state before; None when it was created.
    pub previous: Option<Object>,
    /// Revision of the change.
    pub revision: u64,
    frames: Mutex<Vec<(FrameKey, Bytes)>>,
}

/// Which rendition of a change a watch frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameKey {
    /// The event's type as this watcher sees it.
    pub kind: EventType,
    /// Row of the kind's group that is asked for (two groups may share a storage).
    pub resource: u32,
    /// Index of the served version.
    pub version: u8,
    /// Object, Table or PartialObjectMetadata and their media types, as `present` numbers them.
    pub rendition: u8,
}

impl Change {
    /// A change without frames.
    pub fn new(suffix: Bytes, current: Option<Object>, previous: Option<Object>, revision: u64) -> Self {
        Self { suffix, current, previous, revision, frames: Mutex::new(Vec::new()) }
    }

    /// The frame for `key`, built at most once per key while the change is recent.
    pub fn frame(&self, key: FrameKey, build: impl FnOnce() -> Bytes) -> Bytes {
        let mut frames = self.frames.lock();
        if let Some((_, frame)) = frames.iter().find(|(k, _)| *k == key) {
            return frame.clone();
        }
        let frame = build();
        frames.push((key, frame.clone()));
        frame
    }

    fn drop_frames(&self) {
        *self.frames.lock() = Vec::new();
    }

    fn weight(&self) -> usize {
        let len = |o: &Option<Object>| o.as_ref().map_or(0, |o| o.bytes.len());
        // The previous state is in the change before, or in the list: counted once, here, when superseded.
        len(&self.previous).max(len(&self.current)) + 256
    }
}

/// Bounds of a window.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of the changes kept.
    pub bytes: usize,
    /// Age of the oldest change kept, in seconds.
    pub age: i64,
}

impl Default for Bounds {
    /// 32 MiB and five minutes, as long as the store's own history.
    fn default() -> Self {
        Self { bytes: 32 << 20, age: 300 }
    }
}

/// Changes keep their shared frames until so many newer ones have come: watchers that keep up share
/// them, laggards rebuild them, and memory does not hold two copies of five minutes.
const FRAMED: usize = 256;

/// The changes after `base`, oldest first, addressed by an ever growing index.
#[derive(Debug)]
pub struct Window {
    changes: VecDeque<(i64, Arc<Change>)>,
    first: u64,
    base: u64,
    bytes: usize,
    bounds: Bounds,
}

impl Window {
    /// An empty window that knows nothing before `base`.
    pub fn new(base: u64, first: u64, bounds: Bounds) -> Self {
        Self { changes: VecDeque::new(), first, base, bytes: 0, bounds }
    }

    /// All changes after this revision are here.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The index that the next change will get.
    pub fn end(&self) -> u64 {
        self.first + self.changes.len() as u64
    }

    /// Appends a change made at `now` (seconds) and forgets what is out of bounds.
    pub fn push(&mut self, change: Change, now: i64) {
        self.bytes += change.weight();
        self.changes.push_back((now, Arc::new(change)));
        if let Some(at) = self.changes.len().checked_sub(FRAMED) {
            self.changes[at].1.drop_frames();
        }
        while let Some((at, oldest)) = self.changes.front() {
            if self.bytes <= self.bounds.bytes && now - at <= self.bounds.age {
                break;
            }
            self.bytes -= oldest.weight();
            self.base = oldest.revision;
            self.changes.pop_front();
            self.first += 1;
        }
    }

    /// The index of the first change after `revision`; None when such changes may have been forgotten.
    pub fn after(&self, revision: u64) -> Option<u64> {
        (revision >= self.base)
            .then(|| self.first + self.changes.partition_point(|(_, c)| c.revision <= revision) as u64)
    }

    /// Copies up to `limit` changes from index `from` on; false when they have been forgotten.
    pub fn read(&self, from: u64, limit: usize, out: &mut Vec<Arc<Change>>) -> bool {
        let Some(skip) = from.checked_sub(self.first) else { return false };
        out.extend(self.changes.iter().skip(skip as usize).take(limit).map(|(_, c)| c.clone()));
        true
    }

    /// The changes after `revision`, newest first.
    pub fn undo(&self, revision: u64) -> impl Iterator<Item = &Arc<Change>> {
        self.changes.iter().rev().map(|(_, c)| c).take_while(move |c| c.revision > revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64) -> Change {
        Change::new(Bytes::from_static(b"a"), None, None, revision)
    }

    #[test]
    fn forgets_by_age_and_says_so() {
        let mut w = Window::new(10, 0, Bounds { bytes: 1 << 20, age: 300 });
        for (revision, at) in [(11, 0), (15, 100), (20, 350)] {
            w.push(change(revision), at);
        }
        assert_eq!(w.base(), 11, "the change at second 0 is too old at second 350");
        assert_eq!(w.after(10), None);
        assert_eq!(w.after(11), Some(1));
        assert_eq!(w.after(15), Some(2));
        assert_eq!(w.after(99), Some(3));
        let mut out = Vec::new();
        assert!(!w.read(0, 9, &mut out), "index 0 is gone");
        assert!(w.read(1, 9, &mut out));
        assert_eq!(out.iter().map(|c| c.revision).collect::<Vec<_>>(), [15, 20]);
    }

    #[test]
    fn forgets_by_bytes() {
        let mut w = Window::new(0, 0, Bounds { bytes: 600, age: 300 });
        for revision in 1..=5 {
            w.push(change(revision), 0);
        }
        assert_eq!((w.base(), w.end()), (3, 5));
    }

    #[test]
    fn a_frame_is_built_once() {
        let c = change(1);
        let key = FrameKey { kind: EventType::Added, resource: 0, version: 0, rendition: 0 };
        let first = c.frame(key, || Bytes::from_static(b"x"));
        assert_eq!(c.frame(key, || unreachable!("already built")), first);
    }
}
