//! The ordered corridor every request takes before a verb sees it.
//!
//! Doors bring a caller (who, proved) and a parsed request line; `Inner::authorize` is the only
//! maker of [`Authorized`], and verbs take that by value: a request that skips authorisation does not
//! compile. Order: panic guard, request line, deadline, authentication, impersonation, authorisation.

use crate::request::info::{RequestInfo, Verb};
use crate::request::query::Query;
use crate::server::Inner;
use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::error::{Reason, Status};
use kybern_authn::{Credentials, Outcome, is_health_path};
use kybern_rbac::Decision;
use parking_lot::Mutex;
use std::sync::Arc;

/// How many parties outside may be asked about one credential.
const OUTSIDE: usize = 3;

/// Who makes a request, as a door knows it.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The authenticated user.
    pub user: UserInfo,
    /// User-Agent, or the component's name.
    pub agent: String,
    /// Refuse writes when this leader term has passed; 0: no fence.
    pub term: u64,
}

/// A request that may go on. Built by the corridor alone.
#[derive(Debug)]
pub struct Authorized {
    /// Who asks for what.
    pub attributes: Attributes,
    /// The verb.
    pub verb: Verb,
    /// Query parameters.
    pub query: Query,
    /// What follows a subresource that passes on a path.
    pub tail: String,
    /// User-Agent, or the component's name.
    pub agent: String,
    /// The writer's leader term, or 0.
    pub term: u64,
    /// When the request was judged; its writes carry this time.
    pub now: jiff::Timestamp,
    /// Why the authoriser allowed it.
    pub allowed_by: String,
    namespace_itself: bool,
    warnings: Warnings,
    _corridor: Corridor,
}

/// What there is to warn a client of. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Takes the texts, each once.
    pub fn take(&self) -> Vec<String> {
        let mut seen = Vec::new();
        for text in std::mem::take(&mut *self.0.lock()) {
            if !seen.contains(&text) {
                seen.push(text);
            }
        }
        seen
    }
}

/// Nobody outside this file can make one.
#[derive(Debug)]
struct Corridor;

impl Authorized {
    /// Adds texts for the Warning header.
    pub fn warn(&self, texts: impl IntoIterator<Item = String>) {
        let mut texts = texts.into_iter().peekable();
        if texts.peek().is_some() {
            self.warnings.0.lock().extend(texts);
        }
    }

    /// The texts for the Warning header, to be read when the request has been carried out.
    pub fn warnings(&self) -> Warnings {
        self.warnings.clone()
    }

    /// The namespace of stored objects: a namespace object itself lies in none.
    pub fn namespace(&self) -> &str {
        if self.namespace_itself { "" } else { &self.attributes.namespace }
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        &self.attributes.name
    }
}

impl Inner {
    /// Finds out who sent a request.
    ///
    /// # Errors
    /// 401; 500 ServerTimeout before the server has recovered.
    pub(crate) async fn authenticate(&self, credentials: Credentials<'_>) -> Result<UserInfo, Status> {
        if !is_health_path(credentials.path) {
            self.recovery.wait().await?;
        }
        let ask = || self.authenticator.authenticate(&credentials, self.kinds.as_ref());
        let outcome = match self.known_outside(&credentials).await {
            // It may just have been written elsewhere. Strangers get here as well, so what they make the
            // servers say to each other is bounded.
            Outcome::Absent(_) => {
                self.rounds.join(self).await?;
                ask()
            }
            o => o,
        };
        match outcome {
            Outcome::Known(user) => Ok(user),
            Outcome::NoOpinion | Outcome::Pending => Err(Status::unauthorized()),
            Outcome::Rejected(why) | Outcome::Absent(why) => {
                tracing::info!(why, path = credentials.path, "credentials refused");
                Err(Status::unauthorized())
            }
        }
    }

    /// What the authenticators say once they have asked outside for what they lacked.
    pub(crate) async fn known_outside(&self, credentials: &Credentials<'_>) -> Outcome {
        let objects = self.kinds.as_ref();
        let mut outcome = self.authenticator.authenticate(credentials, objects);
        for _ in 0..OUTSIDE {
            if outcome != Outcome::Pending {
                break;
            }
            self.authenticator.bring(credentials, objects).await;
            outcome = self.authenticator.authenticate(credentials, objects);
        }
        outcome
    }

    /// Decides whether a request may go on.
    ///
    /// # Errors
    /// 403; 500 ServerTimeout before the server has recovered.
    pub(crate) async fn authorize(&self, info: RequestInfo, caller: Caller) -> Result<Authorized, Status> {
        let namespace_itself = info.storage_namespace().is_empty();
        let RequestInfo { verb, mut attributes, query, tail } = info;
        attributes.user = caller.user;
        let mut allowed_by = String::new();
        // Health is told to whoever asks, also before there is anything to judge by.
        if attributes.is_resource() || !is_health_path(&attributes.path) {
            self.recovery.wait().await?;
            allowed_by = self.permit(&attributes).await?;
        }
        Ok(Authorized {
            attributes,
            verb,
            query,
            tail,
            agent: caller.agent,
            term: caller.term,
            now: self.clock.now(),
            allowed_by,
            namespace_itself,
            warnings: Warnings::default(),
            _corridor: Corridor,
        })
    }

    /// Asks the authoriser; once more after a read barrier before it refuses. Answers why it allows.
    pub(crate) async fn permit(&self, attributes: &Attributes) -> Result<String, Status> {
        let ask = || self.authorizer.authorize(attributes, self.kinds.as_ref());
        if let Decision::Allow(why) = ask() {
            return Ok(why);
        }
        self.barrier().await?;
        match ask() {
            Decision::Allow(why) => Ok(why),
            Decision::Deny(why) | Decision::NoOpinion(why) => Err(forbidden(attributes, &why)),
        }
    }
}

/// What a client sent, as text that is no markup to a browser that shows it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// 403 in the words kubectl users know.
pub(crate) fn forbidden(a: &Attributes, why: &str) -> Status {
    let because = if why.is_empty() { String::new() } else { format!(": {why}") };
    if !a.is_resource() {
        let message = format!("forbidden: User \"{}\" cannot {} path \"{}\"", a.user.name, a.verb, a.path);
        return Status::new(Reason::Forbidden, escaped(&message) + &because);
    }
    let resource =
        if a.subresource.is_empty() { a.resource.clone() } else { format!("{}/{}", a.resource, a.subresource) };
    let place = match a.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        ns => format!("in the namespace \"{ns}\""),
    };
    let why = format!(
        "User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {place}",
        a.user.name, a.verb, a.group
    );
    Status::forbidden(&a.group, &a.resource, &a.name, &(escaped(&why) + &because))
}
