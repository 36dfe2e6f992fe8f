//! Pods that wait to be counted by a job that will never count them.

use super::pods::TRACKING;
use super::spec::Spec;
use super::{ending, track};
use crate::ownership::selecting;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kybern_client::store::Item;
use kybern_reconcile::Error;
use kybern_reconcile::def::Key;
use kybern_reconcile::plan::{Guard, Plan, Ref};
use kybern_reconcile::view::{View, World, decode};

/// Marks a key that is about a pod, not a job.
const KIND: &str = "pod";

/// Is the key about an orphan?
pub(super) fn is_key(key: &Key) -> bool {
    key.kind == KIND
}

/// The key of a pod that still has the finalizer.
pub(super) fn key(pod: &Item) -> Option<Key> {
    let tracked = pod.object.head.finalizers.iter().any(|f| f == TRACKING);
    tracked.then(|| Key { kind: KIND.into(), ..Key::of(pod) })
}

/// Has the pod lost its job, as far as the view knows?
pub(super) fn is_orphan(pod: &Item, view: &View) -> bool {
    let head = &pod.object.head;
    match head.controller() {
        None => selecting::<Job>(view, &pod.object).is_empty(),
        Some(owner) if owner.kind != "Job" || !owner.api_version.starts_with("batch/") => false,
        Some(owner) => view.get::<Job>(&head.namespace, &owner.name).is_none_or(|j| j.object.head.uid != owner.uid),
    }
}

/// Lets the pod go when its job is gone or has ended.
pub(super) fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(pod) = world.view.get::<Pod>(&key.namespace, &key.name).filter(|p| self::key(p).is_some()) else {
        return Ok(plan);
    };
    if is_orphan(pod, world.view) {
        if let Some(owner) = pod.object.head.controller() {
            // The view may lack a job that was made just now: ask the server.
            let object = Ref::typed::<Job>(key.namespace.clone(), owner.name.clone());
            plan.require(Guard::Absent { object, uid: owner.uid.clone() });
        }
        plan.act(track::release(&pod.object));
        return Ok(plan);
    }
    let owner = pod.object.head.controller().filter(|o| o.kind == "Job");
    let Some(job) = owner.and_then(|o| world.view.get::<Job>(&key.namespace, &o.name)) else { return Ok(plan) };
    let job: Job = decode(job)?;
    let is_ours = Spec::of(&job).is_some_and(Spec::is_managed_here);
    if is_ours && job.status.as_ref().is_some_and(ending::is_finished) {
        plan.act(track::release(&pod.object));
    }
    Ok(plan)
}
