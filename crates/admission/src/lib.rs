//! Admission: plugins in Kubernetes' order between authorisation and the store.
//!
//! Must never know: HTTP, the store. Reads objects through [`kybern_api::seam::Lister`].
//!
//! Entry points: [`Chain::new`] (which plugins run), [`Chain::mutate`], [`Chain::validate`].
//! Invariants: mutation is idempotent, so it can run again after a webhook changed the object; what
//! mutation sets, validation does not take for granted; a plugin looks at the object as it will be stored.

mod chain;
mod paths;
mod plugin;
mod plugins;

pub use chain::{Chain, Error, Switches};
pub use plugin::{Env, Operation, Plugin, Request};
pub use plugins::event_rate_limit::{EventLimit, event_limits};
