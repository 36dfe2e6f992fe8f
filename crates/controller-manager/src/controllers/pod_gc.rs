//! Deletes pods nobody will ever end: those of nodes that no longer exist, and those that were
//! deleted before they had a node.

use crate::rows::PodRow;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use kybern_client::store::{Delta, Item};
use kybern_client::write::DeleteOptions;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Guard, Plan, Ref, change};
use kybern_reconcile::view::{View, World, decode};
use smol_str::SmolStr;
use std::sync::Arc;

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "pod-garbage-collector",
        watches: vec![Watch::mapped::<Pod>(homeless), Watch::mapped::<Node>(pods_of_lost_node)],
        writes: vec![Access::to::<Pod>(&["delete"]), Access::sub::<Pod>("status", &["patch", "update"])],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(plan),
    }
}

fn is_homeless(item: &Item, view: &View) -> bool {
    item.row::<PodRow>().is_some_and(|row| match row.node.as_str() {
        "" => item.object.head.deleting.is_some(),
        node => view.get::<Node>("", node).is_none(),
    })
}

fn homeless(delta: &Delta, view: &View) -> Vec<Key> {
    delta.new.iter().filter(|i| is_homeless(i, view)).map(Key::of).collect()
}

fn pods_of_lost_node(delta: &Delta, view: &View) -> Vec<Key> {
    let (Some(node), None) = (&delta.old, &delta.new) else { return Vec::new() };
    let there = |i: &&Item| i.row::<PodRow>().is_some_and(|r| r.node == node.object.head.name);
    view.of::<Pod>().iter().filter(there).map(Key::of).collect()
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(item) = world.view.get::<Pod>(&key.namespace, &key.name).filter(|i| is_homeless(i, world.view)) else {
        return Ok(plan);
    };
    let node = item.row::<PodRow>().map(|r| r.node.clone()).unwrap_or_default();
    if !node.is_empty() {
        // The view may lack a node that has just joined: ask the server.
        plan.require(Guard::Absent { object: Ref::typed::<Node>("", node), uid: SmolStr::default() });
        plan.extend(fail(world, item)?);
    }
    let options =
        DeleteOptions { uid: Some(item.object.head.uid.to_string()), grace: Some(0), ..DeleteOptions::default() };
    let to = Ref::typed::<Pod>(key.namespace.clone(), key.name.clone());
    plan.act(Action::Delete { to, options, announce: None });
    Ok(plan)
}

/// A pod that was running counts as failed, so that whoever waits for its end sees one.
fn fail(world: &World<'_>, item: &Item) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    if item.row::<PodRow>().is_some_and(|r| r.phase.is_terminal()) {
        return Ok(plan);
    }
    let pod: Pod = decode(item)?;
    let mut failed = pod.clone();
    let status = failed.status.get_or_insert_default();
    status.phase = Some("Failed".into());
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some("DeletionByPodGC".into()),
        message: Some("PodGC: node no longer exists".into()),
        last_transition_time: Some(world.time()),
        ..PodCondition::default()
    });
    plan.act(change(&pod, &failed, "status")?);
    Ok(plan)
}
