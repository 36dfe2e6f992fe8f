//! Counts of pods per node and per domain, kept as pods come and go: what "how many pods like this are
//! in each zone" costs is paid once per change instead of once per decision and node.

use crate::pod::PodInfo;
use crate::pod::terms::{LabelList, Who};
use crate::topology::{NOWHERE, Topology};
use smol_str::SmolStr;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Tallies that are kept; the least used go first.
const KEPT: usize = 2048;

/// Finds what may speak of a pod by one of its labels.
#[derive(Debug, Default)]
pub(crate) struct LabelIndex {
    by_label: HashMap<SmolStr, HashMap<SmolStr, Vec<Arc<str>>>>,
    others: Vec<Arc<str>>,
}

impl LabelIndex {
    /// Puts something in that speaks of `who`.
    pub(crate) fn insert(&mut self, who: &Who, key: Arc<str>) {
        match who.handle() {
            Some((label, value)) => self.by_label.entry(label).or_default().entry(value).or_default().push(key),
            None => self.others.push(key),
        }
    }
    /// Takes it out.
    pub(crate) fn remove(&mut self, who: &Who, key: &str) {
        let list = match who.handle() {
            Some((label, value)) => self.by_label.get_mut(&label).and_then(|m| m.get_mut(&value)),
            None => Some(&mut self.others),
        };
        if let Some(list) = list {
            list.retain(|k| &**k != key);
        }
    }
    /// Everything that may speak of a pod with these labels.
    pub(crate) fn candidates<'a>(&'a self, labels: &'a LabelList) -> impl Iterator<Item = &'a Arc<str>> {
        let exact = labels.iter().filter_map(|(label, value)| self.by_label.get(label)?.get(value)).flatten();
        exact.chain(&self.others)
    }
}

/// Counts per domain of one topology, over the nodes that come into question.
#[derive(Debug, Clone, Default)]
pub(crate) struct Domains {
    /// By slot; [`NOWHERE`] for nodes that do not come into question.
    domain: Vec<u32>,
    /// By domain.
    counts: Vec<i64>,
    nodes: Vec<u32>,
    /// How many domains (that have nodes) have which count.
    levels: BTreeMap<i64, u32>,
    total: i64,
    known: i64,
}

impl Domains {
    fn new(by_slot: &[i64], topology: &Topology, eligible: impl Fn(usize) -> bool) -> Self {
        let slots = by_slot.len();
        let domain: Vec<u32> = (0..slots).map(|s| if eligible(s) { topology.of(s) } else { NOWHERE }).collect();
        let mut domains =
            Self { counts: vec![0; topology.len()], nodes: vec![0; topology.len()], domain, ..Self::default() };
        for (slot, count) in by_slot.iter().enumerate() {
            if let Some(at) = domains.at(slot) {
                domains.counts[at] += count;
                domains.nodes[at] += 1;
                domains.total += count;
            }
        }
        for (count, _) in domains.counts.iter().zip(&domains.nodes).filter(|(_, nodes)| **nodes > 0) {
            *domains.levels.entry(*count).or_insert(0) += 1;
            domains.known += 1;
        }
        domains
    }
    fn at(&self, slot: usize) -> Option<usize> {
        let domain = *self.domain.get(slot)?;
        if domain == NOWHERE { None } else { usize::try_from(domain).ok() }
    }
    fn add(&mut self, slot: usize, change: i64) {
        let Some(at) = self.at(slot) else { return };
        let old = self.counts[at];
        self.counts[at] += change;
        self.total += change;
        if let Some(n) = self.levels.get_mut(&old) {
            *n -= 1;
            if *n == 0 {
                self.levels.remove(&old);
            }
        }
        *self.levels.entry(old + change).or_insert(0) += 1;
    }
    /// Does the node in a slot come into question?
    pub(crate) fn includes(&self, slot: usize) -> bool {
        self.at(slot).is_some()
    }
    /// The count of a domain.
    pub(crate) fn count(&self, domain: u32) -> i64 {
        usize::try_from(domain).ok().and_then(|d| self.counts.get(d)).copied().unwrap_or(0)
    }
    /// The sum over all domains.
    pub(crate) fn total(&self) -> i64 {
        self.total
    }
    /// How many domains have nodes that come into question.
    pub(crate) fn known(&self) -> i64 {
        self.known
    }
    /// The lowest count of a domain, if that of the slot's node changed by `change`.
    pub(crate) fn lowest(&self, slot: usize, change: i64) -> i64 {
        let mut levels = self.levels.iter();
        let Some((lowest, n)) = levels.next() else { return 0 };
        let Some(at) = self.at(slot).filter(|_| change != 0) else { return *lowest };
        let (old, new) = (self.counts[at], self.counts[at] + change);
        let rest = if old == *lowest && *n == 1 { levels.next().map_or(new, |(next, _)| *next) } else { *lowest };
        rest.min(new)
    }
}

