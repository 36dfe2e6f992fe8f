//! Deletes pods nobody will ever end: those of nodes that no longer exist or are out of service, those
//! that were deleted before they had a node, and the oldest of very many that have ended.

use crate::rows::{NodeRow, PodRow};
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use kybern_client::store::{Delta, Item};
use kybern_client::typed;
use kybern_client::write::DeleteOptions;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Guard, Plan, Ref, change, delete};
use kybern_reconcile::view::{View, World, decode};
use smol_str::SmolStr;
use std::sync::Arc;

/// So many ended pods are kept, for people to look at.
const KEPT: usize = 12_500;
/// Ended pods deleted by one plan at most.
const BURST: usize = 500;
/// The kind word of the key that stands for all ended pods.
const ENDED: &str = "ended";

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "pod-garbage-collector",
        watches: vec![Watch::mapped::<Pod>(concerned), Watch::mapped::<Node>(pods_of_lost_node)],
        writes: vec![Access::to::<Pod>(&["delete"]), Access::sub::<Pod>("status", &["patch", "update"])],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(plan),
    }
}

/// Why a pod is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// Its node does not exist.
    Orphaned,
    /// It was deleted before it had a node.
    Unscheduled,
    /// It was deleted, and somebody vouches for its node being off.
    OutOfService,
}

fn lost(item: &Item, view: &View) -> Option<Lost> {
    let row = item.row::<PodRow>()?;
    let deleting = item.object.head.deleting.is_some();
    if row.node.is_empty() {
        return deleting.then_some(Lost::Unscheduled);
    }
    let Some(node) = view.get::<Node>("", &row.node) else { return Some(Lost::Orphaned) };
    let off = node.row::<NodeRow>().is_some_and(|n| n.out_of_service && !n.ready);
    (deleting && off).then_some(Lost::OutOfService)
}

fn ended() -> Key {
    Key { kind: SmolStr::new_static(ENDED), ..Key::default() }
}

fn concerned(delta: &Delta, view: &View) -> Vec<Key> {
    let mut keys: Vec<Key> = delta.new.iter().filter(|i| lost(i, view).is_some()).map(Key::of).collect();
    let has_ended = |i: &Option<Item>| i.as_ref().and_then(Item::row::<PodRow>).is_some_and(|r| r.phase.is_terminal());
    if view.of::<Pod>().len() > KEPT && has_ended(&delta.new) && !has_ended(&delta.old) {
        keys.push(ended());
    }
    keys
}

/// A node that went, or that is out of service now.
fn pods_of_lost_node(delta: &Delta, view: &View) -> Vec<Key> {
    let off =
        |i: &Option<Item>| i.as_ref().and_then(Item::row::<NodeRow>).is_some_and(|n| n.out_of_service && !n.ready);
    let Some(node) = delta.latest().filter(|_| delta.new.is_none() || (off(&delta.new) && !off(&delta.old))) else {
        return Vec::new();
    };
    let there = |i: &&Item| i.row::<PodRow>().is_some_and(|r| r.node == node.object.head.name);
    view.of::<Pod>().iter().filter(there).filter(|i| lost(i, view).is_some()).map(Key::of).collect()
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    if key.kind == ENDED {
        return Ok(sweep(world.view, KEPT));
    }
    let mut plan = Plan::none();
    let Some(item) = world.view.get::<Pod>(&key.namespace, &key.name) else { return Ok(plan) };
    let Some(why) = lost(item, world.view) else { return Ok(plan) };
    if why == Lost::Orphaned {
        let node = item.row::<PodRow>().map(|r| r.node.clone()).unwrap_or_default();
        // The view may lack a node that has just joined: ask the server.
        plan.require(Guard::Absent { object: Ref::typed::<Node>("", node), uid: SmolStr::default() });
    }
    plan.extend(fail(world, item, why)?);
    let options =
        DeleteOptions { uid: Some(item.object.head.uid.to_string()), grace: Some(0), ..DeleteOptions::default() };
    let to = Ref::typed::<Pod>(key.namespace.clone(), key.name.clone());
    plan.act(Action::Delete { to, options, announce: None });
    Ok(plan)
}

/// Deletes the oldest ended pods beyond `kept`.
fn sweep(view: &View, kept: usize) -> Plan {
    let mut plan = Plan::none();
    let done = |i: &&Item| i.object.head.deleting.is_none() && i.row::<PodRow>().is_some_and(|r| r.phase.is_terminal());
    let mut all: Vec<&Item> = view.of::<Pod>().iter().filter(done).collect();
    let surplus = all.len().saturating_sub(kept).min(BURST);
    all.sort_by_key(|i| (i.object.head.created, i.object.head.name.clone()));
    let resource = typed::resource::<Pod>();
    plan.batch(all.into_iter().take(surplus).map(|i| delete(&resource, &i.object, None)).collect());
    plan
}

/// A pod that had not ended counts as failed, so that whoever waits for its end sees one.
fn fail(world: &World<'_>, item: &Item, why: Lost) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    if item.row::<PodRow>().is_some_and(|r| r.phase.is_terminal()) {
        return Ok(plan);
    }
    let pod: Pod = decode(item)?;
    let mut failed = pod.clone();
    let status = failed.status.get_or_insert_default();
    status.phase = Some("Failed".into());
    if why == Lost::Orphaned {
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
    }
    plan.act(change(&pod, &failed, "status")?);
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kybern_client::store::Store;
    use kybern_reconcile::plan::describe;
    use kybern_reconcile::view::Source;
    use serde_json::json;

    #[test]
    fn the_oldest_of_too_many_ended_pods_go() {
        let mut store = Store::default();
        for (name, phase, day) in [("a", "Succeeded", 3), ("b", "Failed", 1), ("c", "Running", 1), ("d", "Failed", 2)] {
            let created = format!("2030-01-0{day}T00:00:00Z");
            let tree = json!({"metadata": {"name": name, "namespace": "n", "uid": name, "creationTimestamp": created}, "status": {"phase": phase}});
            let object = kybern_client::wire::object(tree.to_string().as_bytes()).expect("an object");
            let row = PodRow::of(&object);
            store.insert(Item { object, row: Some(std::sync::Arc::new(row)) });
        }
        let view = View::new([Source::Fixed(typed::resource::<Pod>(), store)].into());
        let plan = describe(&sweep(&view, 1));
        assert_eq!(plan, json!([{"batch": [{"delete": "pods n b", "uid": "b"}, {"delete": "pods n d", "uid": "d"}]}]));
        assert!(sweep(&view, 3).is_empty());
    }
}
