//! Replicated bytes with revisions: an etcd-like store over openraft and RocksDB.
//!
//! Never parses an object: it knows keys, values and the offset where a revision's digits belong.
//!
//! Entry points: [`store::Store`] (the trait), [`node::RaftStore`] (a member: start, found, join),
//! [`memory::MemoryStore`] (reference model of the same trait).
//!
//! Invariants: an answer only after the fsync on a quorum; revisions rise by one per committed modifying
//! transaction and never fall; `machine` is pure (no clock, no randomness, no hash order); a watch
//! delivers every event of its prefix once and in order, or ends with an error; a transaction whose
//! outcome is unknown is never proposed again.

mod barrier;
mod batch;
mod columns;
mod config;
mod core;
mod disk;
mod expire;
mod forward;
mod history;
mod hub;
mod leadership;
mod log;
mod machine;
mod membership;
pub mod memory;
mod metrics;
pub mod model;
mod net;
pub mod node;
mod pending;
mod propose;
mod replica;
#[cfg(test)]
mod storage_suite;
pub mod store;
mod types;

pub use history::Retention;
pub use membership::MemberInfo;
pub use types::{Member, MemberId};
