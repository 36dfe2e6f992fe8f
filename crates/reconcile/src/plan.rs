//! What a plan says: a list of steps, and when to look again.

use crate::Error;
use crate::view::whole_seconds;
use k8s_openapi::api::core::v1::ObjectReference;
use kybern_api::object::Object;
use kybern_client::transport::{JSON_PATCH, MERGE_PATCH, Resource, STRATEGIC_MERGE_PATCH};
use kybern_client::typed;
use kybern_client::write::{DeleteOptions, Propagation};
use serde::Serialize;
use serde_json::{Value, json};
use smol_str::SmolStr;
use std::time::Duration;

/// Names one object, or (empty name) the collection it will be created in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ref {
    /// The resource.
    pub resource: Resource,
    /// Namespace or empty.
    pub namespace: SmolStr,
    /// Name, or empty.
    pub name: SmolStr,
}

impl Ref {
    /// An object.
    pub fn to(resource: &Resource, object: &Object) -> Self {
        Self { resource: resource.clone(), namespace: object.head.namespace.clone(), name: object.head.name.clone() }
    }
    /// An object of a typed kind.
    pub fn typed<K: k8s_openapi::Resource>(namespace: impl Into<SmolStr>, name: impl Into<SmolStr>) -> Self {
        Self { resource: typed::resource::<K>(), namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Ref {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&kybern_api::error::qualified(&self.resource.group, &self.resource.plural))?;
        for part in [&self.namespace, &self.name].into_iter().filter(|p| !p.is_empty()) {
            write!(f, " {part}")?;
        }
        Ok(())
    }
}

/// An event to record.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// What it is about.
    pub about: ObjectReference,
    /// Warning or Normal.
    pub warning: bool,
    /// Machine-readable reason.
    pub reason: SmolStr,
    /// Text for a person.
    pub message: String,
}

/// What to record about an action once its outcome is known. `{}` in a text stands for the name; an
/// empty reason records nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Announce {
    /// What the events are about.
    pub about: ObjectReference,
    /// Reason and text of success.
    pub done: (&'static str, String),
    /// Reason and text of failure; the error follows the text.
    pub failed: (&'static str, String),
}

/// One change to make.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create an object; a `generateName` is turned into a name by the executor.
    Create {
        /// Collection.
        to: Ref,
        /// JSON with kind and apiVersion.
        object: Value,
        /// Events about the outcome.
        announce: Option<Announce>,
    },
    /// Replace an object or its subresource; metadata.resourceVersion inside is the precondition.
    Update {
        /// Object.
        to: Ref,
        /// Subresource or empty.
        subresource: &'static str,
        /// JSON with kind and apiVersion.
        object: Value,
    },
    /// Patch an object or its subresource.
    Patch {
        /// Object.
        to: Ref,
        /// Subresource or empty.
        subresource: &'static str,
        /// Media type.
        media_type: &'static str,
        /// The patch.
        patch: Value,
    },
    /// Delete an object.
    Delete {
        /// Object.
        to: Ref,
        /// Preconditions, grace, propagation.
        options: DeleteOptions,
        /// Events about the outcome.
        announce: Option<Announce>,
    },
    /// Record an event.
    Event(Note),
}

/// A fact that must hold on the server, beyond the view, before the plan goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// No object of this name and uid exists (uid empty: no object of this name).
    Absent {
        /// Object.
        object: Ref,
        /// Its uid, or empty.
        uid: SmolStr,
    },
    /// This very object exists and is not being deleted.
    Alive {
        /// Object.
        object: Ref,
        /// Its uid.
        uid: SmolStr,
    },
    /// These collections hold nothing in this namespace.
    Empty {
        /// Collections.
        resources: Vec<Resource>,
        /// Namespace.
        namespace: SmolStr,
    },
}

