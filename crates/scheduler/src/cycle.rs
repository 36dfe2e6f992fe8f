//! One decision: a function of pod, profile, snapshot and random numbers.

use crate::framework::{FilterFn, Prepared, Reason, Refusal, WhatIf};
use crate::pod::PodInfo;
use crate::preempt::{self, Outcome};
use crate::profile::{Profile, Refusers};
use crate::snapshot::Snapshot;
use smol_str::SmolStr;
use std::collections::HashSet;
use std::sync::Arc;

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    /// It goes to this node.
    Place(SmolStr),
    /// No node will do.
    Refuse(Refused),
}

/// Why no node will do, and what follows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refused {
    /// Kubernetes' text: how many nodes for which reasons.
    pub(crate) message: String,
    /// Who refused.
    pub(crate) by: Refusers,
    pub(crate) nomination: Nomination,
}

/// What becomes of the pod's nominated node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Nomination {
    /// It stays as it is.
    Keep,
    /// There is none any more.
    Clear,
    /// The pod is to have this node once these pods are gone.
    Node(SmolStr, Vec<Arc<PodInfo>>),
}

/// Draws a number below its argument, which is at least 1.
pub(crate) type Draw<'a> = &'a mut dyn FnMut(usize) -> usize;

/// How many nodes were refused for which reason.
#[derive(Debug, Default)]
pub(crate) struct Histogram(Vec<(Reason, usize)>);

impl Histogram {
    /// `n` more nodes.
    pub(crate) fn add(&mut self, reason: &Reason, n: usize) {
        match self.0.iter_mut().find(|(r, _)| r == reason) {
            Some((_, count)) => *count += n,
            None => self.0.push((reason.clone(), n)),
        }
    }
    /// `0/5 nodes are available: 2 node(s) were unschedulable, 3 Insufficient cpu.`
    pub(crate) fn message(&self, nodes: usize) -> String {
        let counted = self.0.iter().filter(|(_, n)| *n > 0).map(|(reason, n)| format!("{n} {reason}"));
        let mut counted: Vec<String> = counted.collect();
        counted.sort();
        match counted.is_empty() {
            true => format!("0/{nodes} nodes are available:"),
            false => format!("0/{nodes} nodes are available: {}.", counted.join(", ")),
        }
    }
}

/// The prepared filters of a profile for one pod.
pub(crate) struct Checks<'a> {
    pod: &'a PodInfo,
    snapshot: &'a Snapshot,
    tests: Vec<(usize, FilterFn<'a>)>,
    /// The only nodes that come into question, and who said so.
    only: Option<(HashSet<SmolStr>, usize)>,
}

impl<'a> Checks<'a> {
    /// Prepares the filters; Err: the place of the one that refuses all nodes, and why.
    pub(crate) fn new(profile: &'a Profile, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Result<Self, (usize, String)> {
        let mut checks = Self { pod, snapshot, tests: Vec::new(), only: None };
        for (at, filter) in profile.filters.iter().enumerate() {
            match filter.prepare(pod, snapshot) {
                Prepared::Skip => {}
                Prepared::Test(test) => checks.tests.push((at, test)),
                Prepared::Narrow(names, test) => {
                    checks.tests.push((at, test));
                    checks.only = Some((names, at));
                }
                Prepared::Refuse(why) => return Err((at, why)),
            }
        }
        Ok(checks)
    }
    /// Tests a node with its nominated pods, and without them: neither may be what the pod relies on.
    /// Returns the place of the filter that refused.
    pub(crate) fn run<'p>(&self, slot: usize, what_if: &mut WhatIf<'p>, refusal: &mut Refusal) -> Option<usize>
    where
        'a: 'p,
    {
        if !self.snapshot.nominations.is_empty()
            && let Some(node) = self.snapshot.node(slot)
        {
            let snapshot: &'a Snapshot = self.snapshot;
            let ahead = snapshot.nominations.ahead_of(self.pod, &node.name);
            ahead.for_each(|p| what_if.add(p));
            if !what_if.extra().is_empty() {
                let refused = self.first(slot, what_if, refusal);
                what_if.drop_extra();
                if refused.is_some() {
                    return refused;
                }
            }
        }
        self.first(slot, what_if, refusal)
    }
    /// The first filter that refuses.
    fn first(&self, slot: usize, what_if: &WhatIf<'_>, refusal: &mut Refusal) -> Option<usize> {
        self.tests.iter().find_map(|(at, test)| {
            test(slot, what_if, refusal);
            (!refusal.is_empty()).then_some(*at)
        })
    }
}

