//! From an admitted object to the store: the rules every kind shares.

mod bootstrap;
pub(crate) mod commit;
pub(crate) mod engine;
pub(crate) mod gate;
mod gc;
pub mod keys;
pub mod kinds;
pub(crate) mod kubernetes_service;
pub(crate) mod metadata;
mod metadata_rules;
mod names;
pub(crate) mod quota;
pub mod seal;
pub(crate) mod service_ips;
pub(crate) mod tracking;
