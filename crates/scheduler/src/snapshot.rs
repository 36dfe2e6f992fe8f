//! The cluster as the scheduler decides on it: a columnar table of nodes, changed in place by events
//! and by assumptions, so that a pass over all nodes reads a few dense arrays.

use crate::node::NodeInfo;
use crate::pod::{Footprint, HostPort};
use smol_str::SmolStr;
use std::collections::{HashMap, HashSet};

/// A resource over all nodes.
#[derive(Debug, Default)]
pub(crate) struct Column {
    pub(crate) allocatable: Vec<i64>,
    pub(crate) used: Vec<i64>,
}

/// A pod that counts on a node.
#[derive(Debug, Clone, PartialEq)]
struct Placed {
    node: SmolStr,
    footprint: Footprint,
    /// Decided here, not yet seen bound.
    assumed: bool,
}

/// Nodes by slot, and the pods placed on them. Slots of removed nodes are used again.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    nodes: Vec<Option<NodeInfo>>,
    slots: HashMap<SmolStr, usize>,
    free: Vec<usize>,
    columns: HashMap<SmolStr, Column>,
    /// Millicores and bytes by slot, with assumed requests.
    weights: Vec<(i64, i64)>,
    ports: Vec<Vec<(SmolStr, HostPort)>>,
    /// Pods of one controller by slot.
    families: HashMap<SmolStr, HashMap<usize, u32>>,
    placed: HashMap<SmolStr, Placed>,
    /// Uids of the pods of a node, also of one that is not (or no longer) there.
    by_node: HashMap<SmolStr, HashSet<SmolStr>>,
}

