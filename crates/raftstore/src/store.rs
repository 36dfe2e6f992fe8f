//! The store's trait: what the API server uses. Implemented by the Raft node and by the memory model.

use crate::model::{KeyValue, Revision, Txn, TxnOutcome, WatchItem};
use bytes::Bytes;
use std::sync::Arc;

/// Why the store could not answer.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The revision was compacted away; the first that is still there.
    #[error("required revision has been compacted (oldest is {0})")]
    Compacted(Revision),
    /// The revision lies in the future; the current one.
    #[error("required revision is a future revision (current is {0})")]
    Future(Revision),
    /// No leader could be reached: the write was certainly not proposed.
    #[error("no leader: {0}")]
    NoLeader(String),
    /// The outcome is unknown: the write may or may not have been applied. Never retried by the server.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The transaction's term has passed: its author no longer leads.
    #[error("the term of the writer has passed")]
    StaleTerm,
    /// A key or value over the limit.
    #[error("request is too large ({0} bytes)")]
    TooLarge(usize),
    /// The disk is full: writes are refused, reads and deletes work.
    #[error("no space left in the store")]
    NoSpace,
    /// The store is shutting down.
    #[error("the store is stopped")]
    Stopped,
    /// The reader was too slow and its stream was closed; resume from the last revision seen.
    #[error("watcher too slow, resume from the last revision seen")]
    Lagged,
}

/// An immutable view of all keys at one revision. Cloning is a pointer copy.
pub trait View: Send + Sync {
    /// The revision.
    fn revision(&self) -> Revision;
    /// One key.
    fn get(&self, key: &[u8]) -> Option<KeyValue>;
    /// Keys in `[start, end)` (an empty `end`: no upper bound) in order, at most `limit` (0: all), and whether there were more.
    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> (Vec<KeyValue>, bool);
    /// Number of keys in `[start, end)` (an empty `end`: no upper bound).
    fn count(&self, start: &[u8], end: &[u8]) -> usize;
}

/// A watch: items in revision order, without gap. Dropping it ends it.
#[async_trait::async_trait]
pub trait Watch: Send {
    /// The next item; waits. `Err(Lagged)` closes the watch. Dropping the future loses no item.
    async fn next(&mut self) -> Result<WatchItem, Error>;
}

/// Who leads, as this member knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The current term.
    pub term: u64,
    /// Does this member lead (and hold a quorum's lease)?
    pub leading: bool,
    /// The leader's member id, when known.
    pub leader: Option<u64>,
}

/// A replicated store.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// The state this member has applied: a pointer copy, possibly stale.
    fn view(&self) -> Arc<dyn View>;
    /// The state at an older revision: the nearest kept snapshot plus the window.
    ///
    /// # Errors
    /// `Compacted` or `Future`.
    fn view_at(&self, revision: Revision) -> Result<Arc<dyn View>, Error>;
    /// Waits until this member has applied everything committed before the call (ReadIndex), and
    /// returns the revision then applied. Concurrent callers share one round trip.
    async fn read_barrier(&self) -> Result<Revision, Error>;
    /// Waits until this member has applied at least `revision`.
    async fn wait_for(&self, revision: Revision, timeout: std::time::Duration) -> Result<(), Error>;
    /// Proposes a transaction; forwards to the leader when this member does not lead. Answers only
    /// after it is durable on a quorum and applied here.
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error>;
    /// Events of keys that start with `prefix` (empty: all), from revision `from` on (0: from now),
    /// replayed from the window.
    ///
    /// # Errors
    /// `Compacted` when `from` is older than the window, `Future` when it lies in the future.
    fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, Error>;
    /// The oldest revision a watch may start from.
    fn oldest(&self) -> Revision;
    /// Leadership, changing over time.
    fn leadership(&self) -> tokio::sync::watch::Receiver<Leadership>;
    /// Some keys for convenience.
    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.view().get(key)
    }
}
