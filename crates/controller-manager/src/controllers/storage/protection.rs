//! Claims and volumes that are deleted stay until nobody uses them.

use super::patch;
use super::rows::VolumeRow;
use crate::rows::PodRow;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kybern_client::store::{Delta, Item};
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Plan};
use kybern_reconcile::view::{View, World};
use serde_json::json;
use std::sync::Arc;

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

/// Keeps claims that pods use.
pub(crate) fn claims() -> ControllerDef {
    ControllerDef {
        name: "pvc-protection-controller",
        watches: vec![Watch::primary::<PersistentVolumeClaim>(), Watch::mapped::<Pod>(claims_of_pod)],
        writes: vec![Access::to::<PersistentVolumeClaim>(&["update", "patch"])],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(plan_claim),
    }
}

/// Keeps volumes that are bound.
pub(crate) fn volumes() -> ControllerDef {
    ControllerDef {
        name: "pv-protection-controller",
        watches: vec![Watch::primary::<PersistentVolume>()],
        writes: vec![Access::to::<PersistentVolume>(&["update", "patch"])],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(plan_volume),
    }
}

/// A pod that no longer uses its claims may set them free.
fn claims_of_pod(delta: &Delta, view: &View) -> Vec<Key> {
    let pods = [&delta.old, &delta.new].into_iter().flatten();
    let claims = pods.filter_map(|p| Some((p, p.row::<PodRow>()?))).flat_map(|(pod, row)| {
        row.claims.iter().map(|claim| Key::new(pod.object.head.namespace.clone(), claim.clone()))
    });
    let is_going = |key: &Key| {
        let claim = view.get::<PersistentVolumeClaim>(&key.namespace, &key.name);
        claim.is_some_and(|c| c.object.head.deleting.is_some())
    };
    claims.filter(is_going).collect()
}

fn plan_claim(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(claim) = world.view.get::<PersistentVolumeClaim>(&key.namespace, &key.name) else { return Ok(plan) };
    let uses = |pod: &Item| {
        let row = pod.row::<PodRow>();
        row.is_some_and(|r| !r.node.is_empty() && !r.phase.is_terminal() && r.claims.contains(&key.name))
    };
    if claim.object.head.deleting.is_some() && !world.view.of::<Pod>().in_namespace(&key.namespace).any(uses) {
        plan.act(release::<PersistentVolumeClaim>(claim, CLAIM_FINALIZER));
    }
    Ok(plan)
}

fn plan_volume(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(volume) = world.view.get::<PersistentVolume>("", &key.name) else { return Ok(plan) };
    let is_used = volume.row::<VolumeRow>().is_none_or(|r| r.phase == "Bound");
    if volume.object.head.deleting.is_some() && !is_used {
        plan.act(release::<PersistentVolume>(volume, VOLUME_FINALIZER));
    }
    Ok(plan)
}

fn release<K: k8s_openapi::Resource>(item: &Item, finalizer: &str) -> Option<Action> {
    let all = &item.object.head.finalizers;
    let rest: Vec<&str> = all.iter().map(|f| f.as_str()).filter(|f| *f != finalizer).collect();
    (rest.len() < all.len()).then(|| patch::<K>(item, "", json!({"metadata": {"finalizers": rest}})))
}
