//! Service-account tokens: bound JWTs that die with what they are bound to.
//!
//! The signature is verified once per token and remembered; times, audiences and the bound objects are
//! judged on every request.

use crate::authenticator::{Authenticator, Credentials, Outcome};
use crate::error::Result;
use crate::issuer::{BoundRef, Claims, Issuer, VerifyingKey};
use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Validation;
use kybern_api::attributes::UserInfo;
use kybern_api::seam::Lister;
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Longer tokens are none of ours.
const MAX_LENGTH: usize = 16 * 1024;
/// Verified tokens remembered.
const CACHE_LIMIT: usize = 32_768;
/// How far ahead of ours the clock of the server that minted a token may be, seconds.
const SKEW: i64 = 60;
/// How long a token outlives its object's deletion timestamp, seconds: time for the last words of a
/// pod that is being stopped.
const DELETION_GRACE: i64 = 60;
const EXTRA: &str = "authentication.kubernetes.io/";

/// The authenticator of tokens that [`Issuer`] mints.
pub struct ServiceAccountTokens {
    keys: ArcSwap<Keys>,
    /// By the token's SHA-256, so that no usable token lies in the map.
    verified: RwLock<HashMap<[u8; 32], Verified>>,
}

struct Keys {
    generation: u64,
    issuer: String,
    audiences: Vec<String>,
    keys: Vec<VerifyingKey>,
}

#[derive(Clone)]
struct Verified {
    generation: u64,
    claims: Arc<Claims>,
}

/// Whom a token names, and for which of the wanted audiences it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIdentity {
    /// The user.
    pub user: UserInfo,
    /// The audiences of the request that the token has.
    pub audiences: Vec<String>,
}

/// Why a token names nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is no token of this issuer.
    Foreign,
    /// It is bad, and stays so.
    Bad(String),
    /// It is genuine, but what it is bound to is not there (yet, or any more).
    Absent(String),
}

impl std::fmt::Debug for ServiceAccountTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys = self.keys.load();
        f.debug_struct("ServiceAccountTokens").field("issuer", &keys.issuer).finish_non_exhaustive()
    }
}

impl ServiceAccountTokens {
    /// Accepts what this issuer signs.
    ///
    /// # Errors
    /// At a key that cannot verify.
    pub fn new(issuer: &Issuer) -> Result<Self> {
        Ok(Self { keys: ArcSwap::from_pointee(keys(issuer, 0)?), verified: RwLock::default() })
    }

    /// Accepts what this issuer signs, from now on, and forgets everything verified before.
    ///
    /// # Errors
    /// At a key that cannot verify; then nothing changes.
    pub fn set_issuer(&self, issuer: &Issuer) -> Result<()> {
        let generation = self.keys.load().generation + 1;
        self.keys.store(Arc::new(keys(issuer, generation)?));
        self.verified.write().clear();
        Ok(())
    }

    /// Judges a token for `audiences` (empty: the API server's), as TokenReview asks.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn review(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
        objects: &dyn Lister,
    ) -> std::result::Result<TokenIdentity, Refusal> {
        let keys = self.keys.load();
        let claims = self.claims(&keys, token, now)?;
        let wanted = if audiences.is_empty() { &keys.audiences } else { audiences };
        judge(&claims, wanted, now, objects)
    }

    fn claims(&self, keys: &Keys, token: &str, now: i64) -> std::result::Result<Arc<Claims>, Refusal> {
        if token.len() > MAX_LENGTH || token.matches('.').count() != 2 {
            return Err(Refusal::Foreign);
        }
        let mut id = [0; 32];
        id.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()).as_ref());
        if let Some(found) = self.verified.read().get(&id)
            && found.generation == keys.generation
        {
            return Ok(found.claims.clone());
        }
        if unverified_issuer(token).is_none_or(|issuer| issuer != keys.issuer) {
            return Err(Refusal::Foreign);
        }
        let claims = Arc::new(verify(keys, token).map_err(Refusal::Bad)?);
        self.remember(id, Verified { generation: keys.generation, claims: claims.clone() }, now);
        Ok(claims)
    }

    fn remember(&self, id: [u8; 32], found: Verified, now: i64) {
        let mut verified = self.verified.write();
        if verified.len() >= CACHE_LIMIT {
            verified.retain(|_, v| v.claims.exp > now);
            if verified.len() >= CACHE_LIMIT {
                verified.clear();
            }
        }
        verified.insert(id, found);
    }
}