impl Snapshot {
    /// Number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
    /// Every slot with its node.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (usize, &NodeInfo)> {
        self.nodes.iter().enumerate().filter_map(|(slot, n)| Some((slot, n.as_ref()?)))
    }
    /// The node in a slot that [`Snapshot::nodes`] gave.
    pub(crate) fn node(&self, slot: usize) -> Option<&NodeInfo> {
        self.nodes.get(slot)?.as_ref()
    }
    /// A resource's column; None where no node has it.
    pub(crate) fn column(&self, resource: &str) -> Option<&Column> {
        self.columns.get(resource)
    }
    /// Millicores and bytes in use on a node, with assumed requests.
    pub(crate) fn weight(&self, slot: usize) -> (i64, i64) {
        self.weights[slot]
    }
    /// Ports taken on a node.
    pub(crate) fn ports(&self, slot: usize) -> impl Iterator<Item = &HostPort> {
        self.ports[slot].iter().map(|(_, port)| port)
    }
    /// How many pods of a controller each slot has; None: none anywhere.
    pub(crate) fn family(&self, uid: &str) -> Option<&HashMap<usize, u32>> {
        self.families.get(uid)
    }
    /// The node on which a pod counts.
    pub(crate) fn placed_on(&self, uid: &str) -> Option<&SmolStr> {
        self.placed.get(uid).map(|p| &p.node)
    }

    /// Adds or replaces a node; returns what it was before.
    pub(crate) fn set_node(&mut self, info: NodeInfo) -> Option<NodeInfo> {
        let name = info.name.clone();
        let (slot, fresh) = match self.slots.get(&name) {
            Some(slot) => (*slot, false),
            None => (self.take_slot(&name), true),
        };
        for column in self.columns.values_mut() {
            column.allocatable[slot] = 0;
        }
        for (resource, amount) in &info.allocatable {
            self.column_mut(resource).allocatable[slot] = *amount;
        }
        let old = self.nodes[slot].replace(info);
        if fresh {
            self.recount(&name, slot);
        }
        old
    }
    /// Removes a node. Its pods stay known, for a node that comes back.
    pub(crate) fn remove_node(&mut self, name: &str) {
        let Some(slot) = self.slots.remove(name) else { return };
        self.nodes[slot] = None;
        self.weights[slot] = (0, 0);
        self.ports[slot].clear();
        for column in self.columns.values_mut() {
            (column.allocatable[slot], column.used[slot]) = (0, 0);
        }
        self.families.values_mut().for_each(|f| _ = f.remove(&slot));
        self.free.push(slot);
    }
    /// Counts a pod on a node: one seen there, or (`assumed`) one just decided. Returns whether that
    /// is news.
    pub(crate) fn place(&mut self, uid: &SmolStr, node: &SmolStr, footprint: &Footprint, assumed: bool) -> bool {
        let placed = Placed { node: node.clone(), footprint: footprint.clone(), assumed };
        if self.placed.get(uid).is_some_and(|p| p.node == placed.node && p.footprint == placed.footprint) {
            self.placed.insert(uid.clone(), placed);
            return false;
        }
        self.displace(uid);
        if let Some(slot) = self.slots.get(node).copied() {
            self.count(slot, uid, footprint, 1);
        }
        self.by_node.entry(node.clone()).or_default().insert(uid.clone());
        self.placed.insert(uid.clone(), placed);
        true
    }
    /// Takes a pod off its node. Returns whether it was on one.
    pub(crate) fn displace(&mut self, uid: &SmolStr) -> bool {
        let Some(placed) = self.placed.remove(uid) else { return false };
        if let Some(uids) = self.by_node.get_mut(&placed.node) {
            uids.remove(uid);
            if uids.is_empty() {
                self.by_node.remove(&placed.node);
            }
        }
        if let Some(slot) = self.slots.get(&placed.node).copied() {
            self.count(slot, uid, &placed.footprint, -1);
        }
        true
    }
    /// Takes an assumption back.
    pub(crate) fn forget(&mut self, uid: &SmolStr) {
        if self.placed.get(uid).is_some_and(|p| p.assumed) {
            self.displace(uid);
        }
    }

    fn take_slot(&mut self, name: &SmolStr) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            self.weights.push((0, 0));
            self.ports.push(Vec::new());
            for column in self.columns.values_mut() {
                column.allocatable.push(0);
                column.used.push(0);
            }
            self.nodes.len() - 1
        });
        self.slots.insert(name.clone(), slot);
        slot
    }
    fn column_mut(&mut self, resource: &SmolStr) -> &mut Column {
        let len = self.nodes.len();
        self.columns.entry(resource.clone()).or_insert_with(|| Column { allocatable: vec![0; len], used: vec![0; len] })
    }
    /// Counts the pods that were known before their node.
    fn recount(&mut self, name: &SmolStr, slot: usize) {
        let uids = self.by_node.get(name).cloned().unwrap_or_default();
        for uid in uids {
            if let Some(footprint) = self.placed.get(&uid).map(|p| p.footprint.clone()) {
                self.count(slot, &uid, &footprint, 1);
            }
        }
    }
    fn count(&mut self, slot: usize, uid: &SmolStr, footprint: &Footprint, sign: i64) {
        for (resource, amount) in &footprint.requests {
            self.column_mut(resource).used[slot] += sign * amount;
        }
        self.weights[slot].0 += sign * footprint.weight.0;
        self.weights[slot].1 += sign * footprint.weight.1;
        if sign > 0 {
            self.ports[slot].extend(footprint.ports.iter().map(|p| (uid.clone(), p.clone())));
        } else {
            self.ports[slot].retain(|(owner, _)| owner != uid);
        }
        if footprint.family.is_empty() {
            return;
        }
        let family = self.families.entry(footprint.family.clone()).or_default();
        let count = family.entry(slot).or_insert(0);
        *count = if sign > 0 { *count + 1 } else { count.saturating_sub(1) };
        family.retain(|_, n| *n > 0);
        if family.is_empty() {
            self.families.remove(&footprint.family);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::Amounts;

    fn node(name: &str, cpu: i64) -> NodeInfo {
        NodeInfo { name: name.into(), allocatable: Amounts::from([("cpu".into(), cpu)]), ..NodeInfo::default() }
    }
    fn footprint(cpu: i64) -> Footprint {
        Footprint {
            requests: Amounts::from([("cpu".into(), cpu)]),
            weight: (cpu, 0),
            family: "f".into(),
            ..Footprint::default()
        }
    }
    fn used(s: &Snapshot, node: &str) -> Option<i64> {
        Some(s.column("cpu")?.used[*s.slots.get(node)?])
    }

    #[test]
    fn pods_count_from_assumption_to_removal_and_once() {
        let mut s = Snapshot::default();
        s.set_node(node("a", 1000));
        assert!(s.place(&"u".into(), &"a".into(), &footprint(300), true));
        assert!(!s.place(&"u".into(), &"a".into(), &footprint(300), false));
        assert_eq!(used(&s, "a"), Some(300));
        s.forget(&"u".into());
        assert_eq!(used(&s, "a"), Some(300), "a pod seen bound is no assumption");
        s.displace(&"u".into());
        assert_eq!((used(&s, "a"), s.family("f").is_none()), (Some(0), true));
    }

    #[test]
    fn a_node_that_comes_back_finds_its_pods_and_slots_are_used_again() {
        let mut s = Snapshot::default();
        s.place(&"early".into(), &"a".into(), &footprint(100), false);
        s.set_node(node("a", 1000));
        assert_eq!(used(&s, "a"), Some(100));
        s.remove_node("a");
        s.set_node(node("b", 500));
        assert_eq!((used(&s, "b"), s.len(), s.nodes.len()), (Some(0), 1, 1));
        s.set_node(node("a", 1000));
        assert_eq!((used(&s, "a"), s.family("f").map(|f| f.len())), (Some(100), Some(1)));
    }
}
