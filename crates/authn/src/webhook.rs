//! Tokens that a webhook knows: it is sent a TokenReview, and its answer is remembered for a while.

use crate::authenticator::{Authenticator, Bringing, Credentials, Outcome};
use crate::fetch::Fetch;
use kybern_api::attributes::UserInfo;
use kybern_api::seam::Lister;
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Longer tokens are not passed on.
const MAX_LENGTH: usize = 16 * 1024;
/// Answers remembered.
const CACHE_LIMIT: usize = 4096;
/// Questions under way at a time: strangers can make as many as they like.
const AT_ONCE: usize = 32;
/// A webhook that did not answer is left alone about this token for so many seconds.
const FAILED: i64 = 1;

/// The authenticator.
pub struct WebhookTokens {
    url: String,
    /// Whom a token has to be for.
    audiences: Vec<String>,
    /// How long an answer holds, in seconds.
    ttl: i64,
    fetch: Arc<dyn Fetch>,
    /// By the token's SHA-256, so that no usable token lies in the map.
    answers: RwLock<HashMap<[u8; 32], Answer>>,
    asking: Semaphore,
}

#[derive(Clone)]
struct Answer {
    until: i64,
    user: Option<UserInfo>,
}

impl std::fmt::Debug for WebhookTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookTokens").field("url", &self.url).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Review {
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: User,
    audiences: Option<Vec<String>>,
    error: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct User {
    username: String,
    uid: String,
    groups: Option<Vec<String>>,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

impl WebhookTokens {
    /// Asks the webhook at `url`; `audiences` are the API server's.
    pub fn new(url: &str, audiences: &[String], ttl: std::time::Duration, fetch: Arc<dyn Fetch>) -> Self {
        Self {
            url: url.to_owned(),
            audiences: audiences.to_vec(),
            ttl: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            fetch,
            answers: RwLock::default(),
            asking: Semaphore::new(AT_ONCE),
        }
    }

    async fn ask(&self, token: &str) -> Result<Option<UserInfo>, String> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
            "spec": { "token": token, "audiences": self.audiences },
        });
        let answer = self.fetch.post(&self.url, review.to_string().into_bytes()).await?;
        let review: Review = serde_json::from_slice(&answer).map_err(|e| format!("no TokenReview: {e}"))?;
        let status = review.status;
        if !status.authenticated {
            // Its words are for the log; the client is told nothing.
            return if status.error.is_empty() { Ok(None) } else { Err(status.error) };
        }
        let for_us = |named: &Vec<String>| named.iter().any(|a| self.audiences.contains(a));
        if status.audiences.as_ref().is_some_and(|named| !named.is_empty() && !for_us(named)) {
            return Err("it knows the token for other audiences".into());
        }
        let User { username, uid, groups, extra } = status.user;
        if username.is_empty() {
            return Err("it knows the token and names no user".into());
        }
        let (groups, extra) = (groups.unwrap_or_default(), extra.unwrap_or_default());
        Ok(Some(UserInfo { name: username, uid, groups, extra }))
    }

    fn remember(&self, id: [u8; 32], answer: Answer, now: i64) {
        let mut answers = self.answers.write();
        if answers.len() >= CACHE_LIMIT {
            answers.retain(|_, a| a.until > now);
            if answers.len() >= CACHE_LIMIT {
                answers.clear();
            }
        }
        answers.insert(id, answer);
    }

    fn remembered(&self, id: &[u8; 32], now: i64) -> Option<Answer> {
        self.answers.read().get(id).filter(|a| a.until > now).cloned()
    }
}

fn hash(token: &str) -> [u8; 32] {
    let mut id = [0; 32];
    id.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()).as_ref());
    id
}

impl Authenticator for WebhookTokens {
    fn authenticate(&self, credentials: &Credentials<'_>, _objects: &dyn Lister) -> Outcome {
        let Some(token) = credentials.bearer.filter(|t| t.len() <= MAX_LENGTH) else { return Outcome::NoOpinion };
        if !credentials.audiences.is_empty() {
            return Outcome::NoOpinion;
        }
        match self.remembered(&hash(token), credentials.now) {
            None => Outcome::Pending,
            Some(Answer { user: Some(user), .. }) => Outcome::Known(user),
            Some(_) => Outcome::NoOpinion,
        }
    }

    fn bring<'a>(&'a self, credentials: &'a Credentials<'a>, _objects: &'a dyn Lister) -> Bringing<'a> {
        Box::pin(async move {
            let Some(token) = credentials.bearer else { return };
            // Closed never; whoever waited may find that somebody else has asked meanwhile.
            let Ok(_asking) = self.asking.acquire().await else { return };
            let (id, now) = (hash(token), credentials.now);
            if self.remembered(&id, now).is_some() {
                return;
            }
            let answer = match self.ask(token).await {
                Ok(user) => Answer { until: now.saturating_add(self.ttl.max(FAILED)), user },
                Err(why) => {
                    tracing::warn!(url = self.url, why, "the authentication webhook");
                    Answer { until: now.saturating_add(FAILED), user: None }
                }
            };
            self.remember(id, answer, now);
        })
    }
}
