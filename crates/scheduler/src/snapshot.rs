//! The cluster as the scheduler decides on it: a columnar table of nodes, changed in place by events
//! and by assumptions, so that a pass over all nodes reads a few dense arrays.

use crate::held::{Held, HeldTerms, terms_of};
use crate::node::NodeInfo;
use crate::nominated::Nominations;
use crate::pod::PodInfo;
use crate::pod::terms::Who;
use crate::tally::{Domains, Tallies};
use crate::topology::{Topologies, Topology};
use crate::world::World;
use kybern_client::store::Name;
use smol_str::SmolStr;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// A resource over all nodes.
#[derive(Debug, Default)]
pub(crate) struct Column {
    pub(crate) allocatable: Vec<i64>,
    used: Vec<i64>,
}

impl Column {
    /// What is in use on a node. A sum that has wrapped is more than there can be.
    pub(crate) fn used(&self, slot: usize) -> i64 {
        if self.used[slot] < 0 { i64::MAX } else { self.used[slot] }
    }
}

/// Marks of nodes that most nodes do not have, so that most decisions need not look at nodes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Marks {
    /// spec.unschedulable
    pub(crate) closed: bool,
    /// Has taints that keep pods away.
    pub(crate) strict: bool,
    /// Has taints that make it less liked.
    pub(crate) mild: bool,
}

/// How many nodes bear each of the [`Marks`].
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Marked {
    pub(crate) closed: usize,
    pub(crate) strict: usize,
    pub(crate) mild: usize,
}

/// A pod that counts on a node.
#[derive(Debug, Clone)]
struct Placed {
    node: SmolStr,
    pod: Arc<PodInfo>,
    /// Decided here, not yet seen bound.
    assumed: bool,
}

/// What [`Snapshot::place`] has found.
#[derive(Debug)]
pub(crate) enum Placement {
    /// The pod was not on that node.
    New,
    /// It was, as this.
    Changed(Arc<PodInfo>),
    /// Nothing that counts has changed.
    Same,
}

/// Nodes by slot, and the pods placed on them. Slots of removed nodes are used again.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// What else there is: namespaces, services, volumes, budgets.
    pub(crate) world: World,
    /// Pods that wait for the room their victims leave.
    pub(crate) nominations: Nominations,
    /// Where the next pass over the nodes begins.
    pub(crate) rotation: usize,
    nodes: Vec<Option<NodeInfo>>,
    marks: Vec<Marks>,
    /// How many nodes bear each mark.
    marked: Marked,
    slots: HashMap<SmolStr, usize>,
    free: Vec<usize>,
    columns: HashMap<SmolStr, Column>,
    /// Millicores and bytes by slot, with assumed requests.
    weights: Vec<(i64, i64)>,
    pods: Vec<Vec<Arc<PodInfo>>>,
    placed: HashMap<SmolStr, Placed>,
    /// Pods whose node is not (or no longer) there.
    stray: HashMap<SmolStr, Vec<Arc<PodInfo>>>,
    /// On how many nodes an image is.
    images: HashMap<SmolStr, u32>,
    /// How many placed pods use a claim.
    claims: HashMap<Name, u32>,
    topologies: Topologies,
    held: HeldTerms,
    /// Counts that decisions have asked for. A cache: what it answers follows from the rest.
    tallies: RefCell<Tallies>,
    /// Node labels have changed since the held terms were summed up.
    stale: bool,
}

