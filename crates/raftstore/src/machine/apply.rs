//! Transactions to the next state: no clock, no randomness, no hash order, no IO.

use super::state::State;
use crate::model::{Event, Guard, KeyValue, Op, Revision, Txn, TxnOutcome};
use crate::store::Error;
use bytes::Bytes;
use imbl::OrdMap;
use std::sync::Arc;

/// What one modifying transaction changed.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    /// Its revision.
    pub(crate) revision: Revision,
    /// One event per changed key, in operation order.
    pub(crate) events: Arc<[Event]>,
}

/// Applies one transaction that a leader of `leader_term` put into the log.
///
/// The whole transaction is drafted beside the map first, so a bound that fails leaves no trace.
pub(crate) fn apply(state: &mut State, txn: &Txn, leader_term: u64) -> (Result<TxnOutcome, Error>, Option<Commit>) {
    if txn.term != 0 && txn.term < leader_term {
        return (Err(Error::StaleTerm), None);
    }
    if let Some(index) = txn.guards.iter().position(|guard| !holds(&state.map, guard)) {
        return (Ok(guard_failed(state, index, txn.guards[index].key())), None);
    }
    let mut draft = Draft { map: &state.map, revision: state.revision + 1, modified: false, staged: Vec::new() };
    let mut changed = Vec::with_capacity(txn.ops.len());
    let mut previous = Vec::with_capacity(txn.ops.len());
    for (index, op) in txn.ops.iter().enumerate() {
        let Ok((before, after)) = draft.run(op) else {
            return (Ok(guard_failed(state, txn.guards.len() + index, op_key(op))), None);
        };
        previous.push(before.map(|kv| KeyValue::clone(&kv)));
        changed.push(after.map(|kv| KeyValue::clone(&kv)));
    }
    let commit = draft.modified.then(|| Draft::into_staged(draft)).map(|staged| commit(state, staged));
    (Ok(TxnOutcome::Applied { revision: state.revision, changed, previous }), commit)
}

/// Moves a draft into the state.
fn commit(state: &mut State, staged: Vec<Staged>) -> Commit {
    state.revision += 1;
    let mut events = Vec::with_capacity(staged.len());
    for Staged { key, before, after } in staged {
        state.set(&key, after.clone());
        if before.is_some() || after.is_some() {
            events.push(Event {
                key,
                current: after.map(|kv| KeyValue::clone(&kv)),
                previous: before.map(|kv| KeyValue::clone(&kv)),
                revision: state.revision,
            });
        }
    }
    Commit { revision: state.revision, events: events.into() }
}

fn guard_failed(state: &State, index: usize, key: &Bytes) -> TxnOutcome {
    let current = state.map.get(key).map(|kv| KeyValue::clone(kv));
    TxnOutcome::GuardFailed { index, current, revision: state.revision }
}

fn op_key(op: &Op) -> &Bytes {
    match op {
        Op::Put { key, .. } | Op::Delete(key) | Op::Add { key, .. } => key,
    }
}

fn holds(map: &OrdMap<Bytes, Arc<KeyValue>>, guard: &Guard) -> bool {
    match guard {
        Guard::Absent(key) => !map.contains_key(key),
        Guard::Present(key) => map.contains_key(key),
        Guard::Revision(key, revision) => map.get(key).is_some_and(|kv| kv.mod_revision == *revision),
        Guard::Below(key, delta, max) => {
            counter(map.get(key)).and_then(|n| n.checked_add(*delta)).is_some_and(|sum| sum <= *max)
        }
    }
}

/// A counter's value: absent is 0; None when the key holds something else, so that every bound on it fails.
fn counter(kv: Option<&Arc<KeyValue>>) -> Option<i64> {
    kv.map_or(Some(0), |kv| std::str::from_utf8(&kv.value).ok()?.parse().ok())
}

/// A counter operation over its bound.
struct OverBound;

