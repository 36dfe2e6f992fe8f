//! Which pods go first when there are too many.

use super::{Member, members};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kybern_api::object::Object;
use kybern_reconcile::view::View;
use smol_str::SmolStr;
use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

/// How many pods of the same family (all sets of one Deployment) each node carries: a crowded node
/// gives first.
pub(super) fn neighbours(view: &View, owner: &Object) -> HashMap<SmolStr, usize> {
    let mut count = HashMap::new();
    let mut add = |uid: &str| {
        for member in members(view.of::<Pod>().owned(uid)) {
            *count.entry(member.row.node.clone()).or_insert(0) += 1;
        }
    };
    match owner.head.controller() {
        Some(parent) => view.of::<ReplicaSet>().owned(&parent.uid).for_each(|set| add(&set.object.head.uid)),
        None => add(&owner.head.uid),
    }
    count
}

/// The members in the order in which they are given up: unassigned, not running, not ready, cheap,
/// crowded, briefly ready, often restarted, young.
pub(super) fn victims_first<'a>(pods: &[Member<'a>], neighbours: &HashMap<SmolStr, usize>) -> Vec<Member<'a>> {
    let mut ranked = pods.to_vec();
    ranked.sort_by(|a, b| compare(a, b, neighbours));
    ranked
}

fn compare(a: &Member<'_>, b: &Member<'_>, neighbours: &HashMap<SmolStr, usize>) -> Ordering {
    let crowd = |m: &Member<'_>| Reverse(neighbours.get(&m.row.node).copied().unwrap_or(0));
    let before = |m: &Member<'_>| (!m.row.node.is_empty(), m.row.phase, m.row.ready, m.row.deletion_cost, crowd(m));
    let young = |m: &Member<'_>| {
        let ready_since = if m.row.ready { m.row.ready_since } else { 0 };
        (Reverse(ready_since), Reverse(m.row.restarts), Reverse(m.object.head.created))
    };
    before(a)
        .cmp(&before(b))
        .then_with(|| young(a).cmp(&young(b)))
        .then_with(|| a.object.head.name.cmp(&b.object.head.name))
}