impl Snapshot {
    /// Number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
    /// Number of slots, with and without nodes.
    pub(crate) fn slots(&self) -> usize {
        self.nodes.len()
    }
    /// The node in a slot.
    pub(crate) fn node(&self, slot: usize) -> Option<&NodeInfo> {
        self.nodes.get(slot)?.as_ref()
    }
    /// Is there a node in a slot?
    pub(crate) fn is_used(&self, slot: usize) -> bool {
        self.nodes.get(slot).is_some_and(Option::is_some)
    }
    /// The slot of a node.
    pub(crate) fn slot(&self, node: &str) -> Option<usize> {
        self.slots.get(node).copied()
    }
    /// A node's rare marks.
    pub(crate) fn marks(&self, slot: usize) -> Marks {
        self.marks[slot]
    }
    /// How many nodes bear each mark.
    pub(crate) fn marked(&self) -> Marked {
        self.marked
    }
    /// A resource's column; None where no node has it.
    pub(crate) fn column(&self, resource: &str) -> Option<&Column> {
        self.columns.get(resource)
    }
    /// Millicores and bytes in use on a node, with assumed requests.
    pub(crate) fn weight(&self, slot: usize) -> (i64, i64) {
        let whole = |n: i64| if n < 0 { i64::MAX } else { n };
        let (cpu, memory) = self.weights[slot];
        (whole(cpu), whole(memory))
    }
    /// The pods of a node.
    pub(crate) fn pods(&self, slot: usize) -> &[Arc<PodInfo>] {
        &self.pods[slot]
    }
    /// The node on which a pod counts.
    pub(crate) fn placed_on(&self, uid: &str) -> Option<&SmolStr> {
        self.placed.get(uid).map(|p| &p.node)
    }
    /// On how many nodes an image is.
    pub(crate) fn image_spread(&self, image: &str) -> u32 {
        self.images.get(image).copied().unwrap_or(0)
    }
    /// How many placed pods use a claim.
    pub(crate) fn claim_users(&self, claim: &Name) -> u32 {
        self.claims.get(claim).copied().unwrap_or(0)
    }
    /// A topology that [`Snapshot::refresh`] has made.
    pub(crate) fn topology(&self, key: &str) -> Option<&Topology> {
        self.topologies.get(key)
    }
    /// The terms of placed pods that speak of a pod.
    pub(crate) fn held_about<'a>(&'a self, pod: &'a PodInfo) -> impl Iterator<Item = &'a Held> {
        self.held.about(pod, self.world.namespace(&pod.name.namespace))
    }
    /// Does `who` speak of a pod?
    pub(crate) fn covers(&self, who: &Who, pod: &PodInfo) -> bool {
        who.covers(pod, self.world.namespace(&pod.name.namespace))
    }
    /// How many of `who` are in each domain of a topology, over the nodes that `eligible` picks; `group`
    /// identifies what it picks. None: [`Snapshot::refresh`] does not know the topology.
    pub(crate) fn domains(
        &self,
        who: &Who,
        key: &SmolStr,
        group: &Arc<str>,
        eligible: impl Fn(&NodeInfo) -> bool,
    ) -> Option<Arc<Domains>> {
        let topology = self.topologies.get(key)?;
        let fits = |slot: usize| self.node(slot).is_some_and(&eligible);
        Some(self.tallies.borrow_mut().domains(who, (key, topology), group, || self.tally(who), fits))
    }
    /// How many of `who` are on each slot's node.
    pub(crate) fn by_slot(&self, who: &Who) -> Arc<Vec<i64>> {
        self.tallies.borrow_mut().by_slot(who, || self.tally(who))
    }
    fn tally(&self, who: &Who) -> Vec<i64> {
        let on = |pods: &Vec<Arc<PodInfo>>| pods.iter().filter(|p| self.covers(who, p)).count();
        self.pods.iter().map(|pods| i64::try_from(on(pods)).unwrap_or(i64::MAX)).collect()
    }

