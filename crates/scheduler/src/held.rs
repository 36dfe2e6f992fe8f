//! The affinity terms that placed pods hold against (or for) those that come, one entry per distinct
//! term with its weight per node: ten thousand pods of one workload are one entry.

use crate::pod::PodInfo;
use crate::pod::terms::{LabelList, Term};
use crate::tally::LabelIndex;
use crate::topology::{NOWHERE, Topology};
use std::collections::HashMap;
use std::sync::Arc;

/// How a placed pod stands to pods its term speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stance {
    /// It refuses them.
    Refuses,
    /// It requires such company, and so likes it.
    Requires,
    /// It likes (or, with a negative weight, dislikes) them.
    Likes,
}

/// One distinct term.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) term: Term,
    pub(crate) stance: Stance,
    by_slot: HashMap<usize, i64>,
    /// Pods that hold it.
    holders: usize,
    /// Weights by domain; empty: to be summed up anew.
    domains: Vec<i64>,
}

impl Held {
    /// The weight in a domain.
    pub(crate) fn weight(&self, domain: u32) -> i64 {
        usize::try_from(domain).ok().and_then(|d| self.domains.get(d)).copied().unwrap_or(0)
    }
    fn add(&mut self, slot: usize, weight: i64, topology: Option<&Topology>) {
        let here = self.by_slot.entry(slot).or_insert(0);
        *here += weight;
        if *here == 0 {
            self.by_slot.remove(&slot);
        }
        let Some(topology) = topology else { return };
        if self.domains.is_empty() {
            return self.sum_up(topology);
        }
        self.domains.resize(topology.len(), 0);
        count(&mut self.domains, topology.of(slot), weight);
    }
    fn sum_up(&mut self, topology: &Topology) {
        self.domains = vec![0; topology.len()];
        for (slot, weight) in &self.by_slot {
            count(&mut self.domains, topology.of(*slot), *weight);
        }
    }
}

fn count(domains: &mut [i64], domain: u32, weight: i64) {
    if domain == NOWHERE {
        return;
    }
    if let Some(sum) = usize::try_from(domain).ok().and_then(|d| domains.get_mut(d)) {
        *sum += weight;
    }
}

/// The terms a pod holds, with stance and weight.
pub(crate) fn terms_of(pod: &PodInfo) -> impl Iterator<Item = (Stance, i64, &Term)> {
    let company = &pod.company;
    let refuses = company.avoided.iter().map(|t| (Stance::Refuses, 1, t));
    let requires = company.required.iter().map(|t| (Stance::Requires, 1, t));
    let likes = company.preferred.iter().map(|(w, t)| (Stance::Likes, *w, t));
    let dislikes = company.disliked.iter().map(|(w, t)| (Stance::Likes, -w, t));
    refuses.chain(requires).chain(likes).chain(dislikes)
}

fn key_of(stance: Stance, weight: i64, term: &Term) -> Arc<str> {
    match stance {
        Stance::Refuses => format!("!{}", term.key).into(),
        Stance::Requires => format!("={}", term.key).into(),
        // Weights are kept apart, so that an entry's weight is never zero while pods hold it.
        Stance::Likes => format!("{weight}{}", term.key).into(),
    }
}

/// All held terms.
#[derive(Debug, Default)]
pub(crate) struct HeldTerms {
    by_key: HashMap<Arc<str>, Held>,
    index: LabelIndex,
}

impl HeldTerms {
    /// A pod came to a slot (1) or left it (-1); the topologies of its terms are there.
    pub(crate) fn moved<'t>(
        &mut self,
        pod: &PodInfo,
        slot: usize,
        sign: i64,
        topology: impl Fn(&str) -> Option<&'t Topology>,
    ) {
        for (stance, weight, term) in terms_of(pod) {
            let key = key_of(stance, weight, term);
            if !self.by_key.contains_key(&key) {
                self.index.insert(&term.who, Arc::clone(&key));
            }
            let held = self.by_key.entry(Arc::clone(&key)).or_insert_with(|| Held {
                term: term.clone(),
                stance,
                by_slot: HashMap::new(),
                holders: 0,
                domains: Vec::new(),
            });
            held.holders = if sign > 0 { held.holders + 1 } else { held.holders.saturating_sub(1) };
            held.add(slot, sign * weight, topology(&term.topology));
            if held.holders == 0 {
                self.by_key.remove(&key);
                self.index.remove(&term.who, &key);
            }
        }
    }
    /// Nodes have changed: sums up anew.
    pub(crate) fn resum<'t>(&mut self, topology: impl Fn(&str) -> Option<&'t Topology>) {
        for held in self.by_key.values_mut() {
            match topology(&held.term.topology) {
                Some(topology) => held.sum_up(topology),
                None => held.domains.clear(),
            }
        }
    }
    /// The topologies that terms speak of.
    pub(crate) fn topologies(&self) -> impl Iterator<Item = &smol_str::SmolStr> {
        self.by_key.values().map(|h| &h.term.topology)
    }
    /// The terms that speak of a pod.
    pub(crate) fn about<'a>(
        &'a self,
        pod: &'a PodInfo,
        namespace: Option<&'a LabelList>,
    ) -> impl Iterator<Item = &'a Held> {
        let speaks = move |h: &&Held| h.term.who.covers(pod, namespace);
        self.index.candidates(&pod.labels).filter_map(|key| self.by_key.get(key)).filter(speaks)
    }
}