type Before = Option<Arc<KeyValue>>;
type After = Option<Arc<KeyValue>>;

/// One changed key of a draft.
struct Staged {
    key: Bytes,
    before: Before,
    after: After,
}

/// A transaction's changes beside the map they will go into. Few keys, so lookups are linear.
struct Draft<'a> {
    map: &'a OrdMap<Bytes, Arc<KeyValue>>,
    revision: Revision,
    modified: bool,
    staged: Vec<Staged>,
}

impl Draft<'_> {
    fn into_staged(self) -> Vec<Staged> {
        self.staged
    }

    fn current(&self, key: &[u8]) -> Option<&Arc<KeyValue>> {
        match self.staged.iter().find(|s| s.key == key) {
            Some(staged) => staged.after.as_ref(),
            None => self.map.get(key),
        }
    }

    /// Runs one operation: the key's state before and after it.
    fn run(&mut self, op: &Op) -> Result<(Before, After), OverBound> {
        let before = self.current(op_key(op)).cloned();
        let after = match op {
            Op::Put { key, value, stamp, lease, ttl } => {
                let value = stamped(value, *stamp, self.revision);
                let stamp = stamp.filter(|at| *at as usize <= value.len());
                Some(self.written(before.as_deref(), key, value, Meta { stamp, lease: *lease, ttl: ttl.unwrap_or(0) }))
            }
            Op::Delete(_) if before.is_none() => return Ok((None, None)),
            Op::Delete(_) => None,
            Op::Add { key, delta, max } => {
                let old = counter(before.as_ref()).ok_or(OverBound)?;
                let new = old.checked_add(*delta).filter(|n| n <= max).ok_or(OverBound)?.max(0);
                if before.is_some() && new == old {
                    return Ok((before.clone(), before));
                }
                let value = Bytes::from(new.to_string());
                Some(self.written(before.as_deref(), key, value, Meta { stamp: None, lease: 0, ttl: 0 }))
            }
        };
        self.stage(op_key(op), before.clone(), after.clone());
        Ok((before, after))
    }

    fn stage(&mut self, key: &Bytes, before: Before, after: After) {
        self.modified = true;
        match self.staged.iter_mut().find(|s| s.key == key) {
            Some(staged) => staged.after = after,
            None => {
                let known = after.as_ref().or(before.as_ref()).map_or(key, |kv| &kv.key).clone();
                self.staged.push(Staged { key: known, before, after });
            }
        }
    }

    /// The key's next state. A new key gets an allocation of its own: `key` may be a slice of a log buffer.
    fn written(&self, before: Option<&KeyValue>, key: &Bytes, value: Bytes, meta: Meta) -> Arc<KeyValue> {
        Arc::new(KeyValue {
            key: before.map_or_else(|| Bytes::copy_from_slice(key), |kv| kv.key.clone()),
            value,
            create_revision: before.map_or(self.revision, |kv| kv.create_revision),
            mod_revision: self.revision,
            version: before.map_or(1, |kv| kv.version + 1),
            lease: meta.lease,
            stamp: meta.stamp,
            ttl: meta.ttl,
        })
    }
}

/// What a put says beside the value.
struct Meta {
    stamp: Option<u32>,
    lease: i64,
    ttl: u64,
}

/// The one in-memory copy of a value, with the revision's digits at the stamp. A stamp outside the
/// value is ignored (the caller made a mistake; all members must still agree).
fn stamped(value: &[u8], stamp: Option<u32>, revision: Revision) -> Bytes {
    let Some((head, tail)) = stamp.and_then(|at| value.split_at_checked(at as usize)) else {
        return Bytes::copy_from_slice(value);
    };
    let digits = revision.to_string();
    let mut copy = Vec::with_capacity(value.len() + digits.len());
    copy.extend_from_slice(head);
    copy.extend_from_slice(digits.as_bytes());
    copy.extend_from_slice(tail);
    Bytes::from(copy)
}
