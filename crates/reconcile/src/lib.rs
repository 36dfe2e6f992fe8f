//! The controller machine: queue, pure plans, one executor, leader lease, events.
//!
//! Must never know: a kind, the network, the store. A controller is data ([`def::ControllerDef`])
//! plus a pure function from a read-only [`view::View`] to a [`plan::Plan`]; this crate watches,
//! queues, calls the function and carries out what it says.
//!
//! Entry points: [`run::Runtime`] starts controllers; [`def::role`] is the RBAC rule set that
//! follows from a definition; [`lease::take_over`]; [`events::Recorder`].
//!
//! Invariants: one key of one controller is never worked on twice at once; a key is planned again
//! only after every informer of the controller shows what its last plan wrote, so a stale view never
//! makes duplicates; only [`act`] writes; nothing is asked for periodically.

pub mod act;
pub mod def;
pub mod events;
pub mod lease;
pub mod plan;
pub mod queue;
pub mod run;
pub mod steady;
pub mod view;

/// Why a plan could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A stored object does not fit the type it should have.
    #[error("cannot decode {0}")]
    Decode(String, #[source] serde_json::Error),
    /// A value of ours does not fit JSON.
    #[error("cannot encode")]
    Encode(#[source] serde_json::Error),
    /// The object asks for something impossible; a change of the object will bring it back.
    #[error("{0}")]
    Invalid(String),
}
