//! Spreads pods over the domains of topologies: as a condition, or as a wish. Pods of a service or
//! controller that ask for nothing are spread over host names and zones.

use super::taint_toleration::opens;
use crate::framework::{Events, Filter, Happening, LEFT_OUT, Normalize, Prepared, Score, ScoreFn};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::pod::spec::SpreadPart;
use crate::pod::terms::{Spread, Who, from_part};
use crate::snapshot::Snapshot;
use crate::tally::Domains;
use crate::topology::{NOWHERE, Topology};
use smol_str::SmolStr;
use std::sync::Arc;

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The plugin, with constraints for pods that bring none.
pub(super) struct TopologySpread {
    defaults: Vec<SpreadPart>,
    /// The defaults are the system's own: nodes need not have all their labels.
    lenient: bool,
}

/// The system's own defaults.
fn system() -> Vec<SpreadPart> {
    let part = |max_skew, key: &str| SpreadPart {
        max_skew,
        topology_key: key.into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        ..SpreadPart::default()
    };
    vec![part(3, HOST), part(5, ZONE)]
}

/// The topologies that the system's defaults need.
pub(crate) fn default_topologies(given: Option<&[SpreadPart]>) -> Vec<SmolStr> {
    given.map_or_else(system, <[_]>::to_vec).into_iter().map(|c| c.topology_key).collect()
}

impl TopologySpread {
    /// With the given defaults, or the system's.
    pub(super) fn new(defaults: Option<Vec<SpreadPart>>) -> Self {
        Self { lenient: defaults.is_none(), defaults: defaults.unwrap_or_else(system) }
    }
    /// The constraints that hold for a pod.
    fn constraints(&self, pod: &PodInfo, snapshot: &Snapshot, strict: bool) -> Vec<Spread> {
        if !pod.spread.is_empty() {
            return pod.spread.iter().filter(|c| c.strict == strict).cloned().collect();
        }
        let of_kind = |c: &&SpreadPart| (c.when_unsatisfiable == "DoNotSchedule") == strict;
        if !self.defaults.iter().any(|c| of_kind(&c)) {
            return Vec::new();
        }
        let Some(family) = snapshot.world.family(pod) else { return Vec::new() };
        let who = Who::living(&pod.name.namespace, family);
        self.defaults.iter().filter(of_kind).map(|c| from_part(c, who.clone())).collect()
    }
}

/// The counts of a constraint over the nodes that come into question for it.
fn counts(c: &Spread, all: &[Spread], strict_keys: bool, pod: &PodInfo, snapshot: &Snapshot) -> Option<Arc<Domains>> {
    let keys: Vec<&SmolStr> = if strict_keys { all.iter().map(|c| &c.topology).collect() } else { Vec::new() };
    let wanted = pod.wanted.as_ref().filter(|_| c.honor_affinity);
    let tolerations = c.honor_taints.then_some(&pod.tolerations);
    let group = format!("{keys:?}{:?}{tolerations:?}", wanted.map(|w| &w.key)).into();
    snapshot.domains(&c.who, &c.topology, &group, |node: &NodeInfo| {
        keys.iter().all(|k| node.label(k).is_some())
            && wanted.is_none_or(|w| w.fits(node))
            && tolerations.is_none_or(|t| opens(t, node))
    })
}

/// A constraint with what is known about it.
struct Rule<'a> {
    spread: Spread,
    topology: &'a Topology,
    domains: Arc<Domains>,
    /// Does the pod itself count?
    own: i64,
    lowest: i64,
}

impl Rule<'_> {
    fn lowest(&self, slot: usize, shift: i64) -> i64 {
        if self.domains.known() < self.spread.min_domains {
            return 0;
        }
        if shift == 0 { self.lowest } else { self.domains.lowest(slot, shift) }
    }
}

