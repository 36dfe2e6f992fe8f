//! The history of a StatefulSet's or DaemonSet's template, kept as ControllerRevisions.
//!
//! A revision holds the strategic merge patch that brings its template back, which is what
//! `kubectl rollout undo` applies. Its name follows from the template and the owner's collision
//! count, so the same template finds its revision again, also after a change of leader.

use crate::hash::short_hash;
use crate::ownership::claim;
use k8s_openapi::Resource as Kind;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kybern_api::meta::selector::Selector;
use kybern_api::object::Object;
use kybern_client::store::Item;
use kybern_client::transport::MERGE_PATCH;
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::plan::{Action, Plan, Ref, controller_reference, create, delete, patch_status};
use kybern_reconcile::view::{View, decode};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The longest part of a revision's name that is its owner's.
const MAX_PREFIX: usize = 223;

/// What there is to keep a history of.
pub(crate) struct Subject<'a> {
    /// The StatefulSet or DaemonSet.
    pub(crate) owner: &'a Object,
    /// Its selector.
    pub(crate) selector: &'a Selector,
    /// Its annotations; a revision carries them, `kubernetes.io/change-cause` above all.
    pub(crate) annotations: Option<&'a BTreeMap<String, String>>,
    /// Its present template.
    pub(crate) template: &'a PodTemplateSpec,
    /// status.collisionCount
    pub(crate) collisions: Option<i32>,
    /// The label under which a revision carries its hash.
    pub(crate) hash_label: &'static str,
}

/// One kept template.
pub(crate) struct Revision<'a> {
    pub(crate) item: &'a Item,
    object: ControllerRevision,
}

impl Revision<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.item.object.head.name
    }
    pub(crate) fn label(&self, key: &str) -> &str {
        self.item.object.head.label(key).unwrap_or_default()
    }
    fn number(&self) -> i64 {
        self.object.revision
    }
    fn data(&self) -> Option<&Value> {
        self.object.data.as_ref().map(|d| &d.0)
    }
    /// The kept template.
    pub(crate) fn template(&self) -> Result<PodTemplateSpec, Error> {
        let mut template = self.data().map_or(Value::Null, |d| d["spec"]["template"].clone());
        if let Some(members) = template.as_object_mut() {
            members.remove("$patch");
        }
        serde_json::from_value(template).map_err(|e| Error::Decode(self.item.object.head.key(), e))
    }
}

/// All revisions of a subject; its present template is among them.
pub(crate) struct History<'a> {
    /// By number, oldest first.
    revisions: Vec<Revision<'a>>,
    present: usize,
    /// Others of the same template (adopted ones), which nothing needs.
    duplicates: Vec<usize>,
}

/// How far a history is.
pub(crate) enum Progress<'a> {
    /// Something has to be written first; the key comes back when that shows.
    Pending(Plan),
    /// It is complete.
    Ready(History<'a>),
}

/// Reads the history of a subject of the kind `O` and brings it up to date: takes and releases
/// revisions, keeps the present template, and numbers it last.
pub(crate) fn history<'a, O: Kind>(view: &'a View, subject: &Subject<'a>) -> Result<Progress<'a>, Error> {
    let (owned, claims) = claim::<ControllerRevision, O>(view, subject.owner, subject.selector);
    if !claims.is_empty() {
        return Ok(Progress::Pending(claims));
    }
    let read = |item: &'a Item| Ok::<_, Error>(Revision { item, object: decode(item)? });
    let mut revisions = owned.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    revisions.sort_by_key(|r| (r.number(), r.item.object.head.created, r.item.object.head.name.clone()));
    let data = patch_of(subject.template)?;
    let mut equal: Vec<usize> = (0..revisions.len()).filter(|i| revisions[*i].data() == Some(&data)).collect();
    let next = |except: &[usize]| {
        let others = revisions.iter().enumerate().filter(|(i, _)| !except.contains(i));
        others.map(|(_, r)| r.number()).max().unwrap_or(0).saturating_add(1)
    };
    let Some(present) = equal.pop() else {
        return keep::<O>(view, subject, data, next(&[])).map(Progress::Pending);
    };
    let number = next(&[&equal[..], &[present]].concat());
    if revisions[present].number() < number {
        let mut plan = Plan::none();
        plan.act(renumber(revisions[present].item, number));
        return Ok(Progress::Pending(plan));
    }
    Ok(Progress::Ready(History { revisions, present, duplicates: equal }))
}

impl<'a> History<'a> {
    /// The revision of the present template.
    pub(crate) fn present(&self) -> &Revision<'a> {
        &self.revisions[self.present]
    }
    /// A revision by name.
    pub(crate) fn find(&self, name: &str) -> Option<&Revision<'a>> {
        self.revisions.iter().find(|r| r.name() == name)
    }
    /// Further revisions of the present template.
    pub(crate) fn duplicates(&self) -> impl Iterator<Item = &Revision<'a>> {
        self.duplicates.iter().map(|i| &self.revisions[*i])
    }
    /// All but the present one, oldest first.
    pub(crate) fn old(&self) -> impl Iterator<Item = &Revision<'a>> {
        self.revisions.iter().enumerate().filter(|(i, _)| *i != self.present).map(|(_, r)| r)
    }
}

/// The deletion of a revision.
pub(crate) fn forget(revision: &Revision<'_>) -> Action {
    delete(&typed::resource::<ControllerRevision>(), &revision.item.object, None)
}

/// The strategic merge patch that brings a template back.
fn patch_of(template: &PodTemplateSpec) -> Result<Value, Error> {
    let mut template = serde_json::to_value(template).map_err(Error::Encode)?;
    template["$patch"] = json!("replace");
    Ok(json!({"spec": {"template": template}}))
}

/// Keeps the present template under a new revision, or counts a collision when its name is taken.
fn keep<O: Kind>(view: &View, subject: &Subject<'_>, data: Value, number: i64) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let (owner, hash) = (&subject.owner.head, short_hash(&data, subject.collisions));
    let prefix: String = owner.name.chars().take(MAX_PREFIX).collect();
    let name = format!("{prefix}-{hash}");
    if view.get::<ControllerRevision>(&owner.namespace, &name).is_some() {
        let count = subject.collisions.unwrap_or(0).saturating_add(1);
        plan.act(patch_status::<O>(subject.owner, json!({"collisionCount": count})));
        return Ok(plan);
    }
    let mut labels = subject.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    labels.insert(subject.hash_label.into(), hash);
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(owner.namespace.to_string()),
            labels: Some(labels),
            annotations: subject.annotations.cloned(),
            owner_references: Some(vec![controller_reference::<O>(subject.owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    };
    plan.act(create(&revision, None)?);
    Ok(plan)
}

fn renumber(item: &Item, number: i64) -> Action {
    patch(item, json!({"metadata": {}, "revision": number}))
}

/// Labels a revision that somebody made by hand; its name will do as its hash.
pub(crate) fn label(revision: &Revision<'_>, key: &str) -> Action {
    patch(revision.item, json!({"metadata": {"labels": {key: revision.name()}}}))
}

fn patch(item: &Item, mut patch: Value) -> Action {
    patch["metadata"]["resourceVersion"] = json!(item.object.revision.to_string());
    let to = Ref::to(&typed::resource::<ControllerRevision>(), &item.object);
    Action::Patch { to, subresource: "", media_type: MERGE_PATCH, patch }
}
