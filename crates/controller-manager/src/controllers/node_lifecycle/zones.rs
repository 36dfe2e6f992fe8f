//! Whether, and when, a node that is not well may lose its pods.
//!
//! Nodes are given up one after another in each zone, more slowly where most of a zone is ill: then the
//! fault is more likely between us and the zone than in every node. Where no node at all answers, none
//! is given up, and those that were are taken back. What was done before shows in the nodes' own taints,
//! so a new leader goes on at the same pace.

use crate::rows::NodeRow;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kybern_client::store::Item;
use kybern_reconcile::plan::later;
use kybern_reconcile::view::World;
use std::time::Duration;

/// One node per zone in this time.
const PACE: Duration = Duration::from_secs(10);
/// The same in a large zone that is mostly ill.
const SLOW_PACE: Duration = Duration::from_secs(100);
/// A zone with more nodes than this is large.
const LARGE: usize = 50;
/// A zone with more ill nodes than this can be mostly ill ...
const FEW: usize = 2;
/// ... when at least this share of it is, in percent.
const MOSTLY: usize = 55;

/// May a node's pods be driven out?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Yes, or they are being already.
    Now,
    /// Not before this; it is another node's turn.
    At(Timestamp),
    /// Not while things are as they are.
    Never,
}

/// The verdict on a node that is not ready.
pub(super) fn verdict(world: &World<'_>, node: &Node) -> Verdict {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let rows = || world.view.of::<Node>().iter().filter_map(|i| Some((i, i.row::<NodeRow>()?)));
    if !rows().any(|(_, row)| row.ready) {
        return Verdict::Never;
    }
    let Some(own) = world.view.get::<Node>("", name).and_then(Item::row::<NodeRow>) else { return Verdict::Never };
    if own.driven.is_some() {
        return Verdict::Now;
    }
    let zone: Vec<(&Item, &NodeRow)> = rows().filter(|(_, row)| row.zone == own.zone).collect();
    let ill = zone.iter().filter(|(_, row)| !row.ready).count();
    let well = zone.len() - ill;
    let mostly_ill = well > 0 && ill > FEW && ill * 100 >= MOSTLY * zone.len();
    let pace = match (mostly_ill, zone.len() > LARGE) {
        (false, _) => PACE,
        (true, true) => SLOW_PACE,
        (true, false) => return Verdict::Never,
    };
    let last = zone.iter().filter_map(|(_, row)| row.driven).max().and_then(|s| Timestamp::from_second(s).ok());
    if let Some(next) = last.map(|last| later(last, pace)).filter(|next| *next > world.now) {
        return Verdict::At(next);
    }
    // By name, so that no two nodes take the same turn.
    let waits =
        |(item, row): &&(&Item, &NodeRow)| !row.ready && row.driven.is_none() && item.object.head.deleting.is_none();
    let first = zone.iter().filter(waits).map(|(item, _)| item.object.head.name.as_str()).min();
    if first.is_none_or(|first| first >= name) { Verdict::Now } else { Verdict::At(later(world.now, pace)) }
}
