//! Which pods would have to go so that a more important one fits: the fewest and least important on
//! the node where that hurts least. Pure; the victims go elsewhere.

use crate::cycle::{Checks, Draw, Histogram};
use crate::framework::{Refusal, WhatIf};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use crate::world::Budget;
use smol_str::SmolStr;
use std::cmp::Reverse;
use std::sync::Arc;

/// How many nodes a search looks at before it takes the best it has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PreemptionArgs {
    pub(crate) percentage: usize,
    pub(crate) absolute: usize,
}

impl Default for PreemptionArgs {
    fn default() -> Self {
        Self { percentage: 10, absolute: 100 }
    }
}

/// What a search comes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// The pod is to have this node once these pods are gone.
    Victims(SmolStr, Vec<Arc<PodInfo>>),
    /// It helps on no node; what the refusal says about that. The pod's nomination is void.
    Hopeless(String),
    /// It is not for this pod, or not now.
    NotEligible(String),
}

/// A node and who would have to go.
struct Candidate {
    slot: usize,
    /// Most important first.
    victims: Vec<Arc<PodInfo>>,
    violations: usize,
}

/// Looks for victims. `potential` are the nodes where fewer pods might help; `hopeless` says whether
/// the pod's nominated node is beyond help.
pub(crate) fn search(
    pod: &PodInfo,
    args: PreemptionArgs,
    snapshot: &Snapshot,
    checks: &Checks<'_>,
    potential: &[usize],
    draw: Draw<'_>,
) -> Outcome {
    if !pod.preempts {
        return Outcome::NotEligible("preemption: not eligible due to preemptionPolicy=Never.".into());
    }
    if waits_for_victims(pod, snapshot, potential) {
        let text = "preemption: not eligible due to a terminating pod on the nominated node.";
        return Outcome::NotEligible(text.into());
    }
    let mut reasons = Histogram::default();
    let found = candidates(pod, args, snapshot, checks, potential, draw, &mut reasons);
    match found.into_iter().reduce(|best, next| if rank(&next) < rank(&best) { next } else { best }) {
        Some(best) => {
            let node = snapshot.node(best.slot).map(|n| n.name.clone()).unwrap_or_default();
            Outcome::Victims(node, best.victims)
        }
        None => {
            let rest = snapshot.len() - potential.len();
            reasons.add(&"Preemption is not helpful for scheduling".into(), rest);
            Outcome::Hopeless(format!("preemption: {}", reasons.message(snapshot.len())))
        }
    }
}

/// Are victims of the pod still on their way out? Where the nominated node is beyond help, that is no
/// reason to wait.
fn waits_for_victims(pod: &PodInfo, snapshot: &Snapshot, potential: &[usize]) -> bool {
    let node = snapshot.nominations.node_of(&pod.uid).unwrap_or(&pod.nominated);
    let Some(slot) = snapshot.slot(node).filter(|s| potential.contains(s)) else { return false };
    snapshot.pods(slot).iter().any(|p| p.priority < pod.priority && p.deleting && p.preempted)
}

fn candidates(
    pod: &PodInfo,
    args: PreemptionArgs,
    snapshot: &Snapshot,
    checks: &Checks<'_>,
    potential: &[usize],
    draw: Draw<'_>,
    reasons: &mut Histogram,
) -> Vec<Candidate> {
    let enough = (potential.len() * args.percentage / 100).max(args.absolute);
    let offset = if potential.is_empty() { 0 } else { draw(potential.len()) };
    let mut found: Vec<Candidate> = Vec::new();
    let mut harmless = false;
    let mut refusal = Refusal::default();
    for slot in potential.iter().cycle().skip(offset).take(potential.len()) {
        refusal.clear();
        match victims_on(*slot, pod, snapshot, checks, &mut refusal) {
            Some(candidate) => {
                harmless |= candidate.violations == 0;
                found.push(candidate);
            }
            None => refusal.reasons.iter().for_each(|r| reasons.add(r, 1)),
        }
        if harmless && found.len() >= enough {
            break;
        }
    }
    found
}

/// The fewest victims on one node; None: not even without all of them, as `refusal` says.
fn victims_on(
    slot: usize,
    pod: &PodInfo,
    snapshot: &Snapshot,
    checks: &Checks<'_>,
    refusal: &mut Refusal,
) -> Option<Candidate> {
    let mut lesser: Vec<&Arc<PodInfo>> = snapshot.pods(slot).iter().filter(|p| p.priority < pod.priority).collect();
    if lesser.is_empty() {
        refusal.for_good("No preemption victims found for incoming pod");
        return None;
    }
    let mut what_if = WhatIf::default();
    lesser.iter().for_each(|p| what_if.remove(p));
    checks.run(slot, &mut what_if, refusal);
    if !refusal.is_empty() {
        return None;
    }
    lesser.sort_by(|a, b| importance(a).cmp(&importance(b)));
    let (violating, harmless) = by_budget(&lesser, snapshot);
    let mut victims: Vec<Arc<PodInfo>> = Vec::new();
    let mut violations = 0;
    for (protected, list) in [(true, violating), (false, harmless)] {
        for candidate in list {
            what_if.keep(candidate);
            refusal.clear();
            checks.run(slot, &mut what_if, refusal);
            if !refusal.is_empty() {
                what_if.remove(candidate);
                victims.push(Arc::clone(candidate));
                violations += usize::from(protected);
            }
        }
    }
    victims.sort_by(|a, b| importance(a).cmp(&importance(b)));
    Some(Candidate { slot, victims, violations })
}

/// Sorts the most important first: by priority, then by age. A pod that has not started is the youngest.
fn importance(pod: &PodInfo) -> (Reverse<i32>, bool, &str) {
    (Reverse(pod.priority), pod.started.is_empty(), &pod.started)
}

/// Splits off the pods that a budget does not allow to go, given that those before them go.
fn by_budget<'a>(pods: &[&'a Arc<PodInfo>], snapshot: &Snapshot) -> (Vec<&'a Arc<PodInfo>>, Vec<&'a Arc<PodInfo>>) {
    if !snapshot.world.has_budgets() {
        return (Vec::new(), pods.to_vec());
    }
    let mut left: Vec<(*const Budget, i64)> = Vec::new();
    let mut breaks = |pod: &PodInfo| {
        let mut broken = false;
        for budget in snapshot.world.budgets(&pod.name.namespace).filter(|b| b.protects(pod)) {
            let at = left.iter().position(|(b, _)| std::ptr::eq(*b, budget)).unwrap_or_else(|| {
                left.push((budget, budget.allowed));
                left.len() - 1
            });
            left[at].1 -= 1;
            broken |= left[at].1 < 0;
        }
        broken
    };
    pods.iter().copied().partition(|p| breaks(p))
}

/// Sorts the candidate that hurts least first: fewest broken budgets, least important top victim,
/// lowest sum of priorities, fewest victims, and the youngest among those of the top priority.
type Rank<'a> = (usize, i32, i64, usize, Reverse<(bool, &'a str)>);

fn rank(candidate: &Candidate) -> Rank<'_> {
    let victims = &candidate.victims;
    let top = victims.first().map_or(i32::MIN, |p| p.priority);
    let sum = victims.iter().map(|p| i64::from(p.priority) + (i64::from(i32::MAX) + 1)).sum();
    let oldest = victims.iter().filter(|p| p.priority == top).map(|p| (p.started.is_empty(), p.started.as_str())).min();
    (candidate.violations, top, sum, victims.len(), Reverse(oldest.unwrap_or_default()))
}
