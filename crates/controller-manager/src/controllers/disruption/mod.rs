//! Says how many pods of each PodDisruptionBudget may be evicted now.
//!
//! `expected` counts the pods that should be there by asking their owners, `status` reports what
//! follows from that, `stale` takes back marks of disruptions that never came. The eviction
//! subresource takes from the budget what this controller has granted, one guarded write each.

mod expected;
mod stale;
mod status;

use crate::kinds::scalable;
use crate::ownership::selecting;
use crate::rows::{PodRow, SelectorRow};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kybern_client::store::{Delta, Item};
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::Plan;
use kybern_reconcile::view::{View, World, decode};
use smol_str::SmolStr;
use std::sync::Arc;
use std::time::Duration;

/// A pod that was granted a disruption and is still there after this long counts again.
const PATIENCE: Duration = Duration::from_secs(120);
/// The kind word of keys that name a pod; all others name a budget.
const POD: &str = "pod";

/// The definition.
pub(crate) fn def() -> ControllerDef {
    let mut watches = vec![Watch::primary::<PodDisruptionBudget>(), Watch::mapped::<Pod>(concerned)];
    watches.extend(scalable().into_iter().map(|resource| Watch { resource, keys: Arc::new(budgets_of_scale) }));
    ControllerDef {
        name: "disruption-controller",
        watches,
        writes: vec![
            Access::sub::<PodDisruptionBudget>("status", &["update", "patch"]),
            Access::sub::<Pod>("status", &["update", "patch"]),
        ],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(plan),
    }
}

/// The budgets that select a pod or did, if anything they count has changed; and the pod itself
/// while it is marked.
fn concerned(delta: &Delta, view: &View) -> Vec<Key> {
    if let (Some(old), Some(new)) = (&delta.old, &delta.new)
        && counts_the_same(old, new)
    {
        return Vec::new();
    }
    let both = [&delta.old, &delta.new].into_iter().flatten();
    let mut keys: Vec<Key> = both.flat_map(|i| selecting::<PodDisruptionBudget>(view, &i.object)).collect();
    keys.sort();
    keys.dedup();
    let marked = |i: &&Item| i.row::<PodRow>().is_some_and(|r| r.disrupted.is_some());
    keys.extend(delta.new.iter().filter(marked).map(|i| Key { kind: SmolStr::new_static(POD), ..Key::of(i) }));
    keys
}

fn counts_the_same(old: &Item, new: &Item) -> bool {
    let counted = |i: &Item| i.row::<PodRow>().map(|r| (r.ready, r.disrupted, r.phase));
    let (a, b) = (&old.object.head, &new.object.head);
    (&a.labels, &a.owners, &a.uid) == (&b.labels, &b.owners, &b.uid)
        && a.deleting.is_some() == b.deleting.is_some()
        && counted(old) == counted(new)
}

/// A new size concerns every budget of the namespace: which pods are meant is the budgets' business.
fn budgets_of_scale(delta: &Delta, view: &View) -> Vec<Key> {
    let generation = |i: &Option<Item>| i.as_ref().map(|i| (i.object.head.generation, i.object.head.uid.clone()));
    if generation(&delta.old) == generation(&delta.new) {
        return Vec::new();
    }
    let Some(latest) = delta.latest() else { return Vec::new() };
    view.of::<PodDisruptionBudget>().in_namespace(&latest.object.head.namespace).map(Key::of).collect()
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    if key.kind == POD {
        return stale::plan(world, key);
    }
    let found = world.view.get::<PodDisruptionBudget>(&key.namespace, &key.name);
    let Some(item) = found.filter(|i| i.object.head.deleting.is_none()) else { return Ok(Plan::none()) };
    let Some(SelectorRow(selector)) = item.row() else { return Ok(Plan::none()) };
    let budget: PodDisruptionBudget = decode(item)?;
    let pods = world.view.of::<Pod>().in_namespace(&key.namespace);
    let pods: Vec<&Item> = pods.filter(|p| selector.matches(&*p.object.head)).collect();
    status::report(world, item, &budget, &pods, selector)
}
