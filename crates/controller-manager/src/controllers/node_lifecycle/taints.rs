//! The taints that follow from a node's conditions.

use super::health::{self, Ready, condition};
use super::zones::{self, Verdict};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use kybern_reconcile::view::World;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that keep new pods away while they are true, and the taint of each.
const PRESSURE: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

/// Puts the taints on `node` that the conditions of `judged` ask for, and takes those away that
/// they do not. Other taints stay. When pods may be driven out only later: then.
pub(super) fn apply(world: &World<'_>, judged: &Node, node: &mut Node) -> Option<Timestamp> {
    let unschedulable = node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false);
    let ready = health::ready(judged);
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let ill = match ready {
        Ready::True => None,
        Ready::False => Some(NOT_READY),
        Ready::Unknown => Some(UNREACHABLE),
    };
    let mut later = None;
    if let Some(key) = ill {
        wanted.push((key, NO_SCHEDULE));
        match zones::verdict(world, node) {
            Verdict::Now => wanted.push((key, NO_EXECUTE)),
            Verdict::At(at) => later = Some(at),
            Verdict::Never => {}
        }
    }
    let before = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    if unschedulable {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let pressed = PRESSURE.iter().filter(|(c, _)| condition(judged, c).is_some_and(|c| c.status == "True"));
    wanted.extend(pressed.map(|(_, taint)| (*taint, NO_SCHEDULE)));

    let mut taints: Vec<Taint> =
        before.into_iter().filter(|t| !is_ours(t) || wanted.contains(&(t.key.as_str(), t.effect.as_str()))).collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|t| t.key == key && t.effect == effect) {
            let time_added = (effect == NO_EXECUTE || key == UNSCHEDULABLE).then(|| world.time());
            taints.push(Taint { key: key.into(), effect: effect.into(), time_added, value: None });
        }
    }
    if let Some(spec) = node.spec.as_mut() {
        spec.taints = (!taints.is_empty()).then_some(taints);
    }
    later
}

/// The taints that drive pods out.
pub(super) fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    taints.into_iter().filter(|t| t.effect == NO_EXECUTE).collect()
}

fn is_ours(taint: &Taint) -> bool {
    [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
        || PRESSURE.iter().any(|(_, t)| *t == taint.key)
}
