//! The client every component uses: requests, watches, informers, over HTTPS or in-process.
//!
//! Entry points: [`transport::Transport`] and, on top of it, informers. An in-process transport is
//! the API server's corridor called directly; it passes [`kybern_api::object::Object`]s, not a JSON
//! stream, and authenticates and authorises like any other.

pub mod transport;
