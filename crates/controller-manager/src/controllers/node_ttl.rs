//! Tells each node how long it may keep what it has read: the longer the more nodes there are.

use crate::rows::{NodeRow, TTL};
use k8s_openapi::api::core::v1::Node;
use kybern_client::store::{Delta, Item};
use kybern_client::transport::STRATEGIC_MERGE_PATCH;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Plan, Ref};
use kybern_reconcile::view::{View, World};
use serde_json::json;
use std::sync::Arc;

/// Fewest and most nodes of a step, and its seconds. Steps overlap, so that a cluster at the edge of one
/// does not go back and forth.
const STEPS: [(usize, usize, &str); 5] =
    [(0, 100, "0"), (90, 500, "15"), (450, 1000, "30"), (900, 2000, "60"), (1800, usize::MAX, "300")];

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "ttl-controller",
        watches: vec![Watch::mapped::<Node>(concerned)],
        writes: vec![Access::to::<Node>(&["update", "patch"])],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(plan),
    }
}

fn concerned(delta: &Delta, view: &View) -> Vec<Key> {
    let count = view.of::<Node>().len();
    let off = |i: &Item| i.row::<NodeRow>().is_some_and(|row| wanted(row, count).is_some());
    match (&delta.old, &delta.new) {
        (Some(_), Some(new)) => off(new).then(|| Key::of(new)).into_iter().collect(),
        // Only a count at the edge of a step concerns the others.
        _ if STEPS.iter().any(|(least, most, _)| *least == count + 1 || *most == count.saturating_sub(1)) => {
            view.of::<Node>().iter().filter(|i| off(i)).map(Key::of).collect()
        }
        _ => delta.new.iter().filter(|i| off(i)).map(Key::of).collect(),
    }
}

/// The seconds a node should have, if not those it has.
fn wanted(row: &NodeRow, count: usize) -> Option<&'static str> {
    let fits = |(least, most, _): &&(usize, usize, &str)| (*least..=*most).contains(&count);
    let has = row.ttl.as_deref();
    if STEPS.iter().filter(fits).any(|(_, _, seconds)| has == Some(*seconds)) {
        return None;
    }
    STEPS.iter().find(fits).map(|(_, _, seconds)| *seconds)
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let count = world.view.of::<Node>().len();
    let Some(item) = world.view.get::<Node>("", &key.name) else { return Ok(plan) };
    if let Some(seconds) = item.row::<NodeRow>().and_then(|row| wanted(row, count)) {
        plan.act(Action::Patch {
            to: Ref::typed::<Node>("", key.name.clone()),
            subresource: "",
            media_type: STRATEGIC_MERGE_PATCH,
            patch: json!({"metadata": {"annotations": {TTL: seconds}}}),
        });
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_kept_where_they_overlap() {
        let with = |ttl: &str| NodeRow { ttl: Some(ttl.into()), ..NodeRow::default() };
        assert_eq!(wanted(&NodeRow::default(), 3), Some("0"));
        assert_eq!((wanted(&with("0"), 95), wanted(&with("15"), 95)), (None, None));
        assert_eq!((wanted(&with("0"), 101), wanted(&with("15"), 89)), (Some("15"), Some("0")));
        assert_eq!(wanted(&with("x"), 5000), Some("300"));
    }
}
