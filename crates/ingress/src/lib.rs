//! The Ingress proxy of a node: HTTP and TLS from outside, led to the endpoints of Services.
//!
//! Must never know: the store, containers, how the node got its identity.
//! Entry points: [`Ingress`] (follows the cluster and serves), [`proxy::Proxy`] (one request),
//! [`routes::Table`] (host and path to a target, pure).
//! Invariants: who owns a host is [`kybern_api::ingress::Claims`]' word alone; a bad Ingress, Secret or
//! Service costs its own requests and nobody else's; nothing is listened on, and no endpoint followed,
//! while there is no Ingress to serve; of a request's body not more than a frame is held.

pub mod backend;
mod body;
mod follow;
mod forward;
mod headers;
mod http2;
mod listen;
mod metrics;
pub mod proxy;
mod rewrite;
pub mod routes;
mod secrets;
pub mod tls;

pub use follow::{Ingress, Sources};
pub use listen::{Config, Listeners};
pub use metrics::{Metrics, Route as RouteLabels};
