//! Nodes marked as unschedulable take only pods that tolerate that.

use super::taint_toleration::tolerates;
use crate::framework::{Events, Filter, FilterFn};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Taint;

pub(super) struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }
    fn helped_by(&self) -> Events {
        Events::NODE_ADDED.and(Events::NODE_TAINTS)
    }
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<FilterFn<'a>> {
        let key = "node.kubernetes.io/unschedulable".into();
        let mark = Taint { key, effect: "NoSchedule".into(), ..Taint::default() };
        if pod.tolerations.iter().any(|t| tolerates(t, &mark)) {
            return None;
        }
        Some(Box::new(move |slot, reasons| {
            if snapshot.node(slot).is_some_and(|n| n.unschedulable) {
                reasons.push("node(s) were unschedulable".into());
            }
        }))
    }
}
