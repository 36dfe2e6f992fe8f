//! How full a node's resources would be with the pod, for the scores that compare that.

use crate::pod::PodInfo;
use crate::pod::requests::{CPU, MEMORY};
use crate::snapshot::{Column, Snapshot};
use smol_str::SmolStr;

/// A resource and how much it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Weighed {
    pub(crate) resource: SmolStr,
    pub(crate) weight: i64,
}

impl Weighed {
    /// CPU and memory alike.
    pub(crate) fn usual() -> Vec<Self> {
        [CPU, MEMORY].into_iter().map(|r| Self { resource: r.into(), weight: 1 }).collect()
    }
}

/// What is asked of one resource.
pub(super) struct Share<'a> {
    column: &'a Column,
    /// Which part of the assumed weights stands for the use of this resource; None: none, its real use.
    assumed: Option<fn((i64, i64)) -> i64>,
    asked: i64,
    pub(super) weight: i64,
}

impl Share<'_> {
    /// What would be in use on a node, and of how much; None where it offers none.
    pub(super) fn on(&self, snapshot: &Snapshot, slot: usize) -> Option<(i64, i64)> {
        let allocatable = self.column.allocatable[slot];
        if allocatable == 0 {
            return None;
        }
        let used = self.assumed.map_or_else(|| self.column.used(slot), |part| part(snapshot.weight(slot)));
        Some((used.saturating_add(self.asked), allocatable))
    }
}

/// The resources that count for this pod. With `assume`, containers that ask for no CPU or memory
/// count as if they asked for a little.
pub(super) fn shares<'a>(pod: &PodInfo, snapshot: &'a Snapshot, resources: &[Weighed], assume: bool) -> Vec<Share<'a>> {
    let share = |r: &Weighed| {
        let part: Option<fn((i64, i64)) -> i64> = match r.resource.as_str() {
            CPU if assume => Some(|w| w.0),
            MEMORY if assume => Some(|w| w.1),
            _ => None,
        };
        let asked = part.map_or_else(|| pod.request(&r.resource), |part| part(pod.weight));
        // What few nodes have only counts for pods that ask for it.
        if asked == 0 && is_extended(&r.resource) {
            return None;
        }
        Some(Share { column: snapshot.column(&r.resource)?, assumed: part, asked, weight: r.weight })
    };
    resources.iter().filter_map(share).collect()
}

/// Is it a resource that does not come with every node?
pub(super) fn is_extended(resource: &str) -> bool {
    resource.contains('/') || resource.starts_with("hugepages-") || resource.starts_with("attachable-volumes-")
}
