//! Pods on a node in trouble: marked not ready, and deleted when they no longer tolerate its taints.

use crate::rows::PodRow;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, Taint, Toleration};
use kybern_api::placement::tolerates;
use kybern_client::store::Item;
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::plan::{Announce, Note, Plan, change, delete, later, reference};
use kybern_reconcile::view::{World, decode};
use std::time::Duration;

fn on_node<'a>(world: &'a World<'_>, node: &'a str) -> impl Iterator<Item = (&'a Item, &'a PodRow)> {
    let pods = world.view.of::<Pod>().iter();
    pods.filter_map(move |i| i.row::<PodRow>().filter(|r| r.node == node).map(|r| (i, r)))
}

/// Takes the pods of a silent node out of service.
pub(super) fn mark_not_ready(world: &World<'_>, node: &str) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let (mut actions, mut notes) = (Vec::new(), Vec::new());
    for (item, _) in on_node(world, node).filter(|(_, row)| row.ready) {
        let pod: Pod = decode(item)?;
        let mut marked = pod.clone();
        let conditions = marked.status.get_or_insert_default().conditions.get_or_insert_default();
        if let Some(ready) = conditions.iter_mut().find(|c| c.type_ == "Ready") {
            ready.status = "False".into();
            ready.reason = Some("NodeNotReady".into());
            ready.last_transition_time = Some(world.time());
        }
        actions.extend(change(&pod, &marked, "status")?);
        let about = reference::<Pod>(&item.object);
        notes.push(Note { about, warning: true, reason: "NodeNotReady".into(), message: "Node is not ready".into() });
    }
    plan.batch(actions);
    notes.into_iter().for_each(|n| plan.note(n));
    Ok(plan)
}

/// Deletes the pods whose toleration of the taints has run out, and comes back for the next ones.
pub(super) fn evict(world: &World<'_>, node: &str, taints: Vec<Taint>) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    if taints.is_empty() {
        return Ok(plan);
    }
    for (item, _) in
        on_node(world, node).filter(|(i, row)| i.object.head.deleting.is_none() && !row.phase.is_terminal())
    {
        let pod: Pod = decode(item)?;
        let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
        match leaves_at(&taints, tolerations, arrived(&pod), world.now) {
            None => {}
            Some(at) if at <= world.now => plan.extend(drive_out(world, item, &pod)?),
            Some(at) => plan.at(at, world.now),
        }
    }
    Ok(plan)
}

/// When a pod has to leave; None: it may stay.
fn leaves_at(
    taints: &[Taint],
    tolerations: &[Toleration],
    arrived: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let mut earliest: Option<Timestamp> = None;
    for taint in taints {
        let matching: Vec<&Toleration> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
        let added = taint.time_added.as_ref().map_or(now, |t| t.0);
        // A pod that came later is given its whole time.
        let since = arrived.map_or(added, |a| a.max(added));
        let at = if matching.is_empty() {
            Some(since.min(now))
        } else {
            // Of several limits the shortest counts; a toleration without limit sets none.
            let limit = matching.iter().filter_map(|t| t.toleration_seconds).min();
            limit.map(|s| later(since, Duration::from_secs(s.max(0).unsigned_abs())))
        };
        earliest = [earliest, at].into_iter().flatten().min();
    }
    earliest
}

/// When the pod was given to its node.
fn arrived(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == "PodScheduled")?.last_transition_time.as_ref().map(|t| t.0)
}

fn drive_out(world: &World<'_>, item: &Item, pod: &Pod) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let mut marked = pod.clone();
    let conditions = marked.status.get_or_insert_default().conditions.get_or_insert_default();
    if !conditions.iter().any(|c| c.type_ == "DisruptionTarget") {
        conditions.push(PodCondition {
            type_: "DisruptionTarget".into(),
            status: "True".into(),
            reason: Some("DeletionByTaintManager".into()),
            message: Some("Taint manager: deleting due to NoExecute taint".into()),
            last_transition_time: Some(world.time()),
            ..PodCondition::default()
        });
    }
    plan.act(change(pod, &marked, "status")?);
    let text = format!("Marking for deletion Pod {}", item.object.head.key());
    let announce = Announce {
        about: reference::<Pod>(&item.object),
        done: ("TaintManagerEviction", text.clone()),
        failed: ("TaintManagerEviction", format!("{text}: ")),
    };
    plan.act(delete(&typed::resource::<Pod>(), &item.object, Some(announce)));
    Ok(plan)
}
