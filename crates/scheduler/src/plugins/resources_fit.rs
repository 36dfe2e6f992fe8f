//! Requests must fit into what a node has left; nodes with more left are better (least allocated).

use crate::framework::{Events, Filter, FilterFn, Normalize, Reason, Score, ScoreFn};
use crate::pod::{CPU, MEMORY, PODS, PodInfo};
use crate::snapshot::{Column, Snapshot};

pub(super) struct ResourcesFit;

impl Filter for ResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }
    fn helped_by(&self) -> Events {
        Events::NODE_ADDED.and(Events::NODE_CAPACITY).and(Events::POD_GONE)
    }
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<FilterFn<'a>> {
        let wanted: Vec<(Option<&Column>, i64, Reason)> = pod
            .footprint
            .requests
            .iter()
            .map(|(name, amount)| {
                let reason = if name == PODS { "Too many pods".into() } else { format!("Insufficient {name}").into() };
                (snapshot.column(name), *amount, reason)
            })
            .collect();
        Some(Box::new(move |slot, reasons| {
            for (column, amount, reason) in &wanted {
                if column.is_none_or(|c| c.allocatable[slot] - c.used[slot] < *amount) {
                    reasons.push(reason.clone());
                }
            }
        }))
    }
}

impl Score for ResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }
    fn weight(&self) -> i64 {
        1
    }
    fn normalize(&self) -> Normalize {
        Normalize::AsIs
    }
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot, _: &[usize]) -> Option<ScoreFn<'a>> {
        Some(Box::new(move |slot| {
            let (cpu, memory) = shares(pod, snapshot, slot);
            let left = |share: Option<f64>| share.map_or(0.0, |s| (1.0 - s).max(0.0) * 100.0);
            let offered = [cpu, memory].iter().filter(|s| s.is_some()).count().max(1);
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a rating of 0 to 100")]
            let rating = ((left(cpu) + left(memory)) / offered as f64) as i64;
            rating
        }))
    }
}

/// Which share of a node's CPU and memory would be in use with the pod; None where it offers none.
#[expect(clippy::cast_precision_loss, reason = "a share for a rating")]
pub(super) fn shares(pod: &PodInfo, snapshot: &Snapshot, slot: usize) -> (Option<f64>, Option<f64>) {
    let (cpu, memory) = snapshot.weight(slot);
    let share = |resource: &str, used: i64| {
        let allocatable = snapshot.column(resource).map_or(0, |c| c.allocatable[slot]);
        (allocatable > 0).then(|| used as f64 / allocatable as f64)
    };
    (share(CPU, cpu + pod.footprint.weight.0), share(MEMORY, memory + pod.footprint.weight.1))
}
