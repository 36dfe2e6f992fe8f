//! Sizes workloads by their metrics (HorizontalPodAutoscaler).
//!
//! `target` finds what is scaled; `proposal` asks each metric for a size, by the arithmetic of
//! `calculate`; `limits` tames the size by windows, policies and bounds, from the `history` of what was
//! proposed and done; `outcome` holds the conditions. All of these are pure: `decide` makes one
//! decision out of one state of the world and one history. Only the history outlives a plan, in memory:
//! a new leader begins with an empty one, as Kubernetes' controller does after a restart.

mod calculate;
mod history;
mod limits;
mod outcome;
mod proposal;
mod target;

use crate::kinds::scalable;
use crate::metrics::Metrics;
use history::History;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kybern_client::store::{Delta, Item};
use kybern_client::transport::MERGE_PATCH;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Note, Plan, change, reference};
use kybern_reconcile::view::{View, World, decode};
use outcome::Outcome;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use target::Target;

/// Name of the autoscaler and of its service account.
pub const NAME: &str = "horizontal-pod-autoscaler";
/// How often metrics are looked at.
const PERIOD: Duration = Duration::from_secs(15);
/// How long a decision waits for figures that are being brought.
const SOON: Duration = Duration::from_millis(250);

/// The definition.
pub(crate) fn def(metrics: Arc<dyn Metrics>) -> ControllerDef {
    let scalable = scalable();
    let mut watches = vec![Watch::primary::<HorizontalPodAutoscaler>(), Watch::read::<Pod>()];
    watches.extend(scalable.iter().map(|r| Watch { resource: r.clone(), keys: Arc::new(autoscalers_of) }));
    let mut writes = vec![Access::sub::<HorizontalPodAutoscaler>("status", &["update", "patch"])];
    writes.extend(scalable.into_iter().map(|r| Access {
        resource: format!("{}/scale", r.plural),
        group: r.group,
        verbs: &["get", "update", "patch"],
        names: Vec::new(),
    }));
    writes.push(Access {
        resource: "pods".into(),
        group: kybern_api::kinds::metrics::GROUP.into(),
        verbs: &["list"],
        names: Vec::new(),
    });
    let histories: Arc<Mutex<HashMap<Key, History>>> = Arc::default();
    ControllerDef {
        name: NAME,
        watches,
        writes,
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(move |world, key| {
            let Some(item) = world.view.get::<HorizontalPodAutoscaler>(&key.namespace, &key.name) else {
                histories.lock().unwrap_or_else(|e| e.into_inner()).remove(key);
                return Ok(Plan::none());
            };
            if !metrics.prepare(&key.namespace) {
                let mut plan = Plan::none();
                plan.after(SOON);
                return Ok(plan);
            }
            let mut history = histories.lock().unwrap_or_else(|e| e.into_inner()).remove(key).unwrap_or_default();
            let plan = decide(world, item, metrics.as_ref(), &mut history);
            histories.lock().unwrap_or_else(|e| e.into_inner()).insert(key.clone(), history);
            plan
        }),
    }
}

/// A target that was resized or came concerns who scales it.
fn autoscalers_of(delta: &Delta, view: &View) -> Vec<Key> {
    let generation = |i: &Option<Item>| i.as_ref().map(|i| i.object.head.generation);
    let Some(latest) = delta.latest().filter(|_| generation(&delta.old) != generation(&delta.new)) else {
        return Vec::new();
    };
    let head = &latest.object.head;
    let scalers = view.of::<HorizontalPodAutoscaler>().in_namespace(&head.namespace);
    scalers.filter(|i| target::name(i).is_some_and(|name| name == head.name)).map(Key::of).collect()
}

