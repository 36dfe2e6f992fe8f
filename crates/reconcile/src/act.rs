//! The only executor of plans.

use crate::events::Recorder;
use crate::plan::{Action, Announce, Guard, Note, Plan, Ref, Step};
use futures::future::join_all;
use kybern_api::error::{Reason, Status};
use kybern_api::seam::Ids;
use kybern_client::informer::Informer;
use kybern_client::store::{Name, Store};
use kybern_client::transport::{Resource, Selection};
use kybern_client::write::{At, DeleteOptions, Writer, Written};
use serde_json::Value;
use smol_str::SmolStr;
use std::sync::Arc;
use std::time::Duration;

/// A worker that waits this long for an informer says so in the log.
const SLOW: Duration = Duration::from_secs(30);
/// Attempts to find a free generated name.
const NAME_ATTEMPTS: usize = 5;

/// What must be visible in the informers before the key is planned again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// The informer of the resource has reached the revision of a write.
    Reached(Resource, u64),
    /// The object is gone, is being deleted, or is another of the same name.
    Going(Ref, SmolStr),
}

impl Expectation {
    fn resource(&self) -> &Resource {
        match self {
            Self::Reached(resource, _) => resource,
            Self::Going(object, _) => &object.resource,
        }
    }
    fn holds(&self, store: &Store) -> bool {
        match self {
            Self::Reached(_, revision) => store.revision() >= *revision,
            Self::Going(object, uid) => store
                .get(&Name::new(object.namespace.clone(), object.name.clone()))
                .is_none_or(|i| i.object.head.uid != *uid || i.object.head.deleting.is_some()),
        }
    }
}

/// Why a plan was not carried out to its end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The view was behind; nothing is wrong.
    #[error("the view is behind: {0}")]
    Stale(String),
    /// The server refused or could not be reached.
    #[error("{0}")]
    Refused(Status),
}

/// How far a plan got.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What its writes will show.
    pub expectations: Vec<Expectation>,
    /// What stopped it.
    pub failure: Option<Failure>,
}

/// Carries out plans as one identity.
pub struct Executor {
    writer: Writer,
    recorder: Recorder,
    ids: Arc<dyn Ids>,
}

impl Executor {
    /// An executor that writes with `writer`.
    pub fn new(writer: Writer, recorder: Recorder, ids: Arc<dyn Ids>) -> Self {
        Self { writer, recorder, ids }
    }

    /// Runs the steps in order up to the first that fails.
    pub async fn carry_out(&self, plan: &Plan) -> Outcome {
        let mut outcome = Outcome::default();
        for step in &plan.steps {
            let result = match step {
                Step::Do(action) => self.act(action).await.map(|e| outcome.expectations.extend(e)),
                Step::Batch(actions) => self.batch(actions, &mut outcome.expectations).await,
                Step::Require(guard) => self.require(guard).await,
            };
            if let Err(failure) = result {
                outcome.failure = Some(failure);
                break;
            }
        }
        outcome
    }

    /// Runs actions 1, 2, 4, ... at a time and stops after the first group with a failure.
    async fn batch(&self, actions: &[Action], expectations: &mut Vec<Expectation>) -> Result<(), Failure> {
        let mut rest = actions;
        let mut size = 1;
        while !rest.is_empty() {
            let (group, later) = rest.split_at(size.min(rest.len()));
            let results = join_all(group.iter().map(|a| self.act(a))).await;
            let mut failure = None;
            for result in results {
                match result {
                    Ok(expectation) => expectations.extend(expectation),
                    Err(e) => failure = failure.or(Some(e)),
                }
            }
            if let Some(failure) = failure {
                return Err(failure);
            }
            rest = later;
            size *= 2;
        }
        Ok(())
    }

    async fn act(&self, action: &Action) -> Result<Option<Expectation>, Failure> {
        match action {
            Action::Create { to, object, announce } => self.create(to, object, announce.as_ref()).await,
            Action::Update { to, subresource, object } => {
                reached(to, self.writer.update(at(to, subresource), object).await)
            }
            Action::Patch { to, subresource, media_type, patch } => {
                reached(to, self.writer.patch(at(to, subresource), media_type, patch).await)
            }
            Action::Delete { to, options, announce } => self.delete(to, options, announce.as_ref()).await,
            Action::Event(note) => {
                self.recorder.record(note.clone());
                Ok(None)
            }
        }
    }

    async fn create(
        &self,
        to: &Ref,
        object: &Value,
        announce: Option<&Announce>,
    ) -> Result<Option<Expectation>, Failure> {
        let Some(prefix) = generate_name(object) else {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let result = self.create_named(to, object, name).await;
            return self.created(to, name, result, announce);
        };
        let mut object = object.clone();
        let mut last = None;
        for _ in 0..NAME_ATTEMPTS {
            let name = format!("{prefix}{}", self.ids.suffix());
            object["metadata"]["name"] = Value::String(name.clone());
            match self.create_named(to, &object, &name).await {
                Err(status) if status.reason == Reason::AlreadyExists => last = Some((name, status)),
                result => return self.created(to, &name, result, announce),
            }
        }
        let (name, status) = last.unwrap_or_else(|| (prefix, Status::internal("no name was tried")));
        self.created(to, &name, Err(status), announce)
    }