/// What a pass over the nodes has found.
#[derive(Default)]
struct Pass {
    candidates: Vec<usize>,
    reasons: Histogram,
    by: Refusers,
    /// Nodes where fewer pods might help.
    potential: Vec<usize>,
    /// Slots looked at.
    seen: usize,
}

/// Decides.
pub(crate) fn decide(pod: &PodInfo, profile: &Profile, snapshot: &mut Snapshot, draw: Draw<'_>) -> Decision {
    if snapshot.len() == 0 {
        let message = "no nodes available to schedule pods".into();
        return Decision::Refuse(Refused { message, by: Refusers::NO_NODES, nomination: Nomination::Clear });
    }
    snapshot.refresh(pod, &profile.topologies);
    let (decision, seen) = look(pod, profile, snapshot, draw);
    snapshot.rotation = (snapshot.rotation + seen) % snapshot.slots();
    decision
}

/// The decision, and how many slots it has looked at.
fn look(pod: &PodInfo, profile: &Profile, snapshot: &Snapshot, draw: Draw<'_>) -> (Decision, usize) {
    let checks = match Checks::new(profile, pod, snapshot) {
        Ok(checks) => checks,
        Err((at, why)) => return (refused_by_one(pod, profile, snapshot, at, &why), 0),
    };
    let pass = pass(pod, profile, snapshot, &checks);
    if pass.candidates.is_empty() {
        return (refuse(pod, profile, snapshot, &checks, &pass, draw), pass.seen);
    }
    let best = best(pod, profile, snapshot, &pass.candidates, draw);
    (Decision::Place(snapshot.node(best).map(|n| n.name.clone()).unwrap_or_default()), pass.seen)
}

fn pass(pod: &PodInfo, profile: &Profile, snapshot: &Snapshot, checks: &Checks<'_>) -> Pass {
    let mut pass = Pass::default();
    let nominated = snapshot.nominations.node_of(&pod.uid).unwrap_or(&pod.nominated);
    if let Some(slot) = snapshot.slot(nominated) {
        let mut alone = Pass::default();
        alone.test(slot, checks, &mut Refusal::default());
        if !alone.candidates.is_empty() {
            return alone;
        }
    }
    let mut refusal = Refusal::default();
    if let Some((names, by)) = &checks.only {
        let named: Vec<usize> = names.iter().filter_map(|n| snapshot.slot(n)).collect();
        let rest = snapshot.len() - named.len();
        named.into_iter().for_each(|slot| pass.test(slot, checks, &mut refusal));
        if rest > 0 {
            let name = profile.filters[*by].name();
            pass.reasons.add(&format!("node(s) didn't satisfy plugin(s) [{name}]").into(), rest);
            pass.by.add(*by);
        }
        return pass;
    }
    let (slots, enough) = (snapshot.slots(), profile.enough(snapshot.len()));
    let first = snapshot.rotation.min(slots);
    for slot in (first..slots).chain(0..first) {
        pass.seen += 1;
        if !snapshot.is_used(slot) {
            continue;
        }
        pass.test(slot, checks, &mut refusal);
        if pass.candidates.len() >= enough {
            break;
        }
    }
    pass
}

