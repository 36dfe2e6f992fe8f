//! SPDY/3.1: streams over one connection, with compressed headers and flow control.
//!
//! Peers in the Kubernetes world (kubectl, client-go, containerd) neither send nor honour windows, so
//! windows bind our sending only after the peer has announced them by SETTINGS, and our receiving is
//! bounded by not reading on while a stream's queue is full. Two of our own ends use real windows.

mod connection;
pub mod frame;
pub mod headers;
mod stream;
mod window;

pub use connection::{Connection, Limits};
pub use headers::Headers;
pub use stream::{RecvHalf, SendHalf, Stream};

/// RST_STREAM statuses that we send.
pub mod status {
    /// The stream broke the protocol.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// A frame for a stream that never was.
    pub const INVALID_STREAM: u32 = 2;
    /// The stream was refused before any processing.
    pub const REFUSED_STREAM: u32 = 3;
    /// The stream is not needed any more.
    pub const CANCEL: u32 = 5;
}
