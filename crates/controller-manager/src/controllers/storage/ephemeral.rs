//! Claims that live as long as a pod: made from the pod's spec, named after pod and volume, owned by the
//! pod and collected with it.

use crate::rows::PodRow;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimTemplate, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kybern_api::object::Object;
use kybern_client::store::{Delta, Item};
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Announce, Note, Plan, controller_reference, create, reference};
use kybern_reconcile::view::{View, World, decode};
use std::sync::Arc;

const FAILED: &str = "FailedBinding";

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "ephemeral-volume-controller",
        watches: vec![Watch::mapped::<Pod>(with_claims), Watch::mapped::<PersistentVolumeClaim>(missed)],
        writes: vec![Access::to::<PersistentVolumeClaim>(&["create"])],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(plan),
    }
}

fn has_claims(pod: &Item) -> bool {
    pod.object.head.deleting.is_none() && pod.row::<PodRow>().is_some_and(|r| r.has_ephemeral)
}

fn with_claims(delta: &Delta, _: &View) -> Vec<Key> {
    // What a pod asks for never changes.
    let is_new = |_: &&Item| delta.old.is_none();
    delta.new.as_ref().filter(is_new).filter(|p| has_claims(p)).map(Key::of).into_iter().collect()
}

/// A claim that goes is missed by the pod it was made for, and makes way for one that it stood in for.
fn missed(delta: &Delta, view: &View) -> Vec<Key> {
    let Some(claim) = delta.old.as_ref().filter(|_| delta.new.is_none()) else { return Vec::new() };
    let name = &claim.object.head.name;
    let pods = view.of::<Pod>().in_namespace(&claim.object.head.namespace);
    let uses = |p: &&Item| has_claims(p) && p.row::<PodRow>().is_some_and(|r| r.claims.contains(name));
    pods.filter(uses).map(Key::of).collect()
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(item) = world.view.get::<Pod>(&key.namespace, &key.name).filter(|p| has_claims(p)) else {
        return Ok(plan);
    };
    let pod: Pod = decode(item)?;
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let template = volume.ephemeral.as_ref().and_then(|e| e.volume_claim_template.as_ref());
        let Some(template) = template else { continue };
        let name = format!("{}-{}", key.name, volume.name);
        match world.view.get::<PersistentVolumeClaim>(&key.namespace, &name) {
            None => plan.act(make(&item.object, &volume.name, name, template)?),
            Some(claim) if claim.object.head.controller().is_some_and(|o| o.uid == item.object.head.uid) => {}
            Some(_) => plan.note(Note {
                about: reference::<Pod>(&item.object),
                warning: true,
                reason: FAILED.into(),
                message: format!(
                    "ephemeral volume {}: PVC {}/{name} was not created for pod {}/{} (pod is not owner)",
                    volume.name, key.namespace, key.namespace, key.name
                ),
            }),
        }
    }
    Ok(plan)
}

fn make(pod: &Object, volume: &str, name: String, template: &PersistentVolumeClaimTemplate) -> Result<Action, Error> {
    let meta = template.metadata.clone().unwrap_or_default();
    let failed = format!("ephemeral volume {volume}: create PVC {name}: ");
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: Some(pod.head.namespace.to_string()),
        labels: meta.labels,
        annotations: meta.annotations,
        owner_references: Some(vec![controller_reference::<Pod>(pod)]),
        ..ObjectMeta::default()
    };
    let claim = PersistentVolumeClaim { metadata, spec: Some(template.spec.clone()), status: None };
    let about = reference::<Pod>(pod);
    create(&claim, Some(Announce { about, done: ("", String::new()), failed: (FAILED, failed) }))
}
