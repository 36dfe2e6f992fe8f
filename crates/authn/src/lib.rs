//! Authentication: client certificates, service-account tokens, bootstrap tokens, tokens of other issuers and
//! of a webhook; keys and CAs.
//!
//! Must never know: HTTP routing, the store, sockets. Reads objects through [`kybern_api::seam::Lister`] and
//! others' documents through [`fetch::Fetch`].
//!
//! Entry points: [`Assembly`] (everything an API server needs, made from [`pki::ClusterKeys`]),
//! [`Authenticator`], [`issuer::Issuer`] (TokenRequest, JWKS), [`pki`] (CAs, certificates, requests),
//! [`join`] (tokens with which machines join), [`tls`] (rustls settings), [`seal`] (secrets at rest).
//! Invariants: whatever is cached never outlives what it was derived from (a certificate's or token's
//! times, the set of trusted CAs and keys, the objects a token is bound to); no secret has a `Debug`
//! that shows it; time comes from the caller.

mod anonymous;
mod assembly;
mod authenticator;
mod bootstrap_token;
mod der;
mod error;
mod expired;
pub mod fetch;
pub mod issuer;
pub mod join;
pub mod oidc;
pub mod pki;
pub mod revocation;
pub mod seal;
mod service_account;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod webhook;
mod x509;

pub use anonymous::{Anonymous, HEALTH_PATHS, is_health_path};
pub use assembly::{Assembly, TokenConfig};
pub use authenticator::{AUTHENTICATED, Authenticator, Bringing, Credentials, Outcome, Union};
pub use bootstrap_token::BootstrapTokens;
pub use error::{Error, Result};
pub use service_account::{Refusal, ServiceAccountTokens, TokenIdentity};
pub use x509::X509;
