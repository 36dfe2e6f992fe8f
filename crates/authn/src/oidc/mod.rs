//! Tokens of other issuers (OpenID Connect), as an `AuthenticationConfiguration` describes them.
//!
//! An issuer's keys are fetched when the first of its tokens comes, again when a token names an unknown key,
//! and when they grow old; never more often than `INTERVAL`, whatever strangers send. A token is judged by
//! the keys in memory: `authenticate` says [`Outcome::Pending`] where a fetch could help.

mod claims;
mod config;
mod keys;

pub use config::AuthenticationConfiguration;

use crate::authenticator::{Authenticator, Bringing, Credentials, Outcome};
use crate::fetch::Fetch;
use crate::service_account::unverified_issuer;
use arc_swap::ArcSwap;
use config::Jwt;
use jsonwebtoken::Validation;
use keys::Key;
use kybern_api::attributes::UserInfo;
use kybern_api::seam::Lister;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::Mutex;

/// Longer tokens are not looked at.
const MAX_LENGTH: usize = 16 * 1024;
/// An issuer is asked at most once in so many seconds.
const INTERVAL: i64 = 10;
/// Keys are fetched anew after so many seconds: one that an issuer has withdrawn must end.
const FRESH: i64 = 600;
/// Keys that could not be fetched anew for so many seconds are believed no more.
const STALE: i64 = 24 * 3600;

/// One issuer with its keys.
struct Provider {
    config: Jwt,
    fetch: Arc<dyn Fetch>,
    keys: ArcSwap<Fetched>,
    /// When it was asked last, in seconds since the epoch.
    asked: AtomicI64,
    /// Held while it is being asked: who comes meanwhile waits for the same answer.
    asking: Mutex<()>,
}

#[derive(Default)]
struct Fetched {
    at: i64,
    keys: Vec<Key>,
}

/// The authenticator.
pub struct Oidc {
    providers: Vec<Provider>,
}

impl std::fmt::Debug for Oidc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.providers.iter().map(|p| &p.config.issuer.url)).finish()
    }
}

impl Oidc {
    /// Believes the issuers of a checked configuration. `fetch` makes the way to one that shows a certificate
    /// of these CAs (PEM; empty: the machine's).
    ///
    /// # Errors
    /// When `fetch` cannot be made.
    pub fn new<E>(
        config: AuthenticationConfiguration,
        fetch: impl Fn(&str) -> Result<Arc<dyn Fetch>, E>,
    ) -> Result<Self, E> {
        let provider = |jwt: Jwt| -> Result<Provider, E> {
            Ok(Provider {
                fetch: fetch(&jwt.issuer.certificate_authority)?,
                config: jwt,
                keys: ArcSwap::default(),
                asked: AtomicI64::new(i64::MIN),
                asking: Mutex::default(),
            })
        };
        Ok(Self { providers: config.jwt.into_iter().map(provider).collect::<Result<_, E>>()? })
    }

    fn provider<'s, 't>(&'s self, credentials: &Credentials<'t>) -> Option<(&'s Provider, &'t str)> {
        let token = credentials.bearer.filter(|t| t.len() <= MAX_LENGTH && t.matches('.').count() == 2)?;
        let issuer = unverified_issuer(token)?;
        Some((self.providers.iter().find(|p| p.config.issuer.url == issuer)?, token))
    }
}

/// What the keys at hand say of a token.
enum Word {
    Known(UserInfo),
    Bad(String),
    /// Its key is not at hand.
    NoKey,
}

impl Provider {
    fn judge(&self, token: &str, now: i64) -> Word {
        match self.claims(token) {
            Ok(Some(claims)) => match claims::user(&self.config, &claims, now) {
                Ok(user) => Word::Known(user),
                Err(why) => Word::Bad(why),
            },
            Ok(None) => Word::NoKey,
            Err(why) => Word::Bad(why),
        }
    }

    fn claims(&self, token: &str) -> Result<Option<Map<String, Value>>, String> {
        let header = jsonwebtoken::decode_header(token).map_err(|e| e.to_string())?;
        if !keys::is_believed(header.alg) {
            return Err(format!("signed by {:?}, which is not believed", header.alg));
        }
        let fetched = self.keys.load();
        let mut refusal = None;
        for key in keys::meant(&fetched.keys, header.kid.as_deref(), header.alg) {
            let mut validation = Validation::new(header.alg);
            // the library would ask the machine's clock; times and audiences are judged by `claims`
            validation.validate_exp = false;
            validation.validate_nbf = false;
            validation.validate_aud = false;
            validation.required_spec_claims.clear();
            match jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &validation) {
                Ok(data) => return Ok(Some(data.claims)),
                Err(e) => refusal = Some(e.to_string()),
            }
        }
        refusal.map_or(Ok(None), Err)
    }

    /// May it be asked for its keys now?
    fn may_ask(&self, now: i64) -> bool {
        self.asked.load(Ordering::Relaxed) <= now.saturating_sub(INTERVAL)
    }

    fn is_fresh(&self, now: i64) -> bool {
        now.saturating_sub(self.keys.load().at) < FRESH
    }

    async fn ask(&self, now: i64) {
        let _asking = self.asking.lock().await;
        if !self.may_ask(now) {
            return;
        }
        self.asked.store(now, Ordering::Relaxed);
        match self.documents().await {
            Ok(keys) => self.keys.store(Arc::new(Fetched { at: now, keys })),
            Err(why) => {
                tracing::warn!(issuer = self.config.issuer.url, why, "the keys of an issuer can't be had");
                if now.saturating_sub(self.keys.load().at) > STALE {
                    self.keys.store(Arc::default());
                }
            }
        }
    }

    async fn documents(&self) -> Result<Vec<Key>, String> {
        let issuer = &self.config.issuer;
        let usual = format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'));
        let url = if issuer.discovery_url.is_empty() { &usual } else { &issuer.discovery_url };
        let jwks = keys::jwks_uri(&self.fetch.get(url).await?, &issuer.url)?;
        keys::keys(&self.fetch.get(&jwks).await?)
    }
}

impl Authenticator for Oidc {
    fn authenticate(&self, credentials: &Credentials<'_>, _objects: &dyn Lister) -> Outcome {
        let Some((provider, token)) = self.provider(credentials) else { return Outcome::NoOpinion };
        // What is asked for another audience than this API server is not for its issuers to say.
        if !credentials.audiences.is_empty() {
            return Outcome::NoOpinion;
        }
        let now = credentials.now;
        if !provider.is_fresh(now) && provider.may_ask(now) {
            return Outcome::Pending;
        }
        match provider.judge(token, now) {
            Word::Known(user) => Outcome::Known(user),
            Word::NoKey if provider.may_ask(now) => Outcome::Pending,
            Word::NoKey => Outcome::rejected("token of an issuer: signed with an unknown key"),
            Word::Bad(why) => Outcome::rejected(format!("token of {}: {why}", provider.config.issuer.url)),
        }
    }

    fn bring<'a>(&'a self, credentials: &'a Credentials<'a>, _objects: &'a dyn Lister) -> Bringing<'a> {
        Box::pin(async move {
            if let Some((provider, _)) = self.provider(credentials) {
                provider.ask(credentials.now).await;
            }
        })
    }
}
