//! Runs pods until enough of them have succeeded, and counts how they ended.

mod backoff;
mod ending;
mod failure;
mod indexes;
mod manage;
mod orphan;
mod pods;
mod round;
mod spec;
mod template;
mod track;
pub(crate) mod ttl;

use crate::ownership::{claim, watch_claimed};
use crate::rows::SelectorRow;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kybern_client::store::{Delta, Item};
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Plan, Step};
use kybern_reconcile::view::{View, World, decode};
use round::Round;
use serde_json::json;
use spec::Spec;
use std::sync::Arc;

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "job-controller",
        watches: vec![Watch::mapped::<Job>(jobs), Watch::mapped::<Pod>(pods())],
        writes: vec![
            Access::to::<Job>(&["patch", "update"]),
            Access::sub::<Job>("status", &["patch", "update"]),
            Access::sub::<Job>("finalizers", &["update"]),
            Access::to::<Pod>(&["create", "delete", "patch"]),
        ],
        seeds: Vec::new(),
        workers: 8,
        plan: Arc::new(plan),
    }
}

/// A job concerns itself; one that is gone, or has ended, its pods that still wait to be counted.
fn jobs(delta: &Delta, view: &View) -> Vec<Key> {
    let Some(job) = delta.latest() else { return Vec::new() };
    let pods = view.of::<Pod>().owned(&job.object.head.uid).filter_map(orphan::key);
    std::iter::once(Key::of(job)).chain(pods).collect()
}

/// A pod concerns its job; one without a job that will count it, itself.
fn pods() -> impl Fn(&Delta, &View) -> Vec<Key> + Send + Sync + 'static {
    let claimed = watch_claimed::<Pod, Job>();
    move |delta, view| {
        let mut keys = (claimed.keys)(delta, view);
        let orphan = |pod: &&Item| orphan::is_orphan(pod, view);
        keys.extend(delta.new.as_ref().filter(orphan).and_then(orphan::key));
        keys
    }
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    if orphan::is_key(key) {
        return orphan::plan(world, key);
    }
    let Some(item) = world.view.get::<Job>(&key.namespace, &key.name) else { return Ok(Plan::none()) };
    let Some(SelectorRow(selector)) = item.row() else { return Ok(Plan::none()) };
    let job: Job = decode(item)?;
    let Some(spec) = Spec::of(&job).filter(|s| s.is_managed_here() && s.has_known_mode()) else {
        return Ok(Plan::none());
    };
    if job.status.as_ref().is_some_and(ending::is_finished) {
        return Ok(Plan::none());
    }
    let (owned, mut claims) = claim::<Pod, Job>(world.view, &item.object, selector);
    if !claims.is_empty() {
        // First things first: the adopted pods are counted when they are seen with their owner.
        track_adopted(world.view, &item.object.head.uid, &mut claims);
        return Ok(claims);
    }
    Round::new(world, &item.object, (&job, spec), owned)?.plan(world.failure.is_some())
}

/// A pod that is adopted is tracked from then on; one that is released is no more.
fn track_adopted(view: &View, uid: &str, claims: &mut Plan) {
    for step in &mut claims.steps {
        let Step::Do(Action::Patch { to, patch, .. }) = step else { continue };
        let Some(pod) = view.get::<Pod>(&to.namespace, &to.name) else { continue };
        let owners = patch["metadata"]["ownerReferences"].as_array();
        let is_adoption = owners.is_some_and(|o| o.iter().any(|o| o["uid"] == uid));
        let finalizers = pod.object.head.finalizers.iter().map(|f| f.as_str()).filter(|f| *f != pods::TRACKING);
        let tracking = is_adoption.then_some(pods::TRACKING);
        patch["metadata"]["finalizers"] = json!(finalizers.chain(tracking).collect::<Vec<_>>());
    }
}
