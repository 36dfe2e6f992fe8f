//! Tokens of pods' service accounts: asked for when needed, renewed before they expire.

use crate::error::{Error, Result};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};
use kybern_client::transport::Resource;
use kybern_client::write::{At, Writer, Written};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::HashMap;

/// A token is renewed after this share of its life, in percent.
const RENEW_AT: i32 = 80;
/// And at the latest after this time.
const RENEW_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// Life of a token whose volume does not say.
const DEFAULT_LIFE: i64 = 3600;

/// A token.
#[derive(Debug, Clone)]
pub struct Token {
    /// The JWT.
    pub text: String,
    /// When to ask for the next.
    pub refresh: Timestamp,
}

impl Token {
    /// The token in the answer to a TokenRequest.
    ///
    /// # Errors
    /// When there is none in it.
    pub fn of(answer: &Written, now: Timestamp) -> Result<Self> {
        let answer: TokenRequest =
            serde_json::from_slice(&answer.bytes).map_err(|source| Error::Decode { what: "TokenRequest", source })?;
        let status = answer.status.unwrap_or_default();
        let (Some(text), Some(expires)) = (status.token, status.expiration_timestamp) else {
            return Err(Error::Pod("the API answered no token".into()));
        };
        let left = expires.0.duration_since(now);
        Ok(Self { text, refresh: now + (left * RENEW_AT / 100).min(RENEW_AFTER) })
    }
}

/// Pod uid, audience, life.
type Key = (String, String, i64);

/// Gets tokens and keeps them until they are due.
pub struct Tokens {
    writer: Writer,
    known: Mutex<HashMap<Key, Token>>,
}

impl Tokens {
    /// Over the node's identity.
    pub fn new(writer: Writer) -> Self {
        Self { writer, known: Mutex::default() }
    }

    /// The token for a projection.
    ///
    /// # Errors
    /// When the API refuses and there is none that still lives.
    pub async fn get(&self, pod: &Pod, part: &ServiceAccountTokenProjection, now: Timestamp) -> Result<Token> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let audience = part.audience.clone().unwrap_or_default();
        let life = part.expiration_seconds.unwrap_or(DEFAULT_LIFE);
        let key = (uid, audience, life);
        let known = self.known.lock().get(&key).cloned();
        if let Some(token) = known.filter(|t| now < t.refresh) {
            return Ok(token);
        }
        let token = self.request(pod, &key, now).await?;
        self.known.lock().insert(key, token.clone());
        Ok(token)
    }

    /// Forgets a pod's tokens.
    pub fn forget(&self, uid: &str) {
        self.known.lock().retain(|(u, _, _), _| u != uid);
    }

    async fn request(&self, pod: &Pod, (uid, audience, life): &Key, now: Timestamp) -> Result<Token> {
        let account = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).unwrap_or("default");
        let audiences: Vec<&String> = std::iter::once(audience).filter(|a| !a.is_empty()).collect();
        let body = json!({
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
            "spec": {
                "audiences": audiences,
                "expirationSeconds": life,
                "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": pod.metadata.name, "uid": uid },
            },
        });
        let accounts = Resource::new("", "v1", "serviceaccounts");
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let at = At { resource: &accounts, namespace, name: account, subresource: "token" };
        Token::of(&self.writer.create(at, &body).await?, now)
    }
}
