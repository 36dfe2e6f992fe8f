//! Which pods go first when there are too many.

use crate::members::Member;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kybern_api::object::Object;
use kybern_reconcile::view::View;
use smol_str::SmolStr;
use std::cmp::Reverse;
use std::collections::HashMap;

/// How many pods of the same family (all sets of one Deployment) each node carries: a crowded node
/// gives first.
pub(super) fn neighbours<'a>(view: &'a View, owner: &Object) -> HashMap<&'a SmolStr, usize> {
    let mut count = HashMap::new();
    let mut add = |uid: &str| {
        for member in view.of::<Pod>().owned(uid).filter_map(Member::of).filter(Member::is_active) {
            *count.entry(&member.row.node).or_insert(0) += 1;
        }
    };
    match owner.head.controller() {
        Some(parent) => view.of::<ReplicaSet>().owned(&parent.uid).for_each(|set| add(&set.object.head.uid)),
        None => add(&owner.head.uid),
    }
    count
}

/// The first `many` of the members in the order in which they are given up: unassigned, not running,
/// not ready, cheap, crowded, briefly ready, often restarted, young. Ages count by their magnitude
/// alone, and the uid decides between equals, so that a scale-down does not always take what was
/// scaled up last.
pub(super) fn victims<'a>(
    pods: &[Member<'a>],
    many: usize,
    neighbours: &HashMap<&SmolStr, usize>,
    now: Timestamp,
) -> Vec<Member<'a>> {
    let rank = |m: &Member<'a>| {
        let crowd = neighbours.get(&m.row.node).copied().unwrap_or(0);
        let ready_for = if m.row.ready { magnitude(now, m.row.ready_since) } else { 0 };
        (
            (!m.row.node.is_empty(), m.row.phase, m.row.ready, m.row.deletion_cost, Reverse(crowd)),
            (ready_for, Reverse(m.row.restarts), magnitude(now, m.object.head.created)),
            m.object.head.uid.as_str(),
        )
    };
    let mut ranked: Vec<_> = pods.iter().map(|m| (rank(m), *m)).collect();
    // Only those that go have to be in order.
    if many > 0 && many < ranked.len() {
        ranked.select_nth_unstable_by(many - 1, |a, b| a.0.cmp(&b.0));
        ranked.truncate(many);
    }
    ranked.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    ranked.into_iter().map(|(_, m)| m).collect()
}

/// The binary logarithm of how long ago something was; -1 for what is not past.
fn magnitude(now: Timestamp, then: i64) -> i32 {
    let seconds = now.as_second().saturating_sub(then);
    u64::try_from(seconds).ok().and_then(u64::checked_ilog2).map_or(-1, |log| i32::try_from(log).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_count_by_their_magnitude() {
        let now = Timestamp::from_second(1000).expect("time");
        let ages: Vec<i32> = [1001, 1000, 999, 998, 997, 900, 873, 872].map(|t| magnitude(now, t)).into();
        assert_eq!(ages, [-1, -1, 0, 1, 1, 6, 6, 7]);
    }
}
