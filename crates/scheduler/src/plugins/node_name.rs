//! A pod that names its node goes there or nowhere.

use crate::framework::{Events, Filter, FilterFn};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

pub(super) struct NodeName;

impl Filter for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }
    fn helped_by(&self) -> Events {
        Events::NODE_ADDED
    }
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<FilterFn<'a>> {
        if pod.node.is_empty() {
            return None;
        }
        Some(Box::new(move |slot, reasons| {
            if snapshot.node(slot).is_none_or(|n| n.name != pod.node) {
                reasons.push("node(s) didn't match the requested node name".into());
            }
        }))
    }
}
