//! What belongs on which node.

use super::pod;
use crate::members::Member;
use crate::rows::NodeRow;
use k8s_openapi::api::core::v1::{Node, PodTemplateSpec};
use kybern_api::object::Object;
use kybern_api::placement::{NO_EXECUTE, NO_SCHEDULE, attracts, untolerated};
use kybern_client::store::Item;
use kybern_reconcile::Error;
use kybern_reconcile::view::View;
use smol_str::SmolStr;
use std::collections::BTreeMap;

/// A node (or what is left of one) and the set's pods for it.
pub(super) struct Spot<'a> {
    pub(super) node: SmolStr,
    /// Is there such a node?
    pub(super) exists: bool,
    /// Shall it have a pod?
    pub(super) should_run: bool,
    /// May it keep the pod it has?
    pub(super) should_continue: bool,
    /// Bound pods first, then the oldest first. Those that ended and are on their way out are not
    /// among them (nothing is left to do about them), nor those that are for no node in particular.
    pub(super) pods: Vec<Member<'a>>,
}

/// All nodes, by name, and the pods of the set there.
pub(super) fn spots<'a>(
    view: &'a View,
    template: &PodTemplateSpec,
    pods: &[Member<'a>],
) -> Result<Vec<Spot<'a>>, Error> {
    let mut by_node: BTreeMap<SmolStr, Vec<Member<'a>>> = BTreeMap::new();
    for member in pods.iter().filter(|m| !(m.row.phase.is_terminal() && m.is_deleting())) {
        let node = pod::node_of(member)?;
        if !node.is_empty() {
            by_node.entry(node).or_default().push(*member);
        }
    }
    for pods in by_node.values_mut() {
        pods.sort_by_key(|m| (m.row.node.is_empty(), m.object.head.created, m.object.head.name.as_str()));
    }
    let judge = pod::Judge::of(template);
    let mut spots: Vec<Spot<'a>> = view
        .of::<Node>()
        .iter()
        .map(|item| {
            let (should_run, should_continue) = verdict(&judge, item);
            let node = item.object.head.name.clone();
            let pods = by_node.remove(&node).unwrap_or_default();
            Spot { node, exists: true, should_run, should_continue, pods }
        })
        .collect();
    let lost = by_node.into_iter();
    spots.extend(lost.map(|(node, pods)| Spot {
        node,
        exists: false,
        should_run: false,
        should_continue: false,
        pods,
    }));
    Ok(spots)
}

/// Shall a node have a pod, and may it keep one?
fn verdict(judge: &pod::Judge, node: &Item) -> (bool, bool) {
    let (object, spec): (&Object, _) = (&node.object, &judge.spec);
    let named = spec.node_name.as_deref().filter(|n| !n.is_empty());
    if named.is_some_and(|n| n != object.head.name) || !attracts(spec, &object.head.name, |k| object.head.label(k)) {
        return (false, false);
    }
    let taints = node.row::<NodeRow>().map(|r| r.taints.as_slice()).unwrap_or_default();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let settles = untolerated(taints, tolerations, &[NO_SCHEDULE, NO_EXECUTE]).is_none();
    (settles, settles || untolerated(taints, tolerations, &[NO_EXECUTE]).is_none())
}
