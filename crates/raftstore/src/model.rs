//! Keys, values, transactions and events.

use bytes::Bytes;

/// A store revision; 0 is "none".
pub type Revision = u64;

/// One key with its value, as of some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value with the revision digits already inserted at the stamp: the one in-memory copy.
    pub value: Bytes,
    /// Revision of the key's creation.
    pub create_revision: Revision,
    /// Revision of the last write.
    pub mod_revision: Revision,
    /// Writes since creation, from 1.
    pub version: u64,
    /// Lease or 0.
    pub lease: i64,
    /// Offset in `value` of the revision's decimal digits (those of `mod_revision`), when it has any.
    pub stamp: Option<u32>,
    /// Seconds from the last write after which the leader deletes the key; 0: never.
    pub ttl: u64,
}

/// The first key after all keys that start with `prefix`, for use as the end of a range.
/// Empty (no upper bound) when there is none: the prefix is empty or all `0xff`.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    Bytes::from(end)
}

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Guard {
    /// The key must not exist.
    Absent(Bytes),
    /// The key must exist with this mod revision.
    Revision(Bytes, Revision),
    /// The key must exist.
    Present(Bytes),
    /// The counter key's value (decimal text, absent = 0) plus delta must not exceed max.
    /// Written by the matching [`Op::Add`].
    Below(Bytes, i64, i64),
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Op {
    /// Writes a value. `stamp` is the offset where apply inserts the revision's decimal digits.
    Put {
        /// The key.
        key: Bytes,
        /// The value without the revision.
        value: Bytes,
        /// Where the revision goes.
        stamp: Option<u32>,
        /// A lease, or 0.
        lease: i64,
        /// Seconds until the leader proposes its deletion (events); None: never.
        ttl: Option<u64>,
    },
    /// Deletes a key, if present.
    Delete(Bytes),
    /// Adds to a counter (decimal text); a result above `max` fails the whole transaction.
    Add {
        /// The counter's key.
        key: Bytes,
        /// What to add; may be negative (the result never falls below 0).
        delta: i64,
        /// Upper bound of the result.
        max: i64,
    },
}

/// Guards and changes on several keys, applied as one or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Txn {
    /// All must hold.
    pub guards: Vec<Guard>,
    /// Applied in order, at one revision.
    pub ops: Vec<Op>,
    /// Refused when a newer leader term has begun (fencing of controllers); 0: no fence.
    pub term: u64,
}

/// The result of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnOutcome {
    /// It was applied. `changed[i]` is the key's new state for `ops[i]` (None for a delete), and
    /// `previous[i]` what it was before.
    Applied {
        /// Revision of the transaction (the current one when nothing was modified).
        revision: Revision,
        /// New states.
        changed: Vec<Option<KeyValue>>,
        /// Previous states.
        previous: Vec<Option<KeyValue>>,
    },
    /// A guard did not hold: its index, and what is stored under its key.
    GuardFailed {
        /// Index into `guards` (`guards.len() + i` for a counter op `i` over its bound).
        index: usize,
        /// What is stored.
        current: Option<KeyValue>,
        /// Current revision.
        revision: Revision,
    },
}

/// Most bytes of keys and values one transaction may carry (etcd's request limit).
pub const MAX_TXN_BYTES: usize = 1_572_864;

impl Txn {
    /// Bytes of all keys and values in it.
    pub fn size(&self) -> usize {
        let guards = self.guards.iter().map(|g| g.key().len());
        let ops = self.ops.iter().map(|op| match op {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete(key) | Op::Add { key, .. } => key.len(),
        });
        guards.chain(ops).sum()
    }
}

impl Guard {
    /// The key it looks at.
    pub fn key(&self) -> &Bytes {
        match self {
            Guard::Absent(key) | Guard::Present(key) | Guard::Revision(key, _) | Guard::Below(key, _, _) => key,
        }
    }
}

/// One change of one key. Events of one transaction share a revision and arrive together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Bytes,
    /// The new state; None when it was deleted.
    pub current: Option<KeyValue>,
    /// The state before; None when it was created.
    pub previous: Option<KeyValue>,
    /// Revision of the change.
    pub revision: Revision,
}

/// What a watch yields.
#[derive(Debug, Clone)]
pub enum WatchItem {
    /// All events of one revision whose keys match, in operation order.
    Events(Revision, std::sync::Arc<[Event]>),
    /// Everything up to this revision has been delivered (sent when other keys move it on).
    Progress(Revision),
}
