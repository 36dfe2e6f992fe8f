//! Certificates that are replaced while the cluster runs.
//!
//! The leader takes the steps (`lead`, after the pure `plan`): it writes a set of keys, sealed, into a Secret.
//! Every server follows that (`follow`), takes the set into use (`keeper`) and says so in a ConfigMap, in
//! which the leader tells the nodes what to believe and whether to renew. A node says on its Node what it
//! has done. The next step waits until all have taken the one before.

mod board;
mod follow;
mod keeper;
mod lead;
mod plan;

pub(super) use follow::Follower;
pub(super) use keeper::{Keeper, Place};
pub(super) use lead::Leader;

pub(crate) use board::{Board, Kind, REQUEST, Request};
