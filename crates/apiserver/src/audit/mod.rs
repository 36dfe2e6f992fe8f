//! Who did what: every request that the policy names becomes an `audit.k8s.io/v1` Event.
//!
//! A `Record` is opened when a request's sender is known (or refused) and makes the events of its
//! stages. Dropped without an answer it says so: the client went away, or the handler broke. What holds
//! credentials (sealed kinds, tokens and their reviews) is never written down beyond who and what,
//! whatever the policy says.

mod event;
mod log;
mod policy;
mod webhook;

pub use event::Event;
pub use log::{Log, LogSettings};
pub use policy::{Level, Policy, PolicyError, Stage, Verdict};
pub use webhook::{Sinks, Webhook};

use crate::registry::kinds::Kinds;
use bytes::Bytes;
use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::error::Status;
use kybern_api::seam::{Clock, Ids};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Takes events. Must not block: it is called while requests are served.
pub trait Sink: Send + Sync + 'static {
    /// Takes one event, or drops and counts it.
    fn push(&self, event: Event);
}

/// What is written down, and where to.
#[derive(Clone)]
pub struct Audit {
    /// Which requests.
    pub policy: Arc<Policy>,
    /// Where to.
    pub sink: Arc<dyn Sink>,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Whatever belongs to this group, as a kind or as the body of a subresource, carries credentials.
const CREDENTIALS: &str = "authentication.k8s.io";
/// The status of a request whose client went away before its answer.
const CLIENT_GONE: u16 = 499;
const PANICKED: u16 = 500;

/// Makes records.
pub(crate) struct Auditor {
    audit: Option<Audit>,
    clock: Arc<dyn Clock>,
    kinds: Arc<Kinds>,
    ids: RequestIds,
}

/// What a door knows of a request besides who sends it.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    /// The request's id.
    pub(crate) id: String,
    /// Path and query as sent; empty: made from what is asked for.
    pub(crate) uri: String,
    /// Where it came from, nearest last.
    pub(crate) sources: Vec<IpAddr>,
    /// User-Agent.
    pub(crate) agent: String,
}

impl Auditor {
    pub(crate) fn new(audit: Option<Audit>, clock: Arc<dyn Clock>, kinds: Arc<Kinds>, ids: &dyn Ids) -> Self {
        Self { audit, clock, kinds, ids: RequestIds::new(ids) }
    }

    /// An id for one request.
    pub(crate) fn id(&self) -> String {
        self.ids.next()
    }

    /// Is anything written down at all?
    pub(crate) fn is_on(&self) -> bool {
        self.audit.is_some()
    }

    /// Opens the record of a request by `user`; None: the policy leaves it out.
    pub(crate) fn open(&self, origin: Origin, asked: &Attributes, user: &UserInfo) -> Option<Record> {
        let audit = self.audit.as_ref()?;
        let attributes = Attributes { user: user.clone(), ..asked.clone() };
        let verdict = audit.policy.judge(&attributes);
        if verdict.level == Level::None {
            return None;
        }
        let level = if self.holds_credentials(asked) { Level::Metadata } else { verdict.level };
        let now = self.clock.now();
        let event = Event {
            level,
            stage: Stage::RequestReceived,
            id: if origin.id.is_empty() { self.id() } else { origin.id },
            uri: origin.uri,
            attributes,
            acting: None,
            sources: origin.sources,
            agent: origin.agent,
            code: 0,
            failure: None,
            request: None,
            response: None,
            decision: None,
            omit_managed_fields: verdict.omit_managed_fields,
            received: now,
            at: now,
        };
        let record = Record { sink: audit.sink.clone(), clock: self.clock.clone(), verdict, event };
        record.say(Stage::RequestReceived);
        Some(record)
    }

    fn holds_credentials(&self, a: &Attributes) -> bool {
        if !a.is_resource() {
            return false;
        }
        self.kinds.find(&a.group, &a.version, &a.resource).is_none_or(|resource| {
            let def = resource.def();
            let of_sub = def.subresource(&a.subresource).is_some_and(|sub| sub.group == CREDENTIALS);
            def.sealed || def.group == CREDENTIALS || of_sub
        })
    }
}

/// A request that is being written down.
pub(crate) struct Record {
    sink: Arc<dyn Sink>,
    clock: Arc<dyn Clock>,
    verdict: Verdict,
    event: Event,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Record").field(&self.event.id).finish()
    }
}

impl Record {
    /// The request goes on as this user.
    pub(crate) fn acting(&mut self, user: &UserInfo) {
        if *user != self.event.attributes.user {
            self.event.acting = Some(user.clone());
        }
    }

    /// The authoriser's word.
    pub(crate) fn decided(&mut self, allowed: bool, reason: &str) {
        self.event.decision = Some((if allowed { "allow" } else { "forbid" }, reason.to_owned()));
    }

    /// Is the request's object wanted?
    pub(crate) fn wants_request(&self) -> bool {
        self.event.level >= Level::Request
    }

    /// Is the answer's object wanted?
    pub(crate) fn wants_response(&self) -> bool {
        self.event.level >= Level::RequestResponse
    }

    /// The request's object.
    pub(crate) fn request(&mut self, json: Bytes) {
        self.event.request = Some(Event::kept(json));
    }

    /// The answer's object.
    pub(crate) fn response(&mut self, json: Bytes) {
        self.event.response = Some(Event::kept(json));
    }

    /// The answer is this failure.
    pub(crate) fn failed(&mut self, status: &Status) {
        self.event.code = status.code;
        self.event.failure = Some(Box::new(status.clone()));
        if self.wants_response() {
            self.response(status.to_json().into());
        }
    }

    /// The answer has this code. Dropping the record says that it is complete.
    pub(crate) fn answered(&mut self, code: u16) {
        self.event.code = code;
    }

    /// The answer of a long-running request has begun.
    pub(crate) fn started(&mut self, code: u16) {
        self.answered(code);
        self.say(Stage::ResponseStarted);
    }

    fn say(&self, stage: Stage) {
        if !self.verdict.omit.has(stage) {
            self.sink.push(Event { stage, at: self.clock.now(), ..self.event.clone() });
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let mut stage = Stage::ResponseComplete;
        if self.event.code == 0 {
            let panics = std::thread::panicking();
            self.event.code = if panics { PANICKED } else { CLIENT_GONE };
            if panics {
                stage = Stage::Panic;
            }
        }
        if !self.verdict.omit.has(stage) {
            // The last word takes the event: nothing of it is copied.
            self.sink.push(Event { stage, at: self.clock.now(), ..std::mem::take(&mut self.event) });
        }
    }
}

/// Ids that no other server and no other life of this one gives: a random beginning, and a count.
struct RequestIds {
    beginning: String,
    given: AtomicU64,
}

impl RequestIds {
    fn new(ids: &dyn Ids) -> Self {
        let uid = ids.uid();
        Self { beginning: uid.get(..24).unwrap_or(&uid).to_owned(), given: AtomicU64::new(0) }
    }

    fn next(&self) -> String {
        let n = self.given.fetch_add(1, Ordering::Relaxed) & 0xffff_ffff_ffff;
        format!("{}{n:012x}", self.beginning)
    }
}
