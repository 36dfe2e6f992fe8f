//! The only caller of `Store::txn`: proposes one object's new state, guarded by what was read.

use crate::error::of_store;
use crate::registry::kinds::Resource;
use crate::server::Inner;
use bytes::Bytes;
use kybern_api::codec::Encoded;
use kybern_api::error::Status;
use kybern_raftstore::model::{Guard, KeyValue, Op, Txn, TxnOutcome};
use kybern_raftstore::store::Error as StoreError;

/// What must hold for the write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing is stored under the key.
    Absent,
    /// What was read is still there.
    Revision(u64),
}

/// What becomes of the object.
#[derive(Debug)]
pub enum Change {
    /// Its new state.
    Put(Box<Encoded>),
    /// It goes.
    Delete,
}

/// One object's change and what must happen with it or not at all.
#[derive(Debug)]
pub struct Proposal {
    /// The object's key.
    pub key: Bytes,
    /// The guard.
    pub expect: Expect,
    /// The change.
    pub change: Change,
    /// Further guards.
    pub guards: Vec<Guard>,
    /// Further changes: addresses and ports taken or given back.
    pub ops: Vec<Op>,
    /// The writer's leader term, or 0.
    pub term: u64,
}

/// What came of it.
#[derive(Debug)]
pub enum Committed {
    /// It was carried out: the new entry (or, for a deletion, none) and the revision.
    Done {
        /// The object as stored.
        entry: Option<KeyValue>,
        /// The transaction's revision.
        revision: u64,
    },
    /// The object is not as expected: what is stored now.
    Lost(Option<KeyValue>),
    /// One of the further guards or counters failed: its index among them.
    Refused(usize),
}

/// Proposes, and waits until the change is durable and applied here.
pub async fn commit(server: &Inner, resource: &Resource, proposal: Proposal) -> Result<Committed, Status> {
    let def = resource.def();
    let Proposal { key, expect, change, guards: further, ops: more, term } = proposal;
    let first = match expect {
        Expect::Absent => Guard::Absent(key.clone()),
        Expect::Revision(revision) => Guard::Revision(key.clone(), revision),
    };
    let own = match change {
        Change::Delete => Op::Delete(key.clone()),
        Change::Put(encoded) => {
            // A sealed value gets its revision when it is opened.
            let stamp = (!def.sealed).then_some(encoded.stamp);
            let value = resource.kind.opener.seal(&key, encoded.bytes).map_err(Status::internal)?;
            Op::Put { key: key.clone(), value, stamp, lease: 0, ttl: def.ttl }
        }
    };
    let mut guards = Vec::with_capacity(1 + further.len());
    guards.push(first);
    guards.extend(further);
    let mut ops = Vec::with_capacity(1 + more.len());
    ops.push(own);
    ops.extend(more);
    let txn = Txn { guards, ops, term };
    match server.store.txn(txn).await.map_err(of_store)? {
        TxnOutcome::Applied { revision, changed, .. } => {
            Ok(Committed::Done { entry: changed.into_iter().next().flatten(), revision })
        }
        TxnOutcome::GuardFailed { index: 0, current, .. } => Ok(Committed::Lost(current)),
        TxnOutcome::GuardFailed { index, .. } => Ok(Committed::Refused(index - 1)),
    }
}

/// Live servers are noted below this: the address they are reached at, with their member id.
pub const SERVERS: &[u8] = b"/servers/";

/// Notes that this server lives; the note goes by itself `ttl` seconds after the last.
pub async fn announce(server: &Inner, ttl: u64) -> Result<(), StoreError> {
    let value = Bytes::from(server.config.member.to_string());
    let put = Op::Put { key: note_of(server), value, stamp: None, lease: 0, ttl: Some(ttl) };
    server.store.txn(Txn { guards: Vec::new(), ops: vec![put], term: 0 }).await.map(drop)
}

/// Takes this server's note away: it stops.
pub async fn retire(server: &Inner) -> Result<(), StoreError> {
    let ops = vec![Op::Delete(note_of(server))];
    server.store.txn(Txn { guards: Vec::new(), ops, term: 0 }).await.map(drop)
}

fn note_of(server: &Inner) -> Bytes {
    Bytes::from([SERVERS, server.config.advertise.to_string().as_bytes()].concat())
}
