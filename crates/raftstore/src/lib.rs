//! Replicated bytes with revisions: an etcd-like store over openraft and RocksDB.
//!
//! Never parses an object. Entry points: [`store::Store`] (the trait), `node` (start, join), `memory`
//! (reference model of the same trait). Invariants: an answer only after the fsync; revisions rise by
//! one per committed modifying transaction and never fall; apply is pure (no clock, no randomness).

pub mod model;
pub mod store;
