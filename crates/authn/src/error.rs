//! What can go wrong with keys, certificates and tokens.

use std::path::PathBuf;

/// A failed operation on keys, certificates or tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key or certificate file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key or certificate file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key could not be made, loaded or used.
    #[error("cannot use a key for {what}")]
    Key {
        /// What the key is for.
        what: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The library refused to sign or open something.
    #[error("cryptographic operation failed: {0}")]
    Crypto(&'static str),
    /// Text that should hold PEM, DER, JSON or a token does not.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// What it should have been.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate request that its signer may not sign.
    #[error("{0}")]
    Refused(String),
    /// A service-account token could not be signed.
    #[error("cannot sign a token")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// TLS settings that do not fit together.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// A sealed value that no key of the ring opens.
    #[error("cannot open a sealed value: {0}")]
    Unseal(&'static str),
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn malformed(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Malformed { what, why: why.to_string() }
    }
    pub(crate) fn key(what: &'static str) -> impl FnOnce(rcgen::Error) -> Self {
        move |source| Self::Key { what, source }
    }
}
