//! openraft's type parameters, named once.

use crate::batch::Batch;
use openraft::impls::leader_id_std::LeaderId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A member's id; never used again once the member is gone.
pub type MemberId = u64;

/// How to reach a member.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Member {
    /// `host:port` where the other members reach it.
    pub peer: String,
    /// What else the servers tell each other about it, such as its API address.
    pub meta: BTreeMap<String, String>,
}

openraft::declare_raft_types!(
    /// What the log, the members and the answers are made of.
    pub(crate) Types:
        D = Batch,
        R = (),
        NodeId = MemberId,
        Node = Member,
        LeaderId = LeaderId<u64, u64>,
);

pub(crate) type Raft = openraft::Raft<Types, crate::machine::applier::Applier>;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Membership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type CommittedLeader = openraft::alias::CommittedLeaderIdOf<Types>;

/// The id of the log entry at an index, written by the leader of a term.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeader::new(term), index)
}