/// One step of a plan. A step that fails ends the plan; the key comes back after a back-off.
#[expect(clippy::large_enum_variant, reason = "plans are short and short-lived; boxes would only clutter them")]
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// One action.
    Do(Action),
    /// Actions that do not depend on each other: run at once, 1, 2, 4, ... at a time, so that a
    /// refusal that will meet them all is met once.
    Batch(Vec<Action>),
    /// Goes on only if this holds; otherwise the plan ends and the key comes back soon.
    Require(Guard),
}

/// What to do about one key. Empty: nothing, all is as it should be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Steps, in order.
    pub steps: Vec<Step>,
    /// Look again after this time even if nothing changes.
    pub requeue: Option<Duration>,
}

impl Plan {
    /// Nothing to do.
    pub fn none() -> Self {
        Self::default()
    }
    /// Appends an action.
    pub fn act(&mut self, action: impl Into<Option<Action>>) {
        self.steps.extend(action.into().map(Step::Do));
    }
    /// Appends a batch.
    pub fn batch(&mut self, actions: Vec<Action>) {
        if !actions.is_empty() {
            self.steps.push(Step::Batch(actions));
        }
    }
    /// Appends a condition on the server's state.
    pub fn require(&mut self, guard: Guard) {
        self.steps.push(Step::Require(guard));
    }
    /// Appends an event.
    pub fn note(&mut self, note: Note) {
        self.act(Action::Event(note));
    }
    /// Looks again after `delay` (the earliest of several counts).
    pub fn after(&mut self, delay: Duration) {
        self.requeue = Some(self.requeue.map_or(delay, |d| d.min(delay)));
    }
    /// Looks again at `then`.
    pub fn at(&mut self, then: jiff::Timestamp, now: jiff::Timestamp) {
        let left = then.duration_since(now);
        self.after(Duration::try_from(left).unwrap_or(Duration::ZERO).max(Duration::from_millis(10)));
    }
    /// Takes over the steps of another plan.
    pub fn extend(&mut self, other: Self) {
        self.steps.extend(other.steps);
        if let Some(delay) = other.requeue {
            self.after(delay);
        }
    }
    /// Does it change nothing?
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// A create of a typed object.
///
/// # Errors
/// When the object does not fit JSON.
pub fn create<K>(object: &K, announce: Option<Announce>) -> Result<Action, Error>
where
    K: k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta> + Serialize,
{
    let namespace = object.metadata().namespace.clone().unwrap_or_default();
    let to = Ref::typed::<K>(namespace, "");
    Ok(Action::Create { to, object: typed::tree(object).map_err(Error::Encode)?, announce })
}

/// The merge patch that makes `old` into `new`, guarded by the revision of `old`; None when equal.
///
/// # Errors
/// When the objects do not fit JSON.
pub fn change<K>(old: &K, new: &K, subresource: &'static str) -> Result<Option<Action>, Error>
where
    K: k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta> + Serialize,
{
    let (before, after) = (typed::tree(old).map_err(Error::Encode)?, typed::tree(new).map_err(Error::Encode)?);
    let Some(mut patch) = typed::merge_diff(&before, &after) else { return Ok(None) };
    let meta = old.metadata();
    patch["metadata"]["resourceVersion"] = json!(meta.resource_version);
    let to = Ref::typed::<K>(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    Ok(Some(Action::Patch { to, subresource, media_type: MERGE_PATCH, patch }))
}

/// The merge patch that makes the status `old` of an object of the kind `K` into `new`, guarded by the
/// revision of the object; None when equal.
///
/// # Errors
/// When a status does not fit JSON.
pub fn report<K: k8s_openapi::Resource>(
    object: &Object,
    old: Option<&impl Serialize>,
    new: &impl Serialize,
) -> Result<Option<Action>, Error> {
    let before = old.map(serde_json::to_value).transpose().map_err(Error::Encode)?;
    let after = serde_json::to_value(new).map_err(Error::Encode)?;
    let Some(diff) = typed::merge_diff(&before.unwrap_or_else(|| json!({})), &after) else { return Ok(None) };
    Ok(Some(patch_status::<K>(object, diff)))
}

/// A merge patch of the status of an object of the kind `K`, guarded by the object's revision.
pub fn patch_status<K: k8s_openapi::Resource>(object: &Object, status: Value) -> Action {
    Action::Patch {
        to: Ref::to(&typed::resource::<K>(), object),
        subresource: "status",
        media_type: MERGE_PATCH,
        patch: json!({"metadata": {"resourceVersion": object.revision.to_string()}, "status": status}),
    }
}

/// A delete of exactly this object.
pub fn delete(resource: &Resource, object: &Object, announce: Option<Announce>) -> Action {
    let options = DeleteOptions { uid: Some(object.head.uid.to_string()), ..DeleteOptions::default() };
    Action::Delete { to: Ref::to(resource, object), options, announce }
}

/// The reference events use for a typed object.
pub fn reference<K: k8s_openapi::Resource>(object: &Object) -> ObjectReference {
    let text = |s: &SmolStr| (!s.is_empty()).then(|| s.to_string());
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        name: text(&object.head.name),
        namespace: text(&object.head.namespace),
        uid: text(&object.head.uid),
        resource_version: Some(object.revision.to_string()),
        field_path: None,
    }
}

/// An owner reference that makes a typed object the managing controller.
pub fn controller_reference<K: k8s_openapi::Resource>(
    object: &Object,
) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: object.head.name.to_string(),
        uid: object.head.uid.to_string(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// `now` in whole seconds plus a duration, as objects store times.
pub fn later(now: jiff::Timestamp, by: Duration) -> jiff::Timestamp {
    let by = jiff::SignedDuration::try_from(by).unwrap_or(jiff::SignedDuration::MAX);
    whole_seconds(now).saturating_add(by).unwrap_or(jiff::Timestamp::MAX)
}

/// The plan as plain data: what test cases compare, and what a trace log shows.
pub fn describe(plan: &Plan) -> Value {
    let mut steps: Vec<Value> = plan
        .steps
        .iter()
        .map(|step| match step {
            Step::Do(action) => describe_action(action),
            Step::Batch(actions) => json!({"batch": actions.iter().map(describe_action).collect::<Vec<_>>()}),
            Step::Require(Guard::Absent { object, uid }) => {
                json!({"require-absent": format!("{object} {uid}").trim_end()})
            }
            Step::Require(Guard::Alive { object, uid }) => json!({"require-alive": format!("{object} {uid}")}),
            Step::Require(Guard::Empty { resources, namespace }) => {
                let plurals: Vec<&str> = resources.iter().map(|r| r.plural.as_str()).collect();
                json!({"require-empty": format!("{namespace}: {}", plurals.join(" "))})
            }
        })
        .collect();
    if let Some(delay) = plan.requeue {
        steps.push(json!({"requeue": delay.as_secs_f64()}));
    }
    Value::Array(steps)
}

fn describe_action(action: &Action) -> Value {
    let at = |to: &Ref, subresource: &str| match subresource {
        "" => to.to_string(),
        s => format!("{to} /{s}"),
    };
    match action {
        Action::Create { to, object, .. } => json!({"create": at(to, ""), "object": object}),
        Action::Update { to, subresource, object } => json!({"update": at(to, subresource), "object": object}),
        Action::Patch { to, subresource, media_type, patch } => {
            let word = match *media_type {
                JSON_PATCH => "json-patch",
                STRATEGIC_MERGE_PATCH => "strategic-patch",
                MERGE_PATCH => "patch",
                other => other,
            };
            json!({word: at(to, subresource), "with": patch})
        }
        Action::Delete { to, options, .. } => {
            let mut text = json!({"delete": at(to, "")});
            if let Some(uid) = &options.uid {
                text["uid"] = json!(uid);
            }
            if let Some(grace) = options.grace {
                text["grace"] = json!(grace);
            }
            if let Some(Propagation::Orphan | Propagation::Foreground) = options.propagation {
                text["propagation"] = json!(options.propagation);
            }
            text
        }
        Action::Event(note) => {
            let level = if note.warning { "Warning" } else { "Normal" };
            json!({"event": format!("{level} {}: {}", note.reason, note.message)})
        }
    }
}
