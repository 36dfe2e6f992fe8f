//! Affinity between pods, in both directions: what the pod wants of those that are there, and what
//! those want of it.

use crate::framework::{Events, Filter, Happening, Normalize, Prepared, Score, ScoreFn, WhatIf};
use crate::held::{Held, Stance};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::pod::terms::{Term, Who};
use crate::snapshot::Snapshot;
use crate::tally::Domains;
use crate::topology::{NOWHERE, Topology};
use std::sync::Arc;

/// The plugin's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AffinityArgs {
    /// How much a placed pod's required affinity to the pod counts when nodes are rated.
    pub(crate) hard_weight: i64,
    /// Wishes of placed pods count only for pods that have wishes themselves.
    pub(crate) ignore_placed_wishes: bool,
}

impl Default for AffinityArgs {
    fn default() -> Self {
        Self { hard_weight: 1, ignore_placed_wishes: false }
    }
}

pub(super) struct InterPodAffinity {
    pub(super) args: AffinityArgs,
}

/// Counts of pods in the domains of one term.
struct Counts<'a> {
    term: &'a Term,
    topology: &'a Topology,
    domains: Arc<Domains>,
}

impl<'a> Counts<'a> {
    /// Of `who`, in the domains of `term`.
    fn of(who: &Who, term: &'a Term, snapshot: &'a Snapshot) -> Option<Self> {
        let domains = snapshot.domains(who, &term.topology, &"".into(), |_| true)?;
        Some(Self { term, topology: snapshot.topology(&term.topology)?, domains })
    }
}

/// By how much a change moves the number of `who` on the slot's node.
fn shift(what_if: &WhatIf<'_>, who: &Who, snapshot: &Snapshot) -> i64 {
    if what_if.is_nothing() { 0 } else { what_if.shift(|p| i64::from(snapshot.covers(who, p))) }
}

/// Do the pods there satisfy what the pod requires?
fn has_company(
    slot: usize,
    what_if: &WhatIf<'_>,
    together: &Who,
    required: &[Counts<'_>],
    alone: bool,
    snapshot: &Snapshot,
) -> bool {
    if required.iter().any(|c| c.topology.of(slot) == NOWHERE) {
        return false;
    }
    let shift = shift(what_if, together, snapshot);
    if required.iter().all(|c| c.domains.count(c.topology.of(slot)) + shift > 0) {
        return true;
    }
    // The first of pods that want each other's company finds none.
    alone && required.iter().all(|c| c.domains.total() + shift <= 0)
}

/// What a placed pod's own terms of one kind weigh.
fn refusals(pod: &PodInfo, held: &Held) -> i64 {
    i64::try_from(pod.company.avoided.iter().filter(|t| **t == held.term).count()).unwrap_or(i64::MAX)
}

impl Filter for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }
    fn events(&self) -> Events {
        let pods = Events::POD_PLACED.and(Events::POD_CHANGED).and(Events::POD_GONE);
        Events::NODES.and(pods).and(Events::NAMESPACE)
    }
    fn helps(&self, pod: &PodInfo, happening: &Happening<'_>) -> bool {
        let company = |other: &PodInfo| pod.company.required.iter().any(|t| t.who.may_cover(other));
        let obstacle = |other: &PodInfo| {
            pod.company.avoided.iter().any(|t| t.who.may_cover(other))
                || other.company.avoided.iter().any(|t| t.who.may_cover(pod))
        };
        match happening {
            Happening::PodPlaced(other) => company(other),
            Happening::PodGone(other) => obstacle(other),
            Happening::PodChanged(old, new) => {
                old.labels != new.labels && (company(new) || obstacle(old) && !obstacle(new))
            }
            Happening::NodeAdded(_) | Happening::NodeChanged(..) => {
                happening.node_differs(|n: &NodeInfo| n.labels.clone())
            }
            _ => true,
        }
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Prepared<'a> {
        let refusing: Vec<(&Held, &Topology)> = snapshot
            .held_about(pod)
            .filter(|h| h.stance == Stance::Refuses)
            .filter_map(|h| Some((h, snapshot.topology(&h.term.topology)?)))
            .collect();
        let company = &pod.company;
        let together = Who::all_of(&company.required);
        let required: Vec<Counts<'a>> =
            company.required.iter().filter_map(|t| Counts::of(&together, t, snapshot)).collect();
        let avoided: Vec<Counts<'a>> = company.avoided.iter().filter_map(|t| Counts::of(&t.who, t, snapshot)).collect();
        let settled = snapshot.nominations.is_empty();
        if refusing.is_empty() && required.is_empty() && avoided.is_empty() && settled {
            return Prepared::Skip;
        }
        let alone = snapshot.covers(&together, pod);
        Prepared::test(move |slot, what_if, refusal| {
            if !required.is_empty() && !has_company(slot, what_if, &together, &required, alone, snapshot) {
                return refusal.for_good("node(s) didn't match pod affinity rules");
            }
            let meets = |c: &Counts<'_>| {
                let domain = c.topology.of(slot);
                domain != NOWHERE && c.domains.count(domain) + shift(what_if, &c.term.who, snapshot) > 0
            };
            if avoided.iter().any(meets) {
                return refusal.for_now("node(s) didn't match pod anti-affinity rules");
            }
            let refuses = |(held, topology): &(&Held, &Topology)| {
                let domain = topology.of(slot);
                let shift = if what_if.is_nothing() { 0 } else { what_if.shift(|p| refusals(p, held)) };
                domain != NOWHERE && held.weight(domain) + shift > 0
            };
            if refusing.iter().any(refuses) || comes_first(what_if, pod, slot, snapshot) {
                refusal.for_now("node(s) didn't satisfy existing pods anti-affinity rules");
            }
        })
    }
}

