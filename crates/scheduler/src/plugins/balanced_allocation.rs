//! Prefers nodes whose resources would be used evenly.

use super::allocation::{Share, Weighed, shares};
use crate::framework::{Normalize, Score, ScoreFn};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

pub(super) struct BalancedAllocation {
    pub(super) resources: Vec<Weighed>,
}

impl Score for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }
    fn normalize(&self) -> Normalize {
        Normalize::AsIs
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot, _: &[usize]) -> Option<ScoreFn<'a>> {
        // A pod that asks for nothing changes no balance; the same node would win every time.
        if self.resources.iter().all(|r| pod.request(&r.resource) == 0) {
            return None;
        }
        let shares = shares(pod, snapshot, &self.resources, false);
        Some(Box::new(move |slot| rate(&shares, snapshot, slot)))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a rating of 0 to 100")]
fn rate(shares: &[Share<'_>], snapshot: &Snapshot, slot: usize) -> i64 {
    let fractions = || {
        let used = shares.iter().filter_map(|s| s.on(snapshot, slot));
        used.map(|(used, allocatable)| (used as f64 / allocatable as f64).min(1.0))
    };
    let deviation = match fractions().count() {
        0 | 1 => 0.0,
        // Of two, the standard deviation is half their distance.
        2 => fractions().reduce(|a, b| (a - b).abs() / 2.0).unwrap_or(0.0),
        n => {
            let mean = fractions().sum::<f64>() / n as f64;
            (fractions().map(|f| (f - mean) * (f - mean)).sum::<f64>() / n as f64).sqrt()
        }
    };
    ((1.0 - deviation) * 100.0) as i64
}
