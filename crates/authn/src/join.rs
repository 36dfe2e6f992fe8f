//! Tokens with which machines join: `K10<hash of the server CA>::<id>.<secret>`.
//!
//! The part after `::` is a bootstrap token; its Secret carries the role as a group, so that an agent's
//! token cannot fetch a server's keys. The hash lets the machine believe the first server it meets
//! (see [`crate::tls::pinned_client`]).

use crate::bootstrap_token::{BOOTSTRAPPERS, ID_LENGTH, NAMESPACE, SECRET_LENGTH, SECRET_PREFIX, SECRET_TYPE, split};
use crate::error::{Error, Result};
use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use kybern_api::attributes::UserInfo;
use std::fmt;
use std::str::FromStr;

/// The path at which a joining server posts to receive [`crate::pki::ClusterKeys::to_bundle`]; the
/// default roles let only [`Role::Server`]'s group post there.
pub const SERVER_BUNDLE_PATH: &str = "/kybern/v1/server-bundle";

const PREFIX: &str = "K10";

/// What a token lets a machine become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A member of the control plane: receives all keys.
    Server,
    /// A node.
    Agent,
}

impl Role {
    /// The group that a token of this role puts its bearer into.
    pub fn group(self) -> &'static str {
        match self {
            Self::Server => "system:bootstrappers:kybern:servers",
            Self::Agent => "system:bootstrappers:kybern:agents",
        }
    }

    /// The role of a bearer who was authenticated by a join token.
    pub fn of(user: &UserInfo) -> Option<Self> {
        [Self::Server, Self::Agent].into_iter().find(|role| user.is_in(BOOTSTRAPPERS) && user.is_in(role.group()))
    }
}

/// A join token. [`fmt::Display`] writes it whole, `Debug` without its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the server CA's certificate.
    pub ca_hash: [u8; 32],
    id: String,
    secret: String,
}

impl JoinToken {
    /// A new token for the cluster with this server CA (DER).
    ///
    /// # Errors
    /// When the random source fails.
    pub fn generate(server_ca: &[u8]) -> Result<Self> {
        let mut ca_hash = [0; 32];
        ca_hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, server_ca).as_ref());
        Ok(Self { ca_hash, id: random_text(ID_LENGTH)?, secret: random_text(SECRET_LENGTH)? })
    }

    /// The public part that names the token.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `ID.SECRET`: what to send as the bearer token.
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// The Secret that makes the API accept it; `expires` None: never.
    pub fn to_secret(&self, role: Role, expires: Option<Timestamp>, description: &str) -> serde_json::Value {
        let mut data = serde_json::Map::new();
        let mut put = |key: &str, value: &str| {
            data.insert(key.to_owned(), STANDARD.encode(value).into());
        };
        put("token-id", &self.id);
        put("token-secret", &self.secret);
        put("usage-bootstrap-authentication", "true");
        put("auth-extra-groups", role.group());
        put("description", description);
        if let Some(at) = expires {
            put("expiration", &at.to_string());
        }
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": format!("{SECRET_PREFIX}{}", self.id), "namespace": NAMESPACE },
            "type": SECRET_TYPE,
            "data": data,
        })
    }
}

impl FromStr for JoinToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::malformed("join token", why);
        let rest = text.trim().strip_prefix(PREFIX).ok_or_else(|| bad("it does not begin with K10"))?;
        let (hash, bearer) = rest.split_once("::").ok_or_else(|| bad("no :: between the CA's hash and the secret"))?;
        let ca_hash = hex::decode(hash)
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or_else(|| bad("the CA's hash is not 64 hexadecimal digits"))?;
        let (id, secret) = split(bearer).ok_or_else(|| bad("the part after :: is not ID.SECRET"))?;
        Ok(Self { ca_hash, id: id.to_owned(), secret: secret.to_owned() })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}::{}.{}", hex::encode(self.ca_hash), self.id, self.secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Evenly drawn from `a-z0-9`.
fn random_text(length: usize) -> Result<String> {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    let mut bytes = [0u8; 64];
    while text.len() < length {
        rand::fill(&mut bytes).map_err(|_| Error::Crypto("the random source failed"))?;
        // 252 is the largest multiple of 36 in a byte: what lies above would favour the first letters
        let even = bytes.iter().filter(|b| **b < 252).map(|b| char::from(ALPHABET[usize::from(b % 36)]));
        text.extend(even.take(length - text.len()));
    }
    Ok(text)
}
