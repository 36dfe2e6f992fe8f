//! Authentication: client certificates, service-account tokens, bootstrap tokens; keys and CAs.
//!
//! Must never know: HTTP routing, the store. Reads objects through [`kybern_api::seam::Lister`].

use kybern_api::attributes::UserInfo;
use kybern_api::seam::Lister;

/// What a request brings to prove who sent it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// The peer's certificate chain in DER, leaf first; possession of the key was proved by TLS.
    pub chain: &'a [Vec<u8>],
    /// The bearer token.
    pub bearer: Option<&'a str>,
    /// The URL path of the request: anonymous requests pass on health paths only. Empty: none.
    pub path: &'a str,
    /// Wall-clock time, seconds since the epoch.
    pub now: i64,
}

/// An authenticator's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is this user.
    Known(UserInfo),
    /// Nothing here is for this authenticator.
    NoOpinion,
    /// The credential is for this authenticator and is bad. The text is for the log, not the client.
    Rejected(String),
}

/// Finds out who sent a request. Synchronous: keys and objects are in memory.
pub trait Authenticator: Send + Sync {
    /// The outcome for these credentials.
    fn authenticate(&self, credentials: &Credentials<'_>, objects: &dyn Lister) -> Outcome;
}
