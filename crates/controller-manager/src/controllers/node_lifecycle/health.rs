//! What is known of a node's health.

use super::{GRACE, LEASES};
use crate::rows::LeaseRow;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus};
use kybern_client::store::Item;
use kybern_reconcile::plan::later;
use kybern_reconcile::view::World;

/// The Ready condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    True,
    False,
    /// The node does not answer, or never said anything.
    Unknown,
}

/// Conditions a node reports about itself; all unknown when it is silent.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Until when (in steady time) the node counts as alive. A node without a lease is given the grace
/// from its creation.
pub(super) fn heartbeat(world: &World<'_>, node: &Node) -> Option<Timestamp> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let seen = match world.view.get::<Lease>(LEASES, name).and_then(Item::row::<LeaseRow>) {
        Some(row) => row.seen,
        None => node.metadata.creation_timestamp.as_ref()?.0,
    };
    Some(later(seen, GRACE))
}

/// The value of the Ready condition.
pub(super) fn ready(node: &Node) -> Ready {
    match condition(node, "Ready").map(|c| c.status.as_str()) {
        Some("True") => Ready::True,
        Some("False") => Ready::False,
        _ => Ready::Unknown,
    }
}

pub(super) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// Notes that nothing is known of a silent node.
pub(super) fn mark_unknown(world: &World<'_>, node: &mut Node) {
    let conditions = node.status.get_or_insert_with(NodeStatus::default).conditions.get_or_insert_default();
    for kind in REPORTED {
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(c) if c.status == "Unknown" => {}
            Some(c) => {
                c.status = "Unknown".into();
                c.reason = Some("NodeStatusUnknown".into());
                c.message = Some("Kubelet stopped posting node status.".into());
                c.last_transition_time = Some(world.time());
            }
            None => conditions.push(NodeCondition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some("Kubelet never posted node status.".into()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(world.time()),
            }),
        }
    }
}