    /// Makes ready what decisions about a pod need: its topologies, and sums over changed nodes.
    pub(crate) fn refresh(&mut self, pod: &PodInfo, defaults: &[SmolStr]) {
        let of_terms = terms_of(pod).map(|(_, _, t)| &t.topology);
        let of_spread = pod.spread.iter().map(|s| &s.topology).chain(defaults);
        let nodes = &self.nodes;
        let all = || nodes.iter().enumerate().filter_map(|(slot, n)| Some((slot, n.as_ref()?)));
        for key in of_terms.chain(of_spread) {
            self.topologies.ensure(key, all());
        }
        if std::mem::take(&mut self.stale) {
            for key in self.held.topologies() {
                self.topologies.ensure(key, all());
            }
            let topologies = &self.topologies;
            self.held.resum(|key| topologies.get(key));
        }
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
        let (strict, mild) = (info.strict_taints().next().is_some(), info.mild_taints().next().is_some());
        self.mark(slot, Marks { closed: info.unschedulable, strict, mild });
        for image in info.images.keys() {
            *self.images.entry(image.clone()).or_insert(0) += 1;
        }
        let stands = self.nodes[slot].as_ref().is_some_and(|old| old.stands_like(&info));
        let old = self.nodes[slot].replace(info);
        if let Some(old) = &old {
            self.forget_images(old);
        }
        if !stands {
            self.restand(slot);
        }
        if fresh {
            for pod in self.stray.remove(&name).unwrap_or_default() {
                self.count(slot, &pod, 1);
            }
        }
        old
    }
    /// Removes a node. Its pods stay known, for a node that comes back.
    pub(crate) fn remove_node(&mut self, name: &str) -> Option<NodeInfo> {
        let slot = self.slots.remove(name)?;
        let pods = self.pods[slot].clone();
        for pod in &pods {
            self.count(slot, pod, -1);
        }
        if !pods.is_empty() {
            self.stray.insert(name.into(), pods);
        }
        let old = self.nodes[slot].take();
        if let Some(old) = &old {
            self.forget_images(old);
        }
        self.mark(slot, Marks::default());
        for column in self.columns.values_mut() {
            column.allocatable[slot] = 0;
        }
        self.restand(slot);
        self.free.push(slot);
        old
    }
    /// Namespaces have other labels: what rests on them is counted anew.
    pub(crate) fn namespaces_changed(&mut self) {
        self.tallies.get_mut().clear();
    }
    /// Counts a pod on a node: one seen there, or (`assumed`) one just decided.
    pub(crate) fn place(&mut self, pod: Arc<PodInfo>, node: &SmolStr, assumed: bool) -> Placement {
        self.nominations.remove(&pod.uid);
        let fresh = Placed { node: node.clone(), pod: Arc::clone(&pod), assumed };
        let Some(old) = self.placed.insert(pod.uid.clone(), fresh) else {
            self.put(node, &pod);
            return Placement::New;
        };
        if old.node != *node {
            self.take(&old);
            self.put(node, &pod);
            return Placement::New;
        }
        if counts_like(&old.pod, &pod) {
            let here = match self.slot(node) {
                Some(slot) => Some(&mut self.pods[slot]),
                None => self.stray.get_mut(node),
            };
            if let Some(held) = here.and_then(|pods| pods.iter_mut().find(|p| p.uid == pod.uid)) {
                *held = pod;
            }
            return Placement::Same;
        }
        self.take(&old);
        self.put(node, &pod);
        Placement::Changed(old.pod)
    }
    /// Takes a pod off its node. Returns the pod if it was on one.
    pub(crate) fn displace(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let placed = self.placed.remove(uid)?;
        self.take(&placed);
        Some(placed.pod)
    }
    /// Takes an assumption back.
    pub(crate) fn forget(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        if self.placed.get(uid).is_some_and(|p| p.assumed) { self.displace(uid) } else { None }
    }
    /// A placed pod is being deleted to make room, which its own news will say later.
    pub(crate) fn doom(&mut self, uid: &str) {
        let Some(placed) = self.placed.get(uid).cloned() else { return };
        let doomed = PodInfo { deleting: true, preempted: true, ..PodInfo::clone(&placed.pod) };
        self.place(Arc::new(doomed), &placed.node, placed.assumed);
    }

    /// Something that counts per topology rest on has changed about a slot.
    fn restand(&mut self, slot: usize) {
        let nodes = self.slots.len();
        self.topologies.changed(slot, self.nodes[slot].as_ref(), nodes);
        self.tallies.get_mut().clear();
        self.stale = true;
    }
    fn mark(&mut self, slot: usize, new: Marks) {
        let old = std::mem::replace(&mut self.marks[slot], new);
        let moved = |count: usize, old: bool, new: bool| count + usize::from(new) - usize::from(old);
        self.marked = Marked {
            closed: moved(self.marked.closed, old.closed, new.closed),
            strict: moved(self.marked.strict, old.strict, new.strict),
            mild: moved(self.marked.mild, old.mild, new.mild),
        };
    }
    fn forget_images(&mut self, node: &NodeInfo) {
        for image in node.images.keys() {
            let Some(n) = self.images.get_mut(image) else { continue };
            *n -= 1;
            if *n == 0 {
                self.images.remove(image);
            }
        }
    }
    fn take_slot(&mut self, name: &SmolStr) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            self.marks.push(Marks::default());
            self.weights.push((0, 0));
            self.pods.push(Vec::new());
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
        if !self.columns.contains_key(resource) {
            self.columns.insert(resource.clone(), Column { allocatable: vec![0; len], used: vec![0; len] });
        }
        self.columns.entry(resource.clone()).or_default()
    }
    fn put(&mut self, node: &SmolStr, pod: &Arc<PodInfo>) {
        match self.slot(node) {
            Some(slot) => self.count(slot, pod, 1),
            None => self.stray.entry(node.clone()).or_default().push(Arc::clone(pod)),
        }
    }
    fn take(&mut self, placed: &Placed) {
        if let Some(slot) = self.slot(&placed.node) {
            return self.count(slot, &placed.pod, -1);
        }
        if let Some(pods) = self.stray.get_mut(&placed.node) {
            pods.retain(|p| p.uid != placed.pod.uid);
            if pods.is_empty() {
                self.stray.remove(&placed.node);
            }
        }
    }
    /// Counts a pod in (1) or out (-1) of everything that is kept per slot.
    fn count(&mut self, slot: usize, pod: &Arc<PodInfo>, sign: i64) {
        for (resource, amount) in &pod.requests {
            let used = &mut self.column_mut(resource).used[slot];
            *used = used.wrapping_add(sign * amount);
        }
        // What wraps comes back in order when the pod goes; it must not end the scheduler.
        let weight = &mut self.weights[slot];
        *weight = (weight.0.wrapping_add(sign * pod.weight.0), weight.1.wrapping_add(sign * pod.weight.1));
        if sign > 0 {
            self.pods[slot].push(Arc::clone(pod));
        } else {
            self.pods[slot].retain(|p| p.uid != pod.uid);
        }
        for claim in &pod.claims {
            let users = self.claims.entry(claim.name.clone()).or_insert(0);
            *users = if sign > 0 { *users + 1 } else { users.saturating_sub(1) };
            if *users == 0 {
                self.claims.remove(&claim.name);
            }
        }
        let namespace = self.world.namespace(&pod.name.namespace);
        self.tallies.get_mut().moved(pod, namespace, slot, sign);
        if !pod.company.is_empty() {
            let nodes = &self.nodes;
            for (_, _, term) in terms_of(pod) {
                let all = nodes.iter().enumerate().filter_map(|(slot, n)| Some((slot, n.as_ref()?)));
                self.topologies.ensure(&term.topology, all);
            }
            let topologies = &self.topologies;
            self.held.moved(pod, slot, sign, |key| topologies.get(key));
        }
    }
}