/// One decision.
fn decide(world: &World<'_>, item: &Item, metrics: &dyn Metrics, history: &mut History) -> Result<Plan, Error> {
    let stored: HorizontalPodAutoscaler = decode(item)?;
    let mut outcome = Outcome::of(world, &stored);
    let found = Target::find(world.view, &stored);
    let rescale = match &found {
        Ok(target) => size(world, &stored, target, metrics, history, &mut outcome),
        Err(why) => {
            outcome.note(true, "FailedGetScale", why.clone());
            let text = format!("the HPA controller was unable to get the target's current scale: {why}");
            outcome.set("AbleToScale", false, "FailedGetScale", text);
            None
        }
    };
    let mut plan = Plan::none();
    if let (Ok(target), Some((size, reason))) = (&found, rescale) {
        if let Some(error) = world.failure {
            outcome.note(true, "FailedRescale", format!("New size: {size}; reason: {reason}; error: {error}"));
            let text = format!("the HPA controller was unable to update the target scale: {error}");
            outcome.set("AbleToScale", false, "FailedUpdateScale", text);
            report(&mut plan, item, &stored, &outcome)?;
        }
        history.expect(target.replicas, size);
        plan.act(resize(target, size));
        let text = format!("the HPA controller was able to update the target scale to {size}");
        outcome.set("AbleToScale", true, "SucceededRescale", text);
        outcome.note(false, "SuccessfulRescale", format!("New size: {size}; reason: {reason}"));
        outcome.scaled_to(size);
        if world.failure.is_none() {
            report(&mut plan, item, &stored, &outcome)?;
        }
    } else {
        report(&mut plan, item, &stored, &outcome)?;
    }
    plan.after(PERIOD);
    Ok(plan)
}

/// The new size and why, if there is to be one.
fn size(
    world: &World<'_>,
    stored: &HorizontalPodAutoscaler,
    target: &Target,
    metrics: &dyn Metrics,
    history: &mut History,
    outcome: &mut Outcome<'_>,
) -> Option<(i32, String)> {
    let text = "the HPA controller was able to get the target's current scale";
    outcome.set("AbleToScale", true, "SucceededGetScale", text.into());
    history.observe(world.now, target.replicas);
    outcome.current(target.replicas);
    let spec = &stored.spec;
    let (least, most) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
    let current = target.replicas;
    if current == 0 && least != 0 {
        let text = "scaling is disabled since the replica count of the target is zero";
        outcome.set("ScalingActive", false, "ScalingDisabled", text.into());
        outcome.wanted(0);
        return None;
    }
    let (size, reason) = if current > most {
        (most, "Current number of replicas above Spec.MaxReplicas".to_owned())
    } else if current < least {
        (least, "Current number of replicas below Spec.MinReplicas".to_owned())
    } else {
        let asked = proposal::Asked { world, stored, target, metrics };
        let proposed = proposal::propose(&asked, outcome)?;
        let bounds = limits::Bounds { least, most, behavior: spec.behavior.as_ref() };
        let size = limits::tame(world.now, current, proposed.size, &bounds, history, outcome);
        let reason = if proposed.size > current {
            format!("{} above target", proposed.metric)
        } else {
            "All metrics below target".to_owned()
        };
        (size, reason)
    };
    outcome.wanted(size);
    (size != current).then_some((size, reason))
}

fn resize(target: &Target, size: i32) -> Action {
    Action::Patch {
        to: target.at.clone(),
        subresource: "scale",
        media_type: MERGE_PATCH,
        patch: json!({"spec": {"replicas": size}}),
    }
}

/// Writes the status if it has changed; what happened is told with the change that it made.
fn report(plan: &mut Plan, item: &Item, stored: &HorizontalPodAutoscaler, outcome: &Outcome<'_>) -> Result<(), Error> {
    let mut new = stored.clone();
    new.status = Some(outcome.status.clone());
    let Some(action) = change(stored, &new, "status")? else { return Ok(()) };
    plan.act(action);
    for (warning, reason, message) in &outcome.notes {
        let about = reference::<HorizontalPodAutoscaler>(&item.object);
        plan.note(Note { about, warning: *warning, reason: (*reason).into(), message: message.clone() });
    }
    Ok(())
}
