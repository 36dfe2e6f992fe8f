//! The replicated state machine.
//!
//! [`state`] holds the persistent map and [`apply`] turns transactions into its next version: both pure,
//! the same on every member. [`applier`] is the shell around them that openraft drives, [`load`] reads
//! their rows back, [`snapshot`] moves a state between members.

pub(crate) mod applier;
pub(crate) mod apply;
pub(crate) mod load;
#[cfg(test)]
mod model_test;
pub(crate) mod snapshot;
pub(crate) mod state;
