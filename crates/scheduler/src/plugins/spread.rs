//! Spreads the pods of one controller over nodes and, where nodes say which, over zones.

use crate::framework::{Normalize, Score, ScoreFn};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use std::collections::HashMap;

const ZONE: &str = "topology.kubernetes.io/zone";

pub(super) struct Spread;

impl Score for Spread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }
    fn weight(&self) -> i64 {
        2
    }
    fn normalize(&self) -> Normalize {
        Normalize::LowestBest
    }
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot, candidates: &[usize]) -> Option<ScoreFn<'a>> {
        let family = snapshot.family(&pod.footprint.family)?;
        let zone = |slot: usize| snapshot.node(slot).and_then(|n| n.label(ZONE));
        let mut zones: HashMap<&str, i64> = HashMap::new();
        for (slot, count) in family {
            if let Some(zone) = zone(*slot) {
                *zones.entry(zone).or_insert(0) += i64::from(*count);
            }
        }
        // A node weighs as much as a zone: both counts are averages per domain scaled by the number
        // of domains, as in Kubernetes' defaults for host names and zones.
        let mut names: Vec<&str> = candidates.iter().filter_map(|s| zone(*s)).collect();
        names.sort_unstable();
        names.dedup();
        let (hosts, zones_seen) = (weight(candidates.len()), weight(names.len()));
        Some(Box::new(move |slot| {
            let here = f64::from(family.get(&slot).copied().unwrap_or(0));
            #[expect(clippy::cast_precision_loss, reason = "a pod count for a rating")]
            let around = zone(slot).and_then(|z| zones.get(z)).map_or(0.0, |n| *n as f64);
            #[expect(clippy::cast_possible_truncation, reason = "a rating, rounded")]
            let rating = (here * hosts + around * zones_seen).round() as i64;
            rating
        }))
    }
}

/// The more domains there are, the more one pod too many in one of them counts.
#[expect(clippy::cast_precision_loss, reason = "a number of nodes")]
fn weight(domains: usize) -> f64 {
    ((domains + 2) as f64).ln()
}
