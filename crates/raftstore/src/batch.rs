//! The payload of a log entry: transactions in their encoded form, decoded only by apply.
//!
//! A transaction is encoded once, by the member whose caller proposed it; the same bytes are forwarded,
//! grouped (by concatenation), written to every log and replicated. Decoding borrows from them.

use crate::model::{Guard, Op, Revision, Txn};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Who waits for a transaction's result: a run of a member, and a number within that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Ticket {
    /// The run of the member, see `columns::Identity`.
    pub(crate) run: u64,
    /// Counted from 0 in that run.
    pub(crate) number: u64,
}

/// Encoded proposals, one after another.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Batch(pub(crate) Bytes);

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} bytes)", self.0.len())
    }
}

impl std::fmt::Display for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// An entry of the log that cannot be decoded: it was written by a newer version, or is damaged.
#[derive(Debug, thiserror::Error)]
#[error("log entry cannot be decoded: {0}")]
pub(crate) struct Undecodable(#[from] postcard::Error);

/// Encodes one proposal.
pub(crate) fn encode(ticket: Ticket, txn: &Txn) -> Bytes {
    let wire = WireProposal {
        ticket,
        term: txn.term,
        guards: txn.guards.iter().map(WireGuard::from).collect(),
        ops: txn.ops.iter().map(WireOp::from).collect(),
    };
    let buffer = Vec::with_capacity(txn.size() + 64);
    // Writing to memory fails only for lengths no machine holds.
    postcard::to_extend(&wire, buffer).map(Bytes::from).unwrap_or_default()
}

impl Batch {
    /// The proposals in it. Keys and values are slices of the batch.
    pub(crate) fn decode(&self) -> Result<Vec<(Ticket, Txn)>, Undecodable> {
        let mut proposals = Vec::new();
        let mut rest: &[u8] = &self.0;
        while !rest.is_empty() {
            let (wire, remainder) = postcard::take_from_bytes::<WireProposal<'_>>(rest)?;
            rest = remainder;
            let guards = wire.guards.iter().map(|guard| guard.to_guard(&self.0)).collect();
            let ops = wire.ops.iter().map(|op| op.to_op(&self.0)).collect();
            proposals.push((wire.ticket, Txn { guards, ops, term: wire.term }));
        }
        Ok(proposals)
    }
}

// The encoding of version 1 (`columns::FORMAT`): variants and fields are only ever appended.

#[derive(Serialize, Deserialize)]
struct WireProposal<'a> {
    ticket: Ticket,
    term: u64,
    #[serde(borrow)]
    guards: Vec<WireGuard<'a>>,
    #[serde(borrow)]
    ops: Vec<WireOp<'a>>,
}

/// Bytes that are written as a whole and read without a copy.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&'a [u8]>::deserialize(deserializer).map(Raw)
    }
}

#[derive(Serialize, Deserialize)]
enum WireGuard<'a> {
    Absent(#[serde(borrow)] Raw<'a>),
    Revision(Raw<'a>, Revision),
    Present(Raw<'a>),
    Below(Raw<'a>, i64, i64),
}

#[derive(Serialize, Deserialize)]
enum WireOp<'a> {
    Put {
        #[serde(borrow)]
        key: Raw<'a>,
        value: Raw<'a>,
        stamp: Option<u32>,
        lease: i64,
        ttl: Option<u64>,
    },
    Delete(Raw<'a>),
    Add {
        key: Raw<'a>,
        delta: i64,
        max: i64,
    },
}

impl<'a> From<&'a Guard> for WireGuard<'a> {
    fn from(guard: &'a Guard) -> Self {
        match guard {
            Guard::Absent(key) => Self::Absent(Raw(key)),
            Guard::Revision(key, revision) => Self::Revision(Raw(key), *revision),
            Guard::Present(key) => Self::Present(Raw(key)),
            Guard::Below(key, delta, max) => Self::Below(Raw(key), *delta, *max),
        }
    }
}

impl WireGuard<'_> {
    fn to_guard(&self, source: &Bytes) -> Guard {
        match self {
            Self::Absent(key) => Guard::Absent(source.slice_ref(key.0)),
            Self::Revision(key, revision) => Guard::Revision(source.slice_ref(key.0), *revision),
            Self::Present(key) => Guard::Present(source.slice_ref(key.0)),
            Self::Below(key, delta, max) => Guard::Below(source.slice_ref(key.0), *delta, *max),
        }
    }
}

impl<'a> From<&'a Op> for WireOp<'a> {
    fn from(op: &'a Op) -> Self {
        match op {
            Op::Put { key, value, stamp, lease, ttl } => {
                Self::Put { key: Raw(key), value: Raw(value), stamp: *stamp, lease: *lease, ttl: *ttl }
            }
            Op::Delete(key) => Self::Delete(Raw(key)),
            Op::Add { key, delta, max } => Self::Add { key: Raw(key), delta: *delta, max: *max },
        }
    }
}

impl WireOp<'_> {
    fn to_op(&self, source: &Bytes) -> Op {
        match self {
            Self::Put { key, value, stamp, lease, ttl } => Op::Put {
                key: source.slice_ref(key.0),
                value: source.slice_ref(value.0),
                stamp: *stamp,
                lease: *lease,
                ttl: *ttl,
            },
            Self::Delete(key) => Op::Delete(source.slice_ref(key.0)),
            Self::Add { key, delta, max } => Op::Add { key: source.slice_ref(key.0), delta: *delta, max: *max },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txn(key: &'static str) -> Txn {
        Txn {
            guards: vec![Guard::Absent(key.into()), Guard::Below("n".into(), 1, 9)],
            ops: vec![
                Op::Put { key: key.into(), value: "{}".into(), stamp: Some(1), lease: 0, ttl: Some(5) },
                Op::Add { key: "n".into(), delta: -1, max: 9 },
                Op::Delete("gone".into()),
            ],
            term: 7,
        }
    }

    #[test]
    fn concatenated_proposals_decode_in_order() {
        let tickets = [Ticket { run: 1 << 40, number: 0 }, Ticket { run: 3, number: 300 }];
        let encoded: Vec<u8> =
            [encode(tickets[0], &txn("a")), encode(tickets[1], &txn("b"))].iter().flatten().copied().collect();
        let decoded = Batch(encoded.into()).decode().unwrap();
        assert_eq!(decoded, vec![(tickets[0], txn("a")), (tickets[1], txn("b"))]);
    }

    #[test]
    fn a_damaged_batch_is_an_error() {
        let encoded = encode(Ticket { run: 1, number: 1 }, &txn("a"));
        assert!(Batch(encoded.slice(..encoded.len() - 1)).decode().is_err());
        assert!(Batch(Bytes::from_static(&[0xff; 40])).decode().is_err());
    }
}