/// Do two states of a pod count the same wherever pods are counted?
fn counts_like(a: &PodInfo, b: &PodInfo) -> bool {
    a.requests == b.requests
        && a.weight == b.weight
        && a.deleting == b.deleting
        && a.labels == b.labels
        && a.claims == b.claims
        && a.company == b.company
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::requests::Amounts;
    use crate::testing;
    use serde_json::json;

    fn node(name: &str, cpu: i64) -> NodeInfo {
        NodeInfo { name: name.into(), allocatable: Amounts::from([("cpu".into(), cpu)]), ..NodeInfo::default() }
    }
    fn pod(name: &str, cpu: &str) -> Arc<PodInfo> {
        testing::pod(&json!({
            "metadata": {"name": name, "uid": name, "labels": {"app": "x"}},
            "spec": {"containers": [{"resources": {"requests": {"cpu": cpu}}}]},
        }))
    }
    fn used(s: &Snapshot, node: &str) -> Option<i64> {
        Some(s.column("cpu")?.used[s.slot(node)?])
    }

    #[test]
    fn pods_count_from_assumption_to_removal_and_once() {
        let mut s = Snapshot::default();
        s.set_node(node("a", 1000));
        assert!(matches!(s.place(pod("u", "300m"), &"a".into(), true), Placement::New));
        assert!(matches!(s.place(pod("u", "300m"), &"a".into(), false), Placement::Same));
        assert_eq!(used(&s, "a"), Some(300));
        assert!(s.forget("u").is_none(), "a pod seen bound is no assumption");
        assert!(matches!(s.place(pod("u", "400m"), &"a".into(), false), Placement::Changed(_)));
        assert_eq!(used(&s, "a"), Some(400));
        assert!(s.displace("u").is_some());
        assert_eq!((used(&s, "a"), s.pods(0).len()), (Some(0), 0));
    }

    #[test]
    fn absurd_requests_end_nothing() {
        let mut s = Snapshot::default();
        s.set_node(node("a", 1000));
        for i in 0..3000 {
            s.place(pod(&format!("u{i}"), "9223372036854775807"), &"a".into(), false);
        }
        for i in 0..3000 {
            s.displace(&format!("u{i}"));
        }
        assert_eq!(used(&s, "a"), Some(0));
    }

    #[test]
    fn a_node_that_comes_back_finds_its_pods_and_slots_are_used_again() {
        let mut s = Snapshot::default();
        s.place(pod("early", "100m"), &"a".into(), false);
        s.set_node(node("a", 1000));
        assert_eq!(used(&s, "a"), Some(100));
        s.remove_node("a");
        s.set_node(node("b", 500));
        assert_eq!((used(&s, "b"), s.len(), s.slots()), (Some(0), 1, 1));
        s.set_node(node("a", 1000));
        assert_eq!((used(&s, "a"), s.pods(1).len()), (Some(100), 1));
    }
}
