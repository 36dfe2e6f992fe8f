//! The seam of authentication, and the union of all authenticators.

use kybern_api::attributes::UserInfo;
use kybern_api::seam::Lister;
use std::pin::Pin;

/// The group of everybody who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";

/// What a request brings to prove who sent it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// The peer's certificate chain in DER, leaf first; possession of the key was proved by TLS.
    pub chain: &'a [Vec<u8>],
    /// The bearer token.
    pub bearer: Option<&'a str>,
    /// Whom a token has to be for (TokenReview); empty: this API server. Tokens that name no audience are
    /// for the API server alone.
    pub audiences: &'a [String],
    /// The URL path of the request: anonymous requests pass on health paths only. Empty: none.
    pub path: &'a str,
    /// Wall-clock time, seconds since the epoch.
    pub now: i64,
}

/// An authenticator's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is this user.
    Known(UserInfo),
    /// Nothing here is for this authenticator.
    NoOpinion,
    /// The credential is for this authenticator and is bad. The text is for the log, not the client.
    Rejected(String),
    /// What the credential refers to (a token's pod, account or Secret) is not there. It may have been
    /// written elsewhere a moment ago: who has fresher objects may ask again.
    Absent(String),
    /// Somebody outside has to be asked first: [`Authenticator::bring`], then ask again, once.
    Pending,
}

impl Outcome {
    pub(crate) fn rejected(why: impl Into<String>) -> Self {
        Self::Rejected(why.into())
    }
}

/// Asking somebody outside; what comes of it shows in the next outcome.
pub type Bringing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Finds out who sent a request. Synchronous: keys and objects are in memory.
pub trait Authenticator: Send + Sync {
    /// The outcome for these credentials.
    fn authenticate(&self, credentials: &Credentials<'_>, objects: &dyn Lister) -> Outcome;
    /// Asks outside for what the outcome [`Outcome::Pending`] lacked.
    fn bring<'a>(&'a self, _credentials: &'a Credentials<'a>, _objects: &'a dyn Lister) -> Bringing<'a> {
        Box::pin(std::future::ready(()))
    }
}

/// Asks its members in order; the first that knows the user wins and the user joins
/// [`AUTHENTICATED`].
///
/// A bad credential does not end the search (a good token may come with a foreign certificate), but
/// without a good one the request is refused, also where an anonymous one would pass.
pub struct Union {
    members: Vec<Box<dyn Authenticator>>,
    last: Box<dyn Authenticator>,
}

impl Union {
    /// The union of `members`; `last` is asked only when no credential was shown.
    pub fn new(members: Vec<Box<dyn Authenticator>>, last: Box<dyn Authenticator>) -> Self {
        Self { members, last }
    }
}

impl std::fmt::Debug for Union {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Union").field("members", &self.members.len()).finish_non_exhaustive()
    }
}

impl Authenticator for Union {
    fn authenticate(&self, credentials: &Credentials<'_>, objects: &dyn Lister) -> Outcome {
        let (mut refusal, mut absence, mut pending) = (None, None, false);
        for member in &self.members {
            match member.authenticate(credentials, objects) {
                Outcome::Known(mut user) => {
                    if !user.is_in(AUTHENTICATED) {
                        user.groups.push(AUTHENTICATED.to_owned());
                    }
                    return Outcome::Known(user);
                }
                Outcome::Rejected(why) => refusal = refusal.or(Some(why)),
                Outcome::Absent(why) => absence = absence.or(Some(why)),
                // Those behind it are asked when it has said that the credential is not its own.
                Outcome::Pending => {
                    pending = true;
                    break;
                }
                Outcome::NoOpinion => {}
            }
        }
        match (absence, refusal) {
            // A foreign certificate does not keep a good token out.
            _ if pending => Outcome::Pending,
            (Some(why), _) => Outcome::Absent(why),
            (None, Some(why)) => Outcome::Rejected(why),
            (None, None) if credentials.bearer.is_some() => Outcome::rejected("a bearer token that nobody here issued"),
            (None, None) => self.last.authenticate(credentials, objects),
        }
    }

    fn bring<'a>(&'a self, credentials: &'a Credentials<'a>, objects: &'a dyn Lister) -> Bringing<'a> {
        let mut members = self.members.iter().map(AsRef::as_ref);
        let pending = |m: &&dyn Authenticator| m.authenticate(credentials, objects) == Outcome::Pending;
        match members.find(pending) {
            Some(member) => member.bring(credentials, objects),
            None => Box::pin(std::future::ready(())),
        }
    }
}
