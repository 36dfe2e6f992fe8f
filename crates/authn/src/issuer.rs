//! Service-account tokens: the keys, the claims, minting, and the documents by which others verify.

use crate::error::{Error, Result};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use kybern_api::seam::Ids;
use rcgen::{KeyPair, PublicKeyData};
use serde::{Deserialize, Serialize};

/// The shortest life of a token.
pub const MIN_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// The longest life of a token; requests for more are cut.
pub const MAX_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);

/// An object a token is bound to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundRef {
    /// Its name.
    pub name: String,
    /// Its uid.
    #[serde(default)]
    pub uid: String,
}

/// The private claim `kubernetes.io`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesClaim {
    /// Namespace of the service account and of everything else named here.
    pub namespace: String,
    /// The service account.
    pub serviceaccount: BoundRef,
    /// The pod the token was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<BoundRef>,
    /// The secret the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<BoundRef>,
    /// The node of the pod, or the node the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<BoundRef>,
}

/// All claims. Times are seconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Audiences.
    pub aud: Audiences,
    /// Expires.
    pub exp: i64,
    /// Issued.
    pub iat: i64,
    /// Issuer.
    pub iss: String,
    /// The token's id.
    #[serde(default)]
    pub jti: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: KubernetesClaim,
    /// Not valid before.
    pub nbf: i64,
    /// `system:serviceaccount:NAMESPACE:NAME`
    pub sub: String,
}

/// One audience or several: JWT allows both spellings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audiences {
    /// A list.
    Many(Vec<String>),
    /// A plain string.
    One(String),
}

impl Audiences {
    /// As a list.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::Many(list) => list,
            Self::One(one) => std::slice::from_ref(one),
        }
    }
}

/// A public key that tokens may be signed with.
pub(crate) struct VerifyingKey {
    pub(crate) id: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

/// What a TokenRequest asks for, after its validation.
#[derive(Debug, Clone)]
pub struct TokenSpec<'a> {
    /// What the token is for and bound to.
    pub claim: KubernetesClaim,
    /// Audiences; empty: the API server's.
    pub audiences: &'a [String],
    /// The life asked for.
    pub lifetime: SignedDuration,
}

/// A new token. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Minted {
    /// The JWT.
    pub token: String,
    /// When it expires.
    pub expires: Timestamp,
    /// Its id, for the audit log (`authentication.kubernetes.io/issued-credential-id: JTI=ID`).
    pub id: String,
}

impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minted").field("id", &self.id).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// One private key with what others must know of it.
struct TokenKey {
    id: String,
    algorithm: Algorithm,
    signing: EncodingKey,
    public_pem: String,
}

impl TokenKey {
    /// From PKCS #8 PEM: ECDSA P-256 (ES256) or RSA (RS256).
    fn load(pem: &str) -> Result<Self> {
        let pair = KeyPair::from_pem(pem).map_err(Error::key("service-account tokens"))?;
        let (algorithm, signing) = if pair.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256 {
            (Algorithm::ES256, EncodingKey::from_ec_pem(pem.as_bytes()))
        } else if pair.algorithm() == &rcgen::PKCS_RSA_SHA256 {
            (Algorithm::RS256, EncodingKey::from_rsa_pem(pem.as_bytes()))
        } else {
            return Err(Error::Crypto("a service-account key must be ECDSA P-256 or RSA"));
        };
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &pair.subject_public_key_info());
        Ok(Self {
            id: URL_SAFE_NO_PAD.encode(digest),
            algorithm,
            signing: signing.map_err(Error::Sign)?,
            public_pem: pair.public_key_pem(),
        })
    }

    fn verifying(&self) -> Result<VerifyingKey> {
        let pem = self.public_pem.as_bytes();
        let key = match self.algorithm {
            Algorithm::ES256 => DecodingKey::from_ec_pem(pem),
            _ => DecodingKey::from_rsa_pem(pem),
        };
        Ok(VerifyingKey { id: self.id.clone(), algorithm: self.algorithm, key: key.map_err(Error::Sign)? })
    }

    fn jwk(&self) -> Result<serde_json::Value> {
        let jwk = Jwk::from_encoding_key(&self.signing, self.algorithm).map_err(Error::Sign)?;
        let mut value = serde_json::to_value(jwk).map_err(|e| Error::malformed("JWK", e))?;
        value["use"] = "sig".into();
        value["kid"] = self.id.clone().into();
        Ok(value)
    }
}

/// Makes tokens.
pub struct Issuer {
    url: String,
    audiences: Vec<String>,
    keys: Vec<TokenKey>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("url", &self.url).field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Issuer {
    /// An issuer with these private keys (PEM): the first signs, all are published.
    ///
    /// # Errors
    /// Without a key, or at one of an unknown kind.
    pub fn new(url: &str, audiences: &[String], keys: &[String]) -> Result<Self> {
        let keys = keys.iter().map(|pem| TokenKey::load(pem)).collect::<Result<Vec<_>>>()?;
        if keys.is_empty() {
            return Err(Error::malformed("service-account keys", "none"));
        }
        Ok(Self { url: url.to_owned(), audiences: audiences.to_vec(), keys })
    }

    /// The issuer's URL: `iss` of every token.
    pub fn url(&self) -> &str {
        &self.url
    }
    /// Audiences of a token for the API server.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }
    pub(crate) fn verifying_keys(&self) -> Result<Vec<VerifyingKey>> {
        self.keys.iter().map(TokenKey::verifying).collect()
    }

    /// A signed token. Its life is what was asked for, between [`MIN_LIFETIME`] and [`MAX_LIFETIME`].
    ///
    /// # Errors
    /// When signing fails.
    pub fn mint(&self, spec: &TokenSpec<'_>, ids: &dyn Ids, now: Timestamp) -> Result<Minted> {
        let lifetime = spec.lifetime.clamp(MIN_LIFETIME, MAX_LIFETIME);
        let seconds = now.as_second();
        let audiences = if spec.audiences.is_empty() { &self.audiences } else { spec.audiences };
        let claims = Claims {
            aud: Audiences::Many(audiences.to_vec()),
            exp: seconds.saturating_add(lifetime.as_secs()),
            iat: seconds,
            iss: self.url.clone(),
            jti: ids.uid(),
            sub: format!("system:serviceaccount:{}:{}", spec.claim.namespace, spec.claim.serviceaccount.name),
            kubernetes: spec.claim.clone(),
            nbf: seconds,
        };
        // `new` refuses an empty list
        let key = &self.keys[0];
        let header = Header { kid: Some(key.id.clone()), typ: None, ..Header::new(key.algorithm) };
        let token = jsonwebtoken::encode(&header, &claims, &key.signing).map_err(Error::Sign)?;
        let expires = Timestamp::from_second(claims.exp).map_err(|e| Error::malformed("lifetime", e))?;
        Ok(Minted { token, expires, id: claims.jti })
    }

    /// The JWKS document of `/openid/v1/jwks`.
    ///
    /// # Errors
    /// When a key cannot be written as a JWK.
    pub fn jwks(&self) -> Result<serde_json::Value> {
        let keys = self.keys.iter().map(TokenKey::jwk).collect::<Result<Vec<_>>>()?;
        Ok(serde_json::json!({ "keys": keys }))
    }

    /// The discovery document of `/.well-known/openid-configuration`.
    pub fn discovery(&self, jwks_uri: &str) -> serde_json::Value {
        let mut algorithms: Vec<String> = self.keys.iter().map(|k| format!("{:?}", k.algorithm)).collect();
        algorithms.sort();
        algorithms.dedup();
        serde_json::json!({
            "issuer": self.url,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        })
    }
}