impl Authenticator for ServiceAccountTokens {
    fn authenticate(&self, credentials: &Credentials<'_>, objects: &dyn Lister) -> Outcome {
        let Some(token) = credentials.bearer else { return Outcome::NoOpinion };
        match self.review(token, credentials.audiences, credentials.now, objects) {
            Ok(identity) => Outcome::Known(identity.user),
            Err(Refusal::Foreign) => Outcome::NoOpinion,
            Err(Refusal::Bad(why)) => Outcome::Rejected(format!("service-account token: {why}")),
            Err(Refusal::Absent(why)) => Outcome::Absent(format!("service-account token: {why}")),
        }
    }
}

fn keys(issuer: &Issuer, generation: u64) -> Result<Keys> {
    Ok(Keys {
        generation,
        issuer: issuer.url().to_owned(),
        audiences: issuer.audiences().to_vec(),
        keys: issuer.verifying_keys()?,
    })
}

/// The `iss` claim before anything is verified: only to see whose token it is.
pub(crate) fn unverified_issuer(token: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Payload {
        iss: String,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    Some(serde_json::from_slice::<Payload>(&payload).ok()?.iss)
}

/// Checks the signature with the key that the header names, or with each when it names none. The
/// algorithm is the key's, whatever the header says.
fn verify(keys: &Keys, token: &str) -> std::result::Result<Claims, String> {
    let header = jsonwebtoken::decode_header(token).map_err(|e| e.to_string())?;
    let mut refusal = "signed with an unknown key".to_owned();
    for key in keys.keys.iter().filter(|k| header.kid.as_ref().is_none_or(|id| *id == k.id)) {
        let mut validation = Validation::new(key.algorithm);
        // the library would ask the machine's clock; times and audiences are judged in `judge`
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        match jsonwebtoken::decode::<Claims>(token, &key.key, &validation) {
            Ok(data) => return Ok(data.claims),
            Err(e) => refusal = e.to_string(),
        }
    }
    Err(refusal)
}

fn judge(
    claims: &Claims,
    wanted: &[String],
    now: i64,
    objects: &dyn Lister,
) -> std::result::Result<TokenIdentity, Refusal> {
    if now >= claims.exp {
        return Err(Refusal::Bad("expired".into()));
    }
    if now < claims.nbf.saturating_sub(SKEW) {
        return Err(Refusal::Bad("not valid yet".into()));
    }
    let audiences: Vec<String> = claims.aud.as_slice().iter().filter(|a| wanted.contains(a)).cloned().collect();
    if audiences.is_empty() {
        return Err(Refusal::Bad(format!("for another audience: {:?}", claims.aud.as_slice())));
    }
    let bound = &claims.kubernetes;
    let namespace = bound.namespace.as_str();
    if claims.sub != format!("system:serviceaccount:{namespace}:{}", bound.serviceaccount.name) {
        return Err(Refusal::Bad("the subject is not the bound service account".into()));
    }
    alive(objects, "serviceaccounts", namespace, &bound.serviceaccount, now)?;
    for (resource, scope, reference) in
        [("pods", namespace, &bound.pod), ("secrets", namespace, &bound.secret), ("nodes", "", &bound.node)]
    {
        if let Some(reference) = reference {
            alive(objects, resource, scope, reference, now)?;
        }
    }
    Ok(TokenIdentity { user: user(claims), audiences })
}

/// Is the bound object there, the same one, and not long deleted? (One of another uid may be the one
/// before it.)
fn alive(
    objects: &dyn Lister,
    resource: &str,
    namespace: &str,
    reference: &BoundRef,
    now: i64,
) -> std::result::Result<(), Refusal> {
    let gone = || format!("bound to {resource} {namespace}/{}, which is gone", reference.name);
    let object = objects.get("", resource, namespace, &reference.name).filter(|o| o.head.uid == reference.uid);
    let object = object.ok_or_else(|| Refusal::Absent(gone()))?;
    let dead = object.head.deleting.is_some_and(|at| at.saturating_add(DELETION_GRACE) < now);
    if dead { Err(Refusal::Bad(gone())) } else { Ok(()) }
}

fn user(claims: &Claims) -> UserInfo {
    let bound = &claims.kubernetes;
    let mut extra = BTreeMap::new();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("{EXTRA}{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        add("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &bound.pod {
        add("pod-name", &pod.name);
        add("pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        add("node-name", &node.name);
        add("node-uid", &node.uid);
    }
    UserInfo {
        uid: bound.serviceaccount.uid.clone(),
        extra,
        ..UserInfo::service_account(&bound.namespace, &bound.serviceaccount.name)
    }
}
