//! The fronts of the server: each brings requests into the same corridor.

mod feed;
pub mod grpc;
pub mod http;
pub mod local;
pub mod relay;
