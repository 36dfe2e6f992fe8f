//! The client every component uses: requests, watches, informers, over HTTPS or in-process.
//!
//! Must never know: how the server works inside, what a kind means.
//!
//! Entry points: [`transport::Transport`], the seam; [`http::HttpTransport`], requests over TLS to
//! any of several servers; [`set::InformerSet`], one shared [`informer::Informer`] per resource and
//! selection; [`write::Writer`], changes with preconditions; [`typed`], the bridge to the structs of
//! `k8s-openapi`; [`kubeconfig`]. An in-process transport is the API server's corridor called
//! directly; it passes [`kybern_api::object::Object`]s, not a JSON stream, and authenticates and
//! authorises like any other.
//!
//! Invariants: an informer keeps bytes and heads, never parsed objects; what it shows is one
//! revision of the server's state, never older than one it showed before; a write whose outcome is
//! unknown is reported as such and never sent again here.

pub mod http;
pub mod informer;
pub mod kubeconfig;
#[cfg(any(test, feature = "memory"))]
pub mod memory;
pub mod set;
pub mod store;
pub mod transport;
pub mod typed;
pub mod wire;
pub mod write;
