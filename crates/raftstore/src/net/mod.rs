//! Members talking to each other: gRPC over mutual TLS on a port of their own.

pub(crate) mod client;
pub(crate) mod codec;
pub(crate) mod listen;
pub(crate) mod peers;
pub(crate) mod server;
