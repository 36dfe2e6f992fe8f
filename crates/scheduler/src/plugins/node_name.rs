//! A pod that names its node goes there or nowhere.

use crate::framework::{Events, Filter, Happening, Prepared};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

pub(super) struct NodeName;

impl Filter for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }
    fn events(&self) -> Events {
        Events::NODE_ADDED
    }
    fn helps(&self, pod: &PodInfo, happening: &Happening<'_>) -> bool {
        happening.node().is_some_and(|n| n.name == pod.node)
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Prepared<'a> {
        if pod.node.is_empty() {
            return Prepared::Skip;
        }
        Prepared::test(move |slot, _, refusal| {
            if snapshot.node(slot).is_none_or(|n| n.name != pod.node) {
                refusal.for_good("node(s) didn't match the requested node name");
            }
        })
    }
}