impl Filter for TopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }
    fn events(&self) -> Events {
        let pods = Events::POD_PLACED.and(Events::POD_CHANGED).and(Events::POD_GONE);
        Events::NODES.and(Events::NODE_GONE).and(pods)
    }
    fn helps(&self, pod: &PodInfo, happening: &Happening<'_>) -> bool {
        // What the defaults select is not known here: any pod of the namespace may matter to them.
        let strict = || pod.spread.iter().filter(|c| c.strict);
        let counts = |other: &PodInfo| {
            other.name.namespace == pod.name.namespace
                && (pod.spread.is_empty() || strict().any(|c| c.who.may_cover(other)))
        };
        let keyed = |node: &NodeInfo| strict().all(|c| node.label(&c.topology).is_some());
        match happening {
            Happening::PodPlaced(other) | Happening::PodGone(other) => counts(other),
            Happening::PodChanged(old, new) => counts(old) || counts(new),
            Happening::NodeAdded(node) | Happening::NodeGone(node) => keyed(node),
            Happening::NodeChanged(old, new) => !old.stands_like(new) && (keyed(old) || keyed(new)),
            _ => false,
        }
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Prepared<'a> {
        let all = self.constraints(pod, snapshot, true);
        let rule = |spread: &Spread| {
            let domains = counts(spread, &all, true, pod, snapshot)?;
            let own = i64::from(snapshot.covers(&spread.who, pod));
            let lowest = domains.lowest(0, 0);
            Some(Rule { spread: spread.clone(), topology: snapshot.topology(&spread.topology)?, domains, own, lowest })
        };
        let rules: Vec<Rule<'a>> = all.iter().filter_map(rule).collect();
        if rules.is_empty() {
            return Prepared::Skip;
        }
        Prepared::test(move |slot, what_if, refusal| {
            for rule in &rules {
                let domain = rule.topology.of(slot);
                if domain == NOWHERE {
                    let reason = "node(s) didn't match pod topology spread constraints (missing required label)";
                    return refusal.for_good(reason);
                }
                let shift = if what_if.is_nothing() || !rule.domains.includes(slot) {
                    0
                } else {
                    what_if.shift(|p| i64::from(snapshot.covers(&rule.spread.who, p)))
                };
                let there = rule.domains.count(domain) + shift + rule.own;
                if there - rule.lowest(slot, shift) > rule.spread.max_skew {
                    return refusal.for_now("node(s) didn't match pod topology spread constraints");
                }
            }
        })
    }
}

/// A wish with what is known about it.
struct Wish<'a> {
    topology: &'a Topology,
    counted: Counted,
    weight: f64,
    skew: i64,
}

/// Host names are counted node by node, everything else by domain.
enum Counted {
    Nodes(Arc<Vec<i64>>),
    Domains(Arc<Domains>),
}

impl Score for TopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }
    fn normalize(&self) -> Normalize {
        Normalize::Evenest
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "pod counts for a rating")]
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot, candidates: &[usize]) -> Option<ScoreFn<'a>> {
        let all = self.constraints(pod, snapshot, false);
        let strict_keys = !pod.spread.is_empty() || !self.lenient;
        let topologies: Vec<&Topology> = all.iter().filter_map(|c| snapshot.topology(&c.topology)).collect();
        if topologies.is_empty() {
            return None;
        }
        let rated = {
            let topologies = topologies.clone();
            move |slot: usize| !strict_keys || topologies.iter().all(|t| t.of(slot) != NOWHERE)
        };
        let wish = |(c, topology): (&Spread, &'a Topology)| {
            let on_nodes = c.topology == HOST;
            let counted = if on_nodes {
                Counted::Nodes(snapshot.by_slot(&c.who))
            } else {
                Counted::Domains(counts(c, &all, strict_keys, pod, snapshot)?)
            };
            let rated = candidates.iter().copied().filter(|s| rated(*s));
            let size = if on_nodes { rated.count() } else { distinct(rated, topology) };
            // The more domains there are, the more one pod too many in one of them counts.
            Some(Wish { topology, counted, weight: ((size + 2) as f64).ln(), skew: c.max_skew - 1 })
        };
        let wishes: Vec<Wish<'a>> = all.iter().zip(topologies).filter_map(wish).collect();
        Some(Box::new(move |slot| {
            if !rated(slot) {
                return LEFT_OUT;
            }
            let mut rating = 0.0;
            for wish in &wishes {
                let domain = wish.topology.of(slot);
                if domain == NOWHERE {
                    continue;
                }
                let count = match &wish.counted {
                    Counted::Nodes(by_slot) => by_slot.get(slot).copied().unwrap_or(0),
                    Counted::Domains(domains) => domains.count(domain),
                };
                rating += count as f64 * wish.weight + wish.skew as f64;
            }
            rating.round() as i64
        }))
    }
}

/// In how many domains the slots are; nodes outside all of them make one more.
fn distinct(slots: impl Iterator<Item = usize>, topology: &Topology) -> usize {
    let mut seen = vec![false; topology.len() + 1];
    for slot in slots {
        let domain = usize::try_from(topology.of(slot)).unwrap_or(usize::MAX).min(topology.len());
        seen[domain] = true;
    }
    seen.into_iter().filter(|s| *s).count()
}
