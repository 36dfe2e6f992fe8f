//! Ports taken on the node itself can be taken once.

use crate::framework::{Events, Filter, FilterFn};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

pub(super) struct NodePorts;

impl Filter for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }
    fn helped_by(&self) -> Events {
        Events::NODE_ADDED.and(Events::POD_GONE)
    }
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<FilterFn<'a>> {
        let wanted = &pod.footprint.ports;
        if wanted.is_empty() {
            return None;
        }
        Some(Box::new(move |slot, reasons| {
            if snapshot.ports(slot).any(|taken| wanted.iter().any(|w| w.collides(taken))) {
                reasons.push("node(s) didn't have free ports for the requested pod ports".into());
            }
        }))
    }
}
