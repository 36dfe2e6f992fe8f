//! One decision: pure in pod, snapshot and random numbers.

use crate::framework::{Events, Filter, FilterFn, Normalize, Reason};
use crate::plugins::{FILTERS, SCORES};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use smol_str::SmolStr;
use std::collections::BTreeMap;

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It goes to this node.
    Place(SmolStr),
    /// No node will do.
    Refuse {
        /// Kubernetes' text: how many nodes for which reasons.
        message: String,
        /// What may help.
        helped_by: Events,
    },
}

/// Draws a number below its argument, which is at least 1.
pub(crate) type Draw<'a> = &'a mut dyn FnMut(usize) -> usize;

/// Decides.
pub(crate) fn decide(pod: &PodInfo, snapshot: &Snapshot, draw: Draw<'_>) -> Decision {
    if snapshot.len() == 0 {
        return Decision::Refuse {
            message: "no nodes available to schedule pods".into(),
            helped_by: Events::NODE_ADDED,
        };
    }
    match filter(pod, snapshot) {
        Ok(candidates) => {
            let best = best(pod, snapshot, &candidates, draw);
            let name = snapshot.node(best).map(|n| n.name.clone()).unwrap_or_default();
            Decision::Place(name)
        }
        Err(refusal) => refusal,
    }
}

/// The nodes that pass every filter, or why none does.
fn filter(pod: &PodInfo, snapshot: &Snapshot) -> Result<Vec<usize>, Decision> {
    let tests: Vec<(&dyn Filter, FilterFn<'_>)> =
        FILTERS.iter().filter_map(|f| Some((*f, f.prepare(pod, snapshot)?))).collect();
    let mut candidates = Vec::new();
    let mut reasons: BTreeMap<Reason, usize> = BTreeMap::new();
    let mut helped_by = Events::NODE_ADDED;
    let mut why = Vec::new();
    for (slot, _) in snapshot.nodes() {
        let refused = tests.iter().find(|(_, test)| {
            test(slot, &mut why);
            !why.is_empty()
        });
        match refused {
            None => candidates.push(slot),
            Some((plugin, _)) => {
                tracing::trace!(plugin = plugin.name(), slot, ?why, "refused");
                helped_by = helped_by.and(plugin.helped_by());
            }
        }
        for reason in why.drain(..) {
            *reasons.entry(reason).or_insert(0) += 1;
        }
    }
    if candidates.is_empty() {
        return Err(Decision::Refuse { message: message(snapshot.len(), &reasons), helped_by });
    }
    Ok(candidates)
}

/// `0/5 nodes are available: 2 node(s) were unschedulable, 3 Insufficient cpu.`
fn message(nodes: usize, reasons: &BTreeMap<Reason, usize>) -> String {
    let mut counted: Vec<String> = reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    counted.sort();
    format!("0/{nodes} nodes are available: {}.", counted.join(", "))
}

/// The candidate with the highest weighted score; among equals one is drawn.
fn best(pod: &PodInfo, snapshot: &Snapshot, candidates: &[usize], draw: Draw<'_>) -> usize {
    if let [only] = candidates {
        return *only;
    }
    let mut totals = vec![0_i64; candidates.len()];
    for plugin in SCORES {
        let Some(score) = plugin.prepare(pod, snapshot, candidates) else { continue };
        let mut scores: Vec<i64> = candidates.iter().map(|slot| score(*slot)).collect();
        normalize(&mut scores, plugin.normalize());
        tracing::trace!(plugin = plugin.name(), ?scores, "rated");
        totals.iter_mut().zip(scores).for_each(|(total, s)| *total += s * plugin.weight());
    }
    let top = totals.iter().copied().max().unwrap_or(0);
    let tied: Vec<usize> = candidates.iter().zip(&totals).filter(|(_, t)| **t == top).map(|(slot, _)| *slot).collect();
    tied[draw(tied.len())]
}

fn normalize(scores: &mut [i64], how: Normalize) {
    let (max, min) = (scores.iter().copied().max().unwrap_or(0), scores.iter().copied().min().unwrap_or(0));
    match how {
        Normalize::AsIs => {}
        Normalize::HighestBest if max > 0 => scores.iter_mut().for_each(|s| *s = *s * 100 / max),
        Normalize::LowestBest if max > 0 => scores.iter_mut().for_each(|s| *s = 100 * (max + min - *s) / max),
        Normalize::HighestBest | Normalize::LowestBest => {
            scores.fill(if how == Normalize::LowestBest { 100 } else { 0 })
        }
    }
}

#[cfg(test)]
#[path = "cycle_tests.rs"]
mod tests;
