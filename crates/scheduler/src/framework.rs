//! The extension traits. A plugin looks at the pod once per cycle and returns a closure over nodes,
//! or nothing when it has no say about this pod; whatever it computes beforehand (counts per zone,
//! terms to match) lives in that closure.

use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use kybern_client::store::Name;
use smol_str::SmolStr;
use std::collections::HashSet;

/// Why a node will not do, in Kubernetes' words.
pub(crate) type Reason = SmolStr;

/// What a filter says about one node; without a reason the node will do.
#[derive(Debug, Default)]
pub(crate) struct Refusal {
    pub(crate) reasons: Vec<Reason>,
    /// Removing pods from the node would not change it.
    pub(crate) unresolvable: bool,
}

impl Refusal {
    /// Refuses the node as long as its pods stay.
    pub(crate) fn for_now(&mut self, reason: impl Into<Reason>) {
        self.reasons.push(reason.into());
    }
    /// Refuses the node whatever pods it has.
    pub(crate) fn for_good(&mut self, reason: impl Into<Reason>) {
        self.reasons.push(reason.into());
        self.unresolvable = true;
    }
    /// Has nobody refused?
    pub(crate) fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }
    /// Starts over.
    pub(crate) fn clear(&mut self) {
        self.reasons.clear();
        self.unresolvable = false;
    }
}

/// A change to the pods of the one node that is being looked at: victims that would go, nominated
/// pods that will come.
#[derive(Debug, Default)]
pub(crate) struct WhatIf<'a> {
    gone: Vec<&'a PodInfo>,
    extra: Vec<&'a PodInfo>,
    /// What the change adds to the use of each resource.
    delta: Vec<(&'a SmolStr, i64)>,
}

impl<'a> WhatIf<'a> {
    /// A pod of the node goes.
    pub(crate) fn remove(&mut self, pod: &'a PodInfo) {
        self.gone.push(pod);
        self.count(pod, -1);
    }
    /// A pod that [`WhatIf::remove`] took stays after all.
    pub(crate) fn keep(&mut self, pod: &PodInfo) {
        if let Some(at) = self.gone.iter().position(|g| g.uid == pod.uid) {
            let pod = self.gone.swap_remove(at);
            self.count(pod, 1);
        }
    }
    /// A pod comes to the node.
    pub(crate) fn add(&mut self, pod: &'a PodInfo) {
        self.extra.push(pod);
        self.count(pod, 1);
    }
    /// The pods that were to come do not come.
    pub(crate) fn drop_extra(&mut self) {
        for pod in std::mem::take(&mut self.extra) {
            self.count(pod, -1);
        }
    }
    /// Does it change nothing?
    pub(crate) fn is_nothing(&self) -> bool {
        self.gone.is_empty() && self.extra.is_empty()
    }
    /// What the change adds to the use of a resource.
    pub(crate) fn delta(&self, resource: &str) -> i64 {
        self.delta.iter().find(|(name, _)| *name == resource).map_or(0, |(_, n)| *n)
    }
    /// Is a pod going?
    pub(crate) fn is_gone(&self, pod: &PodInfo) -> bool {
        self.gone.iter().any(|g| g.uid == pod.uid)
    }
    /// The pods that come.
    pub(crate) fn extra(&self) -> &[&'a PodInfo] {
        &self.extra
    }
    /// By how much the change moves a count of pods: each pod that comes or goes counts `weight`.
    pub(crate) fn shift(&self, weight: impl Fn(&PodInfo) -> i64) -> i64 {
        self.extra.iter().map(|p| weight(p)).sum::<i64>() - self.gone.iter().map(|p| weight(p)).sum::<i64>()
    }

    fn count(&mut self, pod: &'a PodInfo, sign: i64) {
        for (name, amount) in &pod.requests {
            match self.delta.iter_mut().find(|(n, _)| *n == name) {
                Some((_, sum)) => *sum = sum.saturating_add(sign * amount),
                None => self.delta.push((name, sign * amount)),
            }
        }
    }
}

/// Says why one node will not do.
pub(crate) type FilterFn<'a> = Box<dyn Fn(usize, &WhatIf<'_>, &mut Refusal) + 'a>;

