//! The replicated state machine: pure, the same on every member.
//!
//! [`state`] holds the persistent map, [`apply`] turns transactions into its next version.

pub(crate) mod apply;
pub(crate) mod state;