impl Pass {
    fn test(&mut self, slot: usize, checks: &Checks<'_>, refusal: &mut Refusal) {
        refusal.clear();
        match checks.run(slot, &mut WhatIf::default(), refusal) {
            None => self.candidates.push(slot),
            Some(filter) => {
                self.by.add(filter);
                refusal.reasons.iter().for_each(|r| self.reasons.add(r, 1));
                if !refusal.unresolvable {
                    self.potential.push(slot);
                }
            }
        }
    }
}

fn refused_by_one(pod: &PodInfo, profile: &Profile, snapshot: &Snapshot, at: usize, why: &str) -> Decision {
    let mut by = Refusers::default();
    by.add(at);
    let nodes = snapshot.len();
    let mut message = format!("0/{nodes} nodes are available: {why}.");
    let mut nomination = Nomination::Clear;
    if profile.preemption.is_some() {
        let mut reasons = Histogram::default();
        reasons.add(&"Preemption is not helpful for scheduling".into(), nodes);
        let text = if pod.preempts {
            format!(" preemption: {}", reasons.message(nodes))
        } else {
            nomination = Nomination::Keep;
            " preemption: not eligible due to preemptionPolicy=Never.".into()
        };
        message.push_str(&text);
    }
    Decision::Refuse(Refused { message, by, nomination })
}

fn refuse(
    pod: &PodInfo,
    profile: &Profile,
    snapshot: &Snapshot,
    checks: &Checks<'_>,
    pass: &Pass,
    draw: Draw<'_>,
) -> Decision {
    let mut message = pass.reasons.message(snapshot.len());
    let outcome = profile.preemption.map(|a| preempt::search(pod, a, snapshot, checks, &pass.potential, draw));
    let mut nomination = Nomination::Keep;
    match outcome {
        None => {}
        Some(Outcome::Victims(node, victims)) => nomination = Nomination::Node(node, victims),
        Some(Outcome::Hopeless(why)) => {
            nomination = Nomination::Clear;
            message = format!("{message} {why}");
        }
        Some(Outcome::NotEligible(why)) => message = format!("{message} {why}"),
    }
    Decision::Refuse(Refused { message, by: pass.by, nomination })
}

/// The candidate with the highest weighted score; among equals one is drawn.
fn best(pod: &PodInfo, profile: &Profile, snapshot: &Snapshot, candidates: &[usize], draw: Draw<'_>) -> usize {
    if let [only] = candidates {
        return *only;
    }
    let totals = totals(pod, profile, snapshot, candidates);
    let top = totals.iter().copied().max().unwrap_or(0);
    let tied = totals.iter().filter(|t| **t == top).count();
    let chosen = draw(tied);
    let mut tied = candidates.iter().zip(&totals).filter(|(_, t)| **t == top).map(|(slot, _)| *slot);
    tied.nth(chosen).unwrap_or(candidates[0])
}

/// The weighted scores of all candidates.
pub(crate) fn totals(pod: &PodInfo, profile: &Profile, snapshot: &Snapshot, candidates: &[usize]) -> Vec<i64> {
    let mut totals = vec![0_i64; candidates.len()];
    let mut scores = Vec::with_capacity(candidates.len());
    for (plugin, weight) in &profile.scores {
        let Some(score) = plugin.prepare(pod, snapshot, candidates) else { continue };
        scores.clear();
        scores.extend(candidates.iter().map(|slot| score(*slot)));
        plugin.normalize().apply(&mut scores);
        tracing::trace!(plugin = plugin.name(), ?scores, "rated");
        totals.iter_mut().zip(&scores).for_each(|(total, s)| *total += s * weight);
    }
    totals
}

/// The candidates of one pass over all nodes, for tests that compare.
#[cfg(test)]
pub(crate) fn feasible(pod: &PodInfo, profile: &Profile, snapshot: &mut Snapshot) -> Vec<usize> {
    snapshot.refresh(pod, &profile.topologies);
    match Checks::new(profile, pod, snapshot) {
        Ok(checks) => pass(pod, profile, snapshot, &checks).candidates,
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
#[path = "cycle_tests.rs"]
mod tests;