/// Does a pod that is to come to the node refuse this one?
fn comes_first(what_if: &WhatIf<'_>, pod: &PodInfo, slot: usize, snapshot: &Snapshot) -> bool {
    let refuses = |t: &Term| {
        let keyed = snapshot.node(slot).is_some_and(|n| n.label(&t.topology).is_some());
        keyed && snapshot.covers(&t.who, pod)
    };
    what_if.extra().iter().any(|p| p.company.avoided.iter().any(refuses))
}

/// What adds to a node's rating.
enum Source<'a> {
    /// Pods that the pod likes or dislikes.
    Pods(Arc<Domains>, i64),
    /// Pods that like or dislike the pod.
    Held(&'a Held, i64),
}

impl Score for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }
    fn normalize(&self) -> Normalize {
        Normalize::Stretched
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot, _: &[usize]) -> Option<ScoreFn<'a>> {
        let company = &pod.company;
        let own = company.preferred.iter().map(|(w, t)| (*w, t)).chain(company.disliked.iter().map(|(w, t)| (-w, t)));
        let of_pod = own.filter_map(|(weight, term)| {
            let counts = Counts::of(&term.who, term, snapshot)?;
            Some((counts.topology, Source::Pods(counts.domains, weight)))
        });
        let wishes = !company.preferred.is_empty() || !company.disliked.is_empty();
        let of_others = snapshot.held_about(pod).filter_map(|held| {
            let factor = match held.stance {
                Stance::Refuses => return None,
                Stance::Requires => self.args.hard_weight,
                Stance::Likes => 1,
            };
            Some((snapshot.topology(&held.term.topology)?, Source::Held(held, factor)))
        });
        let of_others = of_others.filter(|_| wishes || !self.args.ignore_placed_wishes);
        let sources: Vec<(&Topology, Source<'a>)> = of_pod.chain(of_others).collect();
        if sources.is_empty() {
            return None;
        }
        Some(Box::new(move |slot| {
            let add = |(topology, source): &(&Topology, Source<'_>)| match source {
                Source::Pods(domains, weight) => domains.count(topology.of(slot)) * weight,
                Source::Held(held, factor) => held.weight(topology.of(slot)) * factor,
            };
            sources.iter().map(add).sum()
        }))
    }
}