    /// Creates under a fixed name. After an unknown outcome the server is asked whether the object
    /// is there, so that the next plan neither misses nor doubles it.
    async fn create_named(&self, to: &Ref, object: &Value, name: &str) -> Result<Option<u64>, Status> {
        match self.writer.create(at(&Ref { name: SmolStr::default(), ..to.clone() }, ""), object).await {
            Ok(written) => Ok(written.revision),
            Err(status) if status.reason == Reason::Timeout => {
                let found = self.writer.transport().get(&to.resource, &to.namespace, name).await;
                found.map(|o| Some(o.revision)).map_err(|_| status)
            }
            Err(status) => Err(status),
        }
    }

    fn created(
        &self,
        to: &Ref,
        name: &str,
        result: Result<Option<u64>, Status>,
        announce: Option<&Announce>,
    ) -> Result<Option<Expectation>, Failure> {
        self.announce(announce, name, result.as_ref().err());
        match result {
            Ok(revision) => Ok(revision.map(|r| Expectation::Reached(to.resource.clone(), r))),
            Err(status) if status.reason == Reason::AlreadyExists => Err(Failure::Stale(status.message)),
            Err(status) => Err(Failure::Refused(status)),
        }
    }

    async fn delete(
        &self,
        to: &Ref,
        options: &DeleteOptions,
        announce: Option<&Announce>,
    ) -> Result<Option<Expectation>, Failure> {
        let result = self.writer.delete(at(to, ""), options).await;
        let going = || options.uid.as_ref().map(|uid| Expectation::Going(to.clone(), uid.into()));
        match result {
            Ok(_) => {
                self.announce(announce, &to.name, None);
                Ok(going())
            }
            // Someone was faster; the informer will hear of it.
            Err(status) if status.reason == Reason::NotFound => Ok(going()),
            Err(status) if status.reason == Reason::Conflict => Err(Failure::Stale(status.message)),
            Err(status) => {
                self.announce(announce, &to.name, Some(&status));
                Err(Failure::Refused(status))
            }
        }
    }

    fn announce(&self, announce: Option<&Announce>, name: &str, error: Option<&Status>) {
        let Some(announce) = announce else { return };
        let (reason, text) = if error.is_some() { &announce.failed } else { &announce.done };
        if reason.is_empty() {
            return;
        }
        let mut message = text.replace("{}", name);
        if let Some(status) = error {
            message.push_str(&status.message);
        }
        let note = Note { about: announce.about.clone(), warning: error.is_some(), reason: (*reason).into(), message };
        self.recorder.record(note);
    }

    async fn require(&self, guard: &Guard) -> Result<(), Failure> {
        match guard {
            Guard::Absent { object, uid } => {
                match self.writer.transport().get(&object.resource, &object.namespace, &object.name).await {
                    Err(status) if status.reason == Reason::NotFound => Ok(()),
                    Err(status) => Err(Failure::Refused(status)),
                    Ok(found) if !uid.is_empty() && found.head.uid != *uid => Ok(()),
                    Ok(_) => Err(Failure::Stale(format!("{object} exists"))),
                }
            }
            Guard::Alive { object, uid } => {
                match self.writer.transport().get(&object.resource, &object.namespace, &object.name).await {
                    Ok(found) if found.head.uid == *uid && found.head.deleting.is_none() => Ok(()),
                    Err(status) if status.reason != Reason::NotFound => Err(Failure::Refused(status)),
                    _ => Err(Failure::Stale(format!("{object} is gone or going"))),
                }
            }
            Guard::Empty { resources, namespace } => {
                let selection = Selection { namespace: namespace.to_string(), ..Selection::default() };
                for resource in resources {
                    let list = self.writer.transport().list(resource, &selection).await.map_err(Failure::Refused)?;
                    if !list.items.is_empty() {
                        return Err(Failure::Stale(format!(
                            "{} {} left in {namespace}",
                            list.items.len(),
                            resource.plural
                        )));
                    }
                }
                Ok(())
            }
        }
    }
}

/// Waits until the informers show what a plan wrote. Without a limit on purpose: planning from a
/// view that lacks one's own writes is what makes duplicates.
pub async fn await_visible(expectations: &[Expectation], informers: &[Arc<Informer>]) {
    for expectation in expectations {
        let Some(informer) = informers.iter().find(|i| i.resource() == expectation.resource()) else { continue };
        let visible = informer.until(|store| expectation.holds(store));
        tokio::pin!(visible);
        if tokio::time::timeout(SLOW, &mut visible).await.is_err() {
            tracing::warn!(?expectation, "an informer is far behind");
            visible.await;
        }
    }
}

fn at<'a>(to: &'a Ref, subresource: &'a str) -> At<'a> {
    At { resource: &to.resource, namespace: &to.namespace, name: &to.name, subresource }
}

fn generate_name(object: &Value) -> Option<String> {
    let meta = &object["metadata"];
    let named = meta["name"].as_str().is_some_and(|n| !n.is_empty());
    meta["generateName"].as_str().filter(|p| !p.is_empty() && !named).map(str::to_owned)
}

fn reached(to: &Ref, result: Result<Written, Status>) -> Result<Option<Expectation>, Failure> {
    match result {
        Ok(written) => Ok(written.revision.map(|r| Expectation::Reached(to.resource.clone(), r))),
        Err(status) if matches!(status.reason, Reason::Conflict | Reason::NotFound) => {
            Err(Failure::Stale(status.message))
        }
        Err(status) => Err(Failure::Refused(status)),
    }
}
