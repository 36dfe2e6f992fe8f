//! The API server: one corridor from a request to the store, the same for every kind and every door.
//!
//! Must never know: what a kind means (that is `kybern_api::kinds`), how the store replicates.
//!
//! Entry points: [`ApiServer::new`] (from [`Parts`]), [`ApiServer::serve`] (TLS, HTTP/1.1 and HTTP/2 on
//! one port), [`ApiServer::handle`] (one HTTP request), [`ApiServer::transport`] (in-process clients).
//!
//! Invariants: only the corridor makes an [`request::Authorized`], and verbs take it by value; only
//! `registry::commit` writes to the store; an object is serialised once, at commit, and lists and
//! watches share those bytes; nothing but health is answered before the store has caught up with its
//! cluster; a write whose outcome is unknown is never proposed again.

pub mod audit;
pub mod cache;
pub mod config;
pub mod discovery;
mod documents;
pub mod doors;
pub mod error;
pub mod fairness;
pub mod fields;
mod health;
pub mod metrics;
pub mod nodes;
pub mod openapi;
pub mod patch;
mod paths;
pub mod present;
mod recovery;
pub mod registry;
pub mod request;
pub mod serve;
mod server;
mod subresource;
mod usage;
mod verbs;

pub use config::Config;
pub use error::Error;
pub use registry::seal::{PlainSealer, Sealer};
pub use registry::service_ips::Ranges;
pub use server::{ApiServer, Parts, PathHandler};
