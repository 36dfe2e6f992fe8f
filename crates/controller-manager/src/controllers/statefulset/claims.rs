//! The claims of a StatefulSet's pods: made before the pod, kept after it, and handed to whose end
//! shall be theirs too (persistentVolumeClaimRetentionPolicy).

use super::identity::{claim_name, pod_name};
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kybern_api::object::{Object, Owner};
use kybern_client::store::Item;
use kybern_reconcile::Error;
use kybern_reconcile::plan::{Action, Announce, controller_reference, create, reference};
use kybern_reconcile::view::World;
use smol_str::SmolStr;
use std::collections::BTreeMap;

/// A set, as far as its claims go.
pub(super) struct Claims<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) owner: &'a Object,
    pub(super) set: &'a StatefulSet,
}

/// Can a pod be made now?
pub(super) enum Readiness {
    /// With these claims made first.
    After(Vec<Action>),
    /// Not while a claim of its name is on its way out.
    Blocked(String),
}

impl<'a> Claims<'a> {
    fn templates(&self) -> &'a [PersistentVolumeClaim] {
        self.set.spec.as_ref().and_then(|s| s.volume_claim_templates.as_deref()).unwrap_or_default()
    }
    fn names(&self, ordinal: i64) -> impl Iterator<Item = (SmolStr, &'a PersistentVolumeClaim)> {
        let set = self.owner.head.name.clone();
        self.templates()
            .iter()
            .map(move |t| (claim_name(t.metadata.name.as_deref().unwrap_or_default(), &set, ordinal), t))
    }
    fn find(&self, name: &str) -> Option<&'a Item> {
        self.world.view.get::<PersistentVolumeClaim>(&self.owner.head.namespace, name)
    }

    /// What has to be done before the pod of an ordinal can be made.
    pub(super) fn before(&self, ordinal: i64) -> Result<Readiness, Error> {
        let mut missing = Vec::new();
        for (name, template) in self.names(ordinal) {
            match self.find(&name) {
                None => missing.push(self.create(&name, template, ordinal)?),
                Some(claim) if claim.object.head.deleting.is_some() || self.belongs_to_the_dead(claim, ordinal) => {
                    return Ok(Readiness::Blocked(format!("pvc {name} is being deleted")));
                }
                Some(_) => {}
            }
        }
        Ok(Readiness::After(missing))
    }

    /// A claim whose owner is an earlier pod of this ordinal goes when the garbage collector comes.
    fn belongs_to_the_dead(&self, claim: &Item, ordinal: i64) -> bool {
        let pod = pod_name(&self.owner.head.name, ordinal);
        self.deletes_on_scaling() && claim.object.head.owners.iter().any(|o| o.kind == Pod::KIND && o.name == pod)
    }

    fn create(&self, name: &str, template: &PersistentVolumeClaim, ordinal: i64) -> Result<Action, Error> {
        let selected = self.set.spec.as_ref().and_then(|s| s.selector.match_labels.clone()).unwrap_or_default();
        let mut labels = template.metadata.labels.clone().unwrap_or_default();
        labels.extend(selected);
        let owned = self.deletes_with_set().then(|| vec![controller_reference::<StatefulSet>(self.owner)]);
        let claim = PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(self.owner.head.namespace.to_string()),
                labels: (!labels.is_empty()).then_some(labels),
                annotations: template.metadata.annotations.clone(),
                finalizers: template.metadata.finalizers.clone(),
                owner_references: owned,
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        };
        create(&claim, Some(self.announce(ordinal)))
    }

    fn announce(&self, ordinal: i64) -> Announce {
        let set = &self.owner.head.name;
        let pod = pod_name(set, ordinal);
        Announce {
            about: reference::<StatefulSet>(self.owner),
            done: ("SuccessfulCreate", format!("create Claim {{}} Pod {pod} in StatefulSet {set} success")),
            failed: ("FailedCreate", format!("create Claim {{}} for Pod {pod} in StatefulSet {set} failed error: ")),
        }
    }

    /// Hands the claims of a pod to whoever's end shall be theirs.
    pub(super) fn hand_over(&self, pod: &Object, ordinal: i64, in_range: bool) -> Vec<Action> {
        let claims = self.names(ordinal).filter_map(|(name, _)| self.find(&name));
        let claims = claims.filter(|c| c.object.head.deleting.is_none());
        claims
            .filter_map(|claim| {
                let owners = self.owners(&claim.object, pod, in_range)?;
                Some(crate::ownership::set_owners::<PersistentVolumeClaim>(&claim.object, owners))
            })
            .collect()
    }

    /// The owners a claim should have; None when it has them.
    fn owners(&self, claim: &Object, pod: &Object, in_range: bool) -> Option<Vec<OwnerReference>> {
        let (set, held) = (&self.owner.head, &claim.head.owners);
        let named = |o: &Owner, kind: &str, name: &str| o.kind == kind && o.name == name;
        let ours = |o: &&Owner| named(o, StatefulSet::KIND, &set.name) || named(o, Pod::KIND, &pod.head.name);
        let others: Vec<&Owner> = held.iter().filter(|o| !ours(o)).collect();
        // Who else manages the claim decides about it.
        let free = !others.iter().any(|o| o.controller);
        let to_pod = free && self.deletes_on_scaling() && !in_range;
        let to_set = free && self.deletes_with_set() && !to_pod;
        let mut wanted: BTreeMap<&str, OwnerReference> = BTreeMap::new();
        if to_pod {
            wanted.insert(&pod.head.uid, controller_reference::<Pod>(pod));
        }
        if to_set {
            wanted.insert(&set.uid, controller_reference::<StatefulSet>(self.owner));
        }
        let have: Vec<&str> = held.iter().filter(ours).map(|o| o.uid.as_str()).collect();
        if have.len() == wanted.len() && have.iter().all(|uid| wanted.contains_key(uid)) {
            return None;
        }
        Some(others.into_iter().map(crate::ownership::reference).chain(wanted.into_values()).collect())
    }

    fn policy(
        &self,
        read: fn(&k8s_openapi::api::apps::v1::StatefulSetPersistentVolumeClaimRetentionPolicy) -> Option<&str>,
    ) -> bool {
        let policy = self.set.spec.as_ref().and_then(|s| s.persistent_volume_claim_retention_policy.as_ref());
        policy.and_then(read) == Some("Delete")
    }
    fn deletes_on_scaling(&self) -> bool {
        self.policy(|p| p.when_scaled.as_deref())
    }
    fn deletes_with_set(&self) -> bool {
        self.policy(|p| p.when_deleted.as_deref())
    }
}
