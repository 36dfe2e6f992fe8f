//! Notices dead nodes: conditions, taints, and the pods that may not stay.
//!
//! `health` decides what is known of a node, `zones` whether its zone is so ill that the fault may be
//! ours, `taints` what that means for scheduling, `evict` what it means for the pods there. How old a heartbeat is counts from when it was seen here, in steady
//! time, so that neither a node's clock nor a step of ours makes a node look dead.

mod evict;
mod health;
mod taints;
mod zones;

use crate::rows::{NodeRow, PodRow};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kybern_client::store::{Delta, Item};
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Note, Plan, change, reference};
use kybern_reconcile::view::{View, World, decode};
use std::sync::Arc;
use std::time::Duration;

/// Where nodes renew their leases.
const LEASES: &str = "kube-node-lease";
/// A node whose lease is older than this is no longer known to be alive.
const GRACE: Duration = Duration::from_secs(40);

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "node-controller",
        watches: vec![
            Watch::mapped::<Node>(nodes_concerned),
            Watch::mapped::<Lease>(node_of_lease),
            Watch::mapped::<Pod>(node_of_new_pod),
        ],
        writes: vec![
            Access::to::<Node>(&["update", "patch"]),
            Access::sub::<Node>("status", &["update", "patch"]),
            Access::sub::<Pod>("status", &["update", "patch"]),
            Access::to::<Pod>(&["delete"]),
        ],
        seeds: Vec::new(),
        workers: 4,
        plan: Arc::new(plan),
    }
}

/// A node that becomes ready, or ceases to be, changes what may be done about the others.
fn nodes_concerned(delta: &Delta, view: &View) -> Vec<Key> {
    let ready = |i: &Option<Item>| i.as_ref().and_then(Item::row::<NodeRow>).is_some_and(|r| r.ready);
    let mut keys: Vec<Key> = delta.latest().map(Key::of).into_iter().collect();
    if ready(&delta.old) != ready(&delta.new) {
        let unwell = |i: &&Item| i.row::<NodeRow>().is_some_and(|r| !r.ready);
        keys.extend(view.of::<Node>().iter().filter(unwell).map(Key::of));
    }
    keys
}

/// A renewal concerns its node only when the node is not known to be well: renewals are what there
/// is most of in an idle cluster, and a healthy node comes back by itself when its lease is due.
fn node_of_lease(delta: &Delta, view: &View) -> Vec<Key> {
    let Some(lease) = delta.latest().filter(|i| i.object.head.namespace == LEASES) else { return Vec::new() };
    let fresh = delta.old.is_some() && delta.new.is_some();
    let row = || view.get::<Node>("", &lease.object.head.name).and_then(Item::row::<NodeRow>);
    let well = || row().is_some_and(|r| r.ready);
    if fresh && well() { Vec::new() } else { vec![Key::new("", lease.object.head.name.clone())] }
}

/// A pod that arrives on a node may not be tolerated there.
fn node_of_new_pod(delta: &Delta, _: &View) -> Vec<Key> {
    let node = |i: &Item| i.row::<PodRow>().map(|r| r.node.clone()).filter(|n| !n.is_empty());
    let (before, after) = (delta.old.as_ref().and_then(node), delta.new.as_ref().and_then(node));
    if before == after { Vec::new() } else { after.map(|n| Key::new("", n)).into_iter().collect() }
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let Some(item) = world.view.get::<Node>("", &key.name).filter(|n| n.object.head.deleting.is_none()) else {
        return Ok(Plan::none());
    };
    let node: Node = decode(item)?;
    let mut plan = Plan::none();

    let heartbeat = health::heartbeat(world, &node);
    let dead = heartbeat.is_none_or(|due| due <= world.steady);
    if let Some(due) = heartbeat.filter(|due| *due > world.steady) {
        plan.at(due, world.steady);
    }
    let mut judged = node.clone();
    if dead {
        health::mark_unknown(world, &mut judged);
    }
    plan.act(change(&node, &judged, "status")?);
    let ready = health::ready(&judged);
    if health::ready(&node) == health::Ready::True && ready != health::Ready::True {
        plan.note(Note {
            about: reference::<Node>(&item.object),
            warning: false,
            reason: "NodeNotReady".into(),
            message: format!("Node {} status is now: NodeNotReady", key.name),
        });
    }
    let mut tainted = node.clone();
    if let Some(at) = taints::apply(world, &judged, &mut tainted) {
        plan.at(at, world.now);
    }
    // The status write above changes the revision; the taints go with the next plan then.
    if node == judged {
        plan.act(change(&node, &tainted, "")?);
    }
    // A node that answers speaks for its pods itself.
    if ready == health::Ready::Unknown {
        plan.extend(evict::mark_not_ready(world, &key.name)?);
    }
    plan.extend(evict::evict(world, &key.name, taints::no_execute(&tainted))?);
    Ok(plan)
}