/// What a filter has to say about a pod before any node is looked at.
pub(crate) enum Prepared<'a> {
    /// Every node will do.
    Skip,
    /// Each node is to be tested.
    Test(FilterFn<'a>),
    /// Only nodes of these names come into question, and are to be tested.
    Narrow(HashSet<SmolStr>, FilterFn<'a>),
    /// No node will do, for this reason.
    Refuse(String),
}

impl<'a> Prepared<'a> {
    /// Each node is to be tested.
    pub(crate) fn test(test: impl Fn(usize, &WhatIf<'_>, &mut Refusal) + 'a) -> Self {
        Self::Test(Box::new(test))
    }
}

/// Rates one node; higher is better. Brought to 0..=100 over all candidates by [`Normalize`].
pub(crate) type ScoreFn<'a> = Box<dyn Fn(usize) -> i64 + 'a>;

/// The rating of a node that a score leaves out; it becomes 0.
pub(crate) const LEFT_OUT: i64 = i64::MIN;

/// Kinds of things that happen. A set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(crate) struct Events(u16);

impl Events {
    /// A node was added.
    pub(crate) const NODE_ADDED: Self = Self(1);
    /// A node changed.
    pub(crate) const NODE_CHANGED: Self = Self(1 << 1);
    /// A node was removed.
    pub(crate) const NODE_GONE: Self = Self(1 << 2);
    /// A pod came to a node.
    pub(crate) const POD_PLACED: Self = Self(1 << 3);
    /// A placed pod changed.
    pub(crate) const POD_CHANGED: Self = Self(1 << 4);
    /// A pod left a node.
    pub(crate) const POD_GONE: Self = Self(1 << 5);
    /// A claim was added or changed.
    pub(crate) const CLAIM: Self = Self(1 << 6);
    /// A volume was added or changed.
    pub(crate) const VOLUME: Self = Self(1 << 8);
    /// Something else of storage: class, driver, capacity.
    pub(crate) const STORAGE: Self = Self(1 << 9);
    /// A node's volume limits were added or changed.
    pub(crate) const CSI_NODE: Self = Self(1 << 10);
    /// A namespace's labels changed.
    pub(crate) const NAMESPACE: Self = Self(1 << 11);
    /// All about nodes that come or change.
    pub(crate) const NODES: Self = Self(1 | 1 << 1);

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// Have they anything in common?
    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Something that happened in the cluster and may let a refused pod fit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Happening<'a> {
    /// A node was added.
    NodeAdded(&'a NodeInfo),
    /// A node changed: before, after.
    NodeChanged(&'a NodeInfo, &'a NodeInfo),
    /// A node was removed.
    NodeGone(&'a NodeInfo),
    /// A pod came to a node.
    PodPlaced(&'a PodInfo),
    /// A placed pod changed: before, after.
    PodChanged(&'a PodInfo, &'a PodInfo),
    /// A pod left its node.
    PodGone(&'a PodInfo),
    /// A claim was added or changed.
    Claim(&'a Name),
    /// A volume was added or changed.
    Volume,
    /// A class, driver or capacity was added or changed.
    Storage,
    /// A node's volume limits were added or changed.
    CsiNode,
    /// A namespace's labels changed.
    Namespace,
}

impl Happening<'_> {
    /// Its kind.
    pub(crate) fn kind(&self) -> Events {
        match self {
            Self::NodeAdded(_) => Events::NODE_ADDED,
            Self::NodeChanged(..) => Events::NODE_CHANGED,
            Self::NodeGone(_) => Events::NODE_GONE,
            Self::PodPlaced(_) => Events::POD_PLACED,
            Self::PodChanged(..) => Events::POD_CHANGED,
            Self::PodGone(_) => Events::POD_GONE,
            Self::Claim(_) => Events::CLAIM,
            Self::Volume => Events::VOLUME,
            Self::Storage => Events::STORAGE,
            Self::CsiNode => Events::CSI_NODE,
            Self::Namespace => Events::NAMESPACE,
        }
    }
    /// The node that was added or changed, as it is now.
    pub(crate) fn node(&self) -> Option<&NodeInfo> {
        match self {
            Self::NodeAdded(node) | Self::NodeChanged(_, node) => Some(node),
            _ => None,
        }
    }
    /// Has a node come, or has this about a node become another?
    pub(crate) fn node_differs<T: PartialEq>(&self, part: impl Fn(&NodeInfo) -> T) -> bool {
        match self {
            Self::NodeAdded(_) => true,
            Self::NodeChanged(old, new) => part(old) != part(new),
            _ => false,
        }
    }
}

/// Excludes nodes.
pub(crate) trait Filter: Send + Sync {
    /// Name, as in Kubernetes.
    fn name(&self) -> &'static str;
    /// What kinds of happenings may let a pod fit that this plugin refused.
    fn events(&self) -> Events;
    /// May this happening, which is of a kind of [`Filter::events`], let the refused pod fit?
    fn helps(&self, pod: &PodInfo, happening: &Happening<'_>) -> bool;
    /// The test for this pod.
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Prepared<'a>;
}

/// How raw scores become 0..=100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Normalize {
    /// They already are.
    AsIs,
    /// The highest becomes 100, zero stays zero.
    HighestBest,
    /// The highest becomes 0, zero becomes 100.
    LowestBest,
    /// The lowest becomes 100, the others less by their share of the highest.
    Evenest,
    /// The lowest becomes 0, the highest 100.
    Stretched,
}

/// Rates nodes.
pub(crate) trait Score: Send + Sync {
    /// Name, as in Kubernetes.
    fn name(&self) -> &'static str;
    /// How raw scores become 0..=100.
    fn normalize(&self) -> Normalize;
    /// The rating for this pod; None: all nodes are equal. `candidates` passed every filter.
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot, candidates: &[usize]) -> Option<ScoreFn<'a>>;
}

impl Normalize {
    /// Brings raw scores to 0..=100.
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a rating of 0 to 100")]
    pub(crate) fn apply(self, scores: &mut [i64]) {
        let rated = || scores.iter().copied().filter(|s| *s != LEFT_OUT);
        let (max, min) = (rated().max().unwrap_or(0), rated().min().unwrap_or(0));
        let each: &dyn Fn(i64) -> i64 = &match self {
            Self::AsIs => return,
            Self::HighestBest if max == 0 => return,
            _ => |s: i64| match self {
                Self::AsIs => s,
                Self::HighestBest => 100 * s / max,
                Self::LowestBest if max == 0 => 100,
                Self::LowestBest => 100 - 100 * s / max,
                Self::Evenest if max == 0 => 100,
                Self::Evenest => 100 * (max + min - s) / max,
                Self::Stretched if max == min => 0,
                Self::Stretched => (100.0 * ((s - min) as f64 / (max - min) as f64)) as i64,
            },
        };
        scores.iter_mut().for_each(|s| *s = if *s == LEFT_OUT { 0 } else { each(*s) });
    }
}
