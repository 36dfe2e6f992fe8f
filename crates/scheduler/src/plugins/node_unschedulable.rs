//! Nodes marked as unschedulable take only pods that tolerate that.

use crate::framework::{Events, Filter, Happening, Prepared};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Taint;
use kybern_api::placement::tolerates;

pub(super) struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }
    fn events(&self) -> Events {
        Events::NODES
    }
    fn helps(&self, _: &PodInfo, happening: &Happening<'_>) -> bool {
        happening.node_differs(|n| n.unschedulable) && happening.node().is_some_and(|n| !n.unschedulable)
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Prepared<'a> {
        let key = "node.kubernetes.io/unschedulable".into();
        let mark = Taint { key, effect: "NoSchedule".into(), ..Taint::default() };
        if snapshot.marked().closed == 0 || pod.tolerations.iter().any(|t| tolerates(t, &mark)) {
            return Prepared::Skip;
        }
        Prepared::test(move |slot, _, refusal| {
            if snapshot.marks(slot).closed {
                refusal.for_good("node(s) were unschedulable");
            }
        })
    }
}
