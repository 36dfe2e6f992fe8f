//! A request's way from its door to a verb.

pub mod chain;
mod impersonation;
pub mod info;
pub mod query;
pub(crate) mod rounds;
pub(crate) mod write_options;

pub use chain::{Authorized, Caller};
pub use info::{RequestInfo, Verb};
pub use query::Query;
