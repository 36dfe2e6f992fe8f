//! A Deployment's replica sets: the new one and the old ones.

use super::annotations::{HASH_LABEL, revision};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kybern_client::store::Item;
use kybern_reconcile::Error;
use kybern_reconcile::view::decode;

/// One set, decoded for the time of a plan.
pub(super) struct Set<'a> {
    pub(super) item: &'a Item,
    pub(super) object: ReplicaSet,
}

impl<'a> Set<'a> {
    pub(super) fn read(item: &'a Item) -> Result<Self, Error> {
        Ok(Self { item, object: decode(item)? })
    }
    pub(super) fn name(&self) -> &str {
        &self.item.object.head.name
    }
    /// The size asked for.
    pub(super) fn replicas(&self) -> i32 {
        self.object.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }
    /// The size it has.
    pub(super) fn actual(&self) -> i32 {
        self.object.status.as_ref().map_or(0, |s| s.replicas)
    }
    pub(super) fn ready(&self) -> i32 {
        self.object.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0)
    }
    pub(super) fn available(&self) -> i32 {
        self.object.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
    }
    /// The available pods it will have once it has the size asked for: what it reported may be from
    /// before it shrank.
    pub(super) fn staying_available(&self) -> i32 {
        self.available().min(self.replicas())
    }
    pub(super) fn revision(&self) -> i64 {
        revision(self.object.metadata.annotations.as_ref())
    }
    /// A number in an annotation.
    pub(super) fn annotated(&self, key: &str) -> Option<i32> {
        self.object.metadata.annotations.as_ref()?.get(key)?.parse().ok()
    }
    /// Is it empty, and does it know it should be?
    pub(super) fn is_drained(&self) -> bool {
        let observed = self.object.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
        self.replicas() == 0 && self.actual() == 0 && observed >= self.item.object.head.generation
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.object.spec.as_ref()?.template.as_ref()
    }
}

/// All sets of a Deployment.
pub(super) struct Sets<'a> {
    /// The oldest set with the Deployment's template.
    pub(super) new: Option<Set<'a>>,
    /// The others, oldest first.
    pub(super) old: Vec<Set<'a>>,
}

impl<'a> Sets<'a> {
    pub(super) fn sort(deployment: &Deployment, mut all: Vec<Set<'a>>) -> Self {
        all.sort_by_key(|s| (s.item.object.head.created, s.item.object.head.name.clone()));
        let wanted = deployment.spec.as_ref().map(|s| &s.template);
        let new = all.iter().position(|s| same_template(s.template(), wanted)).map(|i| all.remove(i));
        Self { new, old: all }
    }
    pub(super) fn all(&self) -> impl Iterator<Item = &Set<'a>> {
        self.old.iter().chain(&self.new)
    }
    /// A sum over all sets; the numbers are users', so it stops at the largest there is.
    pub(super) fn sum(&self, of: fn(&Set<'a>) -> i32) -> i32 {
        self.all().map(of).fold(0, i32::saturating_add)
    }
    /// Pods that are ending; None while a set does not tell.
    pub(super) fn terminating(&self) -> Option<i32> {
        let counts = self.all().map(|s| s.object.status.as_ref()?.terminating_replicas);
        counts.sum()
    }
    pub(super) fn max_old_revision(&self) -> i64 {
        self.old.iter().map(Set::revision).max().unwrap_or(0)
    }
}

/// Are two templates the same but for the hash label? Both were defaulted by the same codec.
pub(super) fn same_template(a: Option<&PodTemplateSpec>, b: Option<&PodTemplateSpec>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return false };
    a.spec == b.spec && without_hash(a) == without_hash(b)
}

/// The template's metadata without the hash label; absent and empty maps are equal.
fn without_hash(template: &PodTemplateSpec) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
    let mut meta = template.metadata.clone().unwrap_or_default();
    if let Some(labels) = meta.labels.as_mut() {
        labels.remove(HASH_LABEL);
    }
    meta.labels = meta.labels.filter(|l| !l.is_empty());
    meta.annotations = meta.annotations.filter(|a| !a.is_empty());
    meta.creation_timestamp = None;
    meta
}
