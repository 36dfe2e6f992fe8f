//! An issuer's public keys: what its documents say, and which of them a token may have been signed with.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// More keys of one issuer are not looked at.
const MAX_KEYS: usize = 64;
/// Signatures that are believed: those of private keys, never shared secrets, never none.
const ALGORITHMS: [Algorithm; 8] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// One key.
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

/// Is it a signature that is believed?
pub(super) fn is_believed(algorithm: Algorithm) -> bool {
    ALGORITHMS.contains(&algorithm)
}

/// Where the keys are, from the discovery document of `issuer`.
pub(super) fn jwks_uri(document: &[u8], issuer: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
        jwks_uri: String,
    }
    let found: Discovery = serde_json::from_slice(document).map_err(|e| format!("the discovery document: {e}"))?;
    if found.issuer != issuer {
        return Err(format!("the discovery document is that of {}", found.issuer));
    }
    if !found.jwks_uri.starts_with("https://") {
        return Err(format!("the keys are not behind https: {}", found.jwks_uri));
    }
    Ok(found.jwks_uri)
}

/// The keys of a JWKS document that can verify what is believed. Others (of other kinds, or to encrypt with)
/// are passed over.
pub(super) fn keys(document: &[u8]) -> Result<Vec<Key>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(document).map_err(|e| format!("the keys: {e}"))?;
    Ok(set.keys.into_iter().take(MAX_KEYS).filter_map(key).collect())
}

fn key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|u| *u != PublicKeyUse::Signature) {
        return None;
    }
    let fitting: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => &[Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => &[Algorithm::ES384],
        _ => return None,
    };
    let said = jwk.common.key_algorithm.map(|a| a.to_string());
    let algorithms = fitting.iter().copied().filter(|a| said.as_ref().is_none_or(|s| *s == format!("{a:?}"))).collect();
    Some(Key { id: jwk.common.key_id.clone(), algorithms, key: DecodingKey::from_jwk(&jwk).ok()? })
}

/// The keys that a header may mean: that of its id, or any without ids.
pub(super) fn meant<'a>(keys: &'a [Key], id: Option<&'a str>, algorithm: Algorithm) -> impl Iterator<Item = &'a Key> {
    let fits = move |k: &&Key| k.algorithms.contains(&algorithm);
    keys.iter().filter(fits).filter(move |k| id.is_none() || k.id.is_none() || k.id.as_deref() == id)
}
