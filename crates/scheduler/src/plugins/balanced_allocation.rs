//! Prefers nodes whose CPU and memory would be used evenly.

use super::resources_fit::shares;
use crate::framework::{Normalize, Score, ScoreFn};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

pub(super) struct BalancedAllocation;

impl Score for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }
    fn weight(&self) -> i64 {
        1
    }
    fn normalize(&self) -> Normalize {
        Normalize::AsIs
    }
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot, _: &[usize]) -> Option<ScoreFn<'a>> {
        Some(Box::new(move |slot| {
            // Of two shares the standard deviation is half their distance.
            let deviation = match shares(pod, snapshot, slot) {
                (Some(cpu), Some(memory)) => (cpu.min(1.0) - memory.min(1.0)).abs() / 2.0,
                _ => 0.0,
            };
            #[expect(clippy::cast_possible_truncation, reason = "a rating of 0 to 100")]
            let rating = ((1.0 - deviation) * 100.0) as i64;
            rating
        }))
    }
}
