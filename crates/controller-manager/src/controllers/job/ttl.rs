//! Deletes finished jobs when their time is up.

use super::ending::is_finished;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kybern_client::write::{DeleteOptions, Propagation};
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Plan, Ref};
use kybern_reconcile::view::{World, decode};
use std::sync::Arc;

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "ttl-after-finished-controller",
        watches: vec![Watch::primary::<Job>()],
        writes: vec![Access::to::<Job>(&["delete"])],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(plan),
    }
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(item) = world.view.get::<Job>(&key.namespace, &key.name) else { return Ok(plan) };
    if item.object.head.deleting.is_some() {
        return Ok(plan);
    }
    match expiry(&decode(item)?) {
        None => {}
        Some(at) if at > world.now => plan.at(at, world.now),
        Some(_) => {
            let options = DeleteOptions {
                uid: Some(item.object.head.uid.to_string()),
                // What was decided holds for the job as it was seen: its time may be lengthened meanwhile.
                revision: Some(item.object.revision),
                propagation: Some(Propagation::Foreground),
                ..DeleteOptions::default()
            };
            let to = Ref::typed::<Job>(key.namespace.clone(), key.name.clone());
            plan.act(Action::Delete { to, options, announce: None });
        }
    }
    Ok(plan)
}

/// When a finished job expires; None while it runs, or when it is kept for good.
fn expiry(job: &Job) -> Option<Timestamp> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let status = job.status.as_ref().filter(|s| is_finished(s))?;
    let ended = |c: &&k8s_openapi::api::batch::v1::JobCondition| {
        matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True"
    };
    let at = status.conditions.iter().flatten().find(ended)?.last_transition_time.as_ref()?;
    at.0.checked_add(SignedDuration::from_secs(ttl.into())).ok()
}
