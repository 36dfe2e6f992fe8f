//! Byte streams multiplexed over one upgraded HTTP connection, as Kubernetes' exec, attach and
//! port-forward speak them: SPDY/3.1 streams, WebSocket channels, and SPDY tunnelled in WebSocket.
//!
//! Must never know: HTTP servers or clients (callers bring an upgraded byte stream), what a pod is,
//! who may connect, what a `Status` looks like. Imports nothing of ours.
//!
//! Entry points, each usable at both ends:
//! - [`negotiate`]: headers of an upgrade request -> the protocol and the 101 answer; headers of our
//!   own requests and the check of their answer.
//! - [`session::Session`]: the streams of one remote command (stdin, stdout, stderr, error, resize).
//! - [`forward::Forwarder`]: pairs of data and error streams of a port-forward.
//! - [`spdy::Connection`], [`websocket`]: the framings below them.
//! - [`mux`]: channels with credit over any message stream (servers and nodes); [`relay`] joins a
//!   session to such a channel.
//!
//! Invariants: memory per connection is bounded (a reader that does not read stops the peer, it does
//! not fill a queue); whatever bytes a peer sends, it gets a clean end or an [`Error`], never a panic;
//! every task belongs to the value that spawned it and ends when that is dropped.

mod error;
pub mod forward;
pub mod mux;
pub mod negotiate;
pub mod relay;
pub mod session;
pub mod spdy;
pub mod websocket;

pub use error::Error;

/// A bidirectional byte stream that an upgraded connection provides.
pub trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Which end of a connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We accepted the upgrade.
    Server,
    /// We asked for it.
    Client,
}