/// The number of pods on each node that somebody speaks of.
#[derive(Debug)]
struct Tally {
    who: Who,
    by_slot: Arc<Vec<i64>>,
    domains: HashMap<(SmolStr, Arc<str>), Arc<Domains>>,
    used: u64,
}

/// All tallies.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    by_key: HashMap<Arc<str>, Tally>,
    index: LabelIndex,
    clock: u64,
}

impl Tallies {
    /// Forgets all: nodes or namespaces have changed so that counts are no longer right.
    pub(crate) fn clear(&mut self) {
        self.by_key.clear();
        self.index = LabelIndex::default();
    }
    /// A pod came to a slot (1) or left it (-1).
    pub(crate) fn moved(&mut self, pod: &PodInfo, namespace: Option<&LabelList>, slot: usize, change: i64) {
        for key in self.index.candidates(&pod.labels) {
            let Some(tally) = self.by_key.get_mut(key).filter(|t| t.who.covers(pod, namespace)) else { continue };
            let by_slot = Arc::make_mut(&mut tally.by_slot);
            if by_slot.len() <= slot {
                by_slot.resize(slot + 1, 0);
            }
            by_slot[slot] += change;
            tally.domains.values_mut().for_each(|d| Arc::make_mut(d).add(slot, change));
        }
    }
    /// The counts of `who` by slot; `count` makes them where they are not known yet.
    pub(crate) fn by_slot(&mut self, who: &Who, count: impl FnOnce() -> Vec<i64>) -> Arc<Vec<i64>> {
        Arc::clone(&self.tally(who, count).by_slot)
    }
    /// The same per domain of a topology. `eligible` says which nodes come into question, and `group`
    /// identifies that choice.
    pub(crate) fn domains(
        &mut self,
        who: &Who,
        (key, topology): (&SmolStr, &Topology),
        group: &Arc<str>,
        count: impl FnOnce() -> Vec<i64>,
        eligible: impl Fn(usize) -> bool,
    ) -> Arc<Domains> {
        let tally = self.tally(who, count);
        let by_slot = &tally.by_slot;
        let made = tally
            .domains
            .entry((key.clone(), Arc::clone(group)))
            .or_insert_with(|| Arc::new(Domains::new(by_slot, topology, eligible)));
        Arc::clone(made)
    }
    fn tally(&mut self, who: &Who, count: impl FnOnce() -> Vec<i64>) -> &mut Tally {
        self.clock += 1;
        if !self.by_key.contains_key(&who.key) {
            self.make_room();
            self.index.insert(who, Arc::clone(&who.key));
        }
        let tally = self.by_key.entry(Arc::clone(&who.key)).or_insert_with(|| Tally {
            who: who.clone(),
            by_slot: Arc::new(count()),
            domains: HashMap::new(),
            used: 0,
        });
        tally.used = self.clock;
        tally
    }
    fn make_room(&mut self) {
        if self.by_key.len() < KEPT {
            return;
        }
        let mut used: Vec<u64> = self.by_key.values().map(|t| t.used).collect();
        used.sort_unstable();
        let limit = used[used.len() / 2];
        let index = &mut self.index;
        self.by_key.retain(|key, tally| {
            let stays = tally.used > limit;
            if !stays {
                index.remove(&tally.who, key);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_count_follows_what_would_change() {
        let mut domains = Domains {
            domain: vec![0, 1, 2, NOWHERE],
            counts: vec![3, 1, 2],
            nodes: vec![1, 1, 1],
            levels: BTreeMap::from([(3, 1), (1, 1), (2, 1)]),
            total: 6,
            known: 3,
        };
        assert_eq!(domains.lowest(0, 0), 1);
        assert_eq!(domains.lowest(0, -3), 0);
        assert_eq!(domains.lowest(1, 5), 2, "the next one is the lowest then");
        assert_eq!(domains.lowest(3, 9), 1, "a node that does not count changes nothing");
        domains.add(1, 2);
        assert_eq!((domains.lowest(0, 0), domains.total()), (2, 8));
    }
}
