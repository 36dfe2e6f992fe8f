//! The extension traits. A plugin looks at the pod once per cycle and returns a closure over nodes,
//! or nothing when it has no say about this pod; whatever it computes beforehand (counts per zone,
//! terms to match) lives in that closure.

use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use std::borrow::Cow;

/// Why a node will not do, in Kubernetes' words.
pub(crate) type Reason = Cow<'static, str>;

/// Says why one node will not do: no reason means it will.
pub(crate) type FilterFn<'a> = Box<dyn Fn(usize, &mut Vec<Reason>) + 'a>;

/// Rates one node; higher is better. Brought to 0..=100 over all candidates by [`Normalize`].
pub(crate) type ScoreFn<'a> = Box<dyn Fn(usize) -> i64 + 'a>;

/// Something that happens in the cluster and may let a refused pod fit. A set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Events(u8);

impl Events {
    /// A node was added.
    pub(crate) const NODE_ADDED: Self = Self(1);
    /// A node offers more.
    pub(crate) const NODE_CAPACITY: Self = Self(2);
    /// A node's labels changed.
    pub(crate) const NODE_LABELS: Self = Self(4);
    /// A node's taints (or its unschedulable mark) changed.
    pub(crate) const NODE_TAINTS: Self = Self(8);
    /// A pod left a node.
    pub(crate) const POD_GONE: Self = Self(16);

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// Have they anything in common?
    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
    /// No event at all?
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Excludes nodes.
pub(crate) trait Filter: Sync {
    /// Name, as in Kubernetes.
    fn name(&self) -> &'static str;
    /// What may let a pod fit that this plugin refused.
    fn helped_by(&self) -> Events;
    /// The test for this pod; None: every node will do.
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<FilterFn<'a>>;
}

/// How raw scores become 0..=100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Normalize {
    /// They already are.
    AsIs,
    /// The highest becomes 100.
    HighestBest,
    /// The lowest becomes 100.
    LowestBest,
}

/// Rates nodes.
pub(crate) trait Score: Sync {
    /// Name, as in Kubernetes.
    fn name(&self) -> &'static str;
    /// Weight among the scores.
    fn weight(&self) -> i64;
    /// How raw scores become 0..=100.
    fn normalize(&self) -> Normalize;
    /// The rating for this pod; None: all nodes are equal. `candidates` passed every filter.
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot, candidates: &[usize]) -> Option<ScoreFn<'a>>;
}
