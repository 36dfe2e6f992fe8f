//! nodeSelector and node affinity, required and preferred.

use crate::framework::{Events, Filter, FilterFn, Happening, Normalize, Prepared, Score, ScoreFn};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{
    NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PreferredSchedulingTerm,
};
use kybern_api::placement;
use smol_str::SmolStr;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Which nodes a pod insists on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// Identifies it.
    pub(crate) key: Arc<str>,
    selector: BTreeMap<SmolStr, SmolStr>,
    required: Option<NodeSelector>,
}

impl Wanted {
    /// From a nodeSelector and required affinity; None where both are absent.
    pub(crate) fn new(selector: BTreeMap<SmolStr, SmolStr>, required: Option<NodeSelector>) -> Option<Self> {
        let key = format!("{selector:?}{required:?}").into();
        (!selector.is_empty() || required.is_some()).then_some(Self { key, selector, required })
    }
    /// Is this one of the nodes?
    pub(crate) fn fits(&self, node: &NodeInfo) -> bool {
        self.selector.iter().all(|(k, v)| node.label(k) == Some(v.as_str()))
            && self.required.as_ref().is_none_or(|r| any_matches(r, node))
    }
    /// The names of the only nodes that can fit, where every term names some.
    fn names(&self) -> Option<HashSet<SmolStr>> {
        let mut all = HashSet::new();
        for term in &self.required.as_ref()?.node_selector_terms {
            let fields = term.match_fields.as_deref().unwrap_or_default();
            let named = |r: &&NodeSelectorRequirement| r.key == "metadata.name" && r.operator == "In";
            let values = |r: &NodeSelectorRequirement| -> HashSet<SmolStr> {
                r.values.iter().flatten().map(SmolStr::from).collect()
            };
            all.extend(fields.iter().filter(named).map(values).reduce(|a, b| &a & &b)?);
        }
        Some(all)
    }
}

fn any_matches(selector: &NodeSelector, node: &NodeInfo) -> bool {
    selector.node_selector_terms.iter().any(|t| term_matches(t, node))
}

/// Does a node fulfil a term? An empty term fits no node.
pub(crate) fn term_matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    placement::term_matches(term, &node.name, |key| node.label(key))
}

/// The plugin, with affinity that its configuration adds to every pod.
#[derive(Default)]
pub(super) struct NodeAffinityPlugin {
    added: Option<NodeSelector>,
    added_liked: Vec<PreferredSchedulingTerm>,
}

impl NodeAffinityPlugin {
    /// With `addedAffinity`.
    pub(super) fn new(added: Option<NodeAffinity>) -> Self {
        let added = added.unwrap_or_default();
        Self {
            added: added.required_during_scheduling_ignored_during_execution,
            added_liked: added.preferred_during_scheduling_ignored_during_execution.unwrap_or_default(),
        }
    }
    fn fits(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        self.added.as_ref().is_none_or(|a| any_matches(a, node)) && pod.wanted.as_ref().is_none_or(|w| w.fits(node))
    }
}

impl Filter for NodeAffinityPlugin {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }
    fn events(&self) -> Events {
        Events::NODES
    }
    fn helps(&self, pod: &PodInfo, happening: &Happening<'_>) -> bool {
        let fits_now = happening.node().is_some_and(|n| self.fits(pod, n));
        match happening {
            Happening::NodeChanged(old, _) => fits_now && !self.fits(pod, old),
            _ => fits_now,
        }
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Prepared<'a> {
        if pod.wanted.is_none() && self.added.is_none() {
            return Prepared::Skip;
        }
        let test: FilterFn<'a> = Box::new(move |slot, _, refusal| {
            let Some(node) = snapshot.node(slot) else { return };
            if self.added.as_ref().is_some_and(|a| !any_matches(a, node)) {
                refusal.for_good("node(s) didn't match scheduler-enforced node affinity");
            } else if pod.wanted.as_ref().is_some_and(|w| !w.fits(node)) {
                refusal.for_good("node(s) didn't match Pod's node affinity/selector");
            }
        });
        match pod.wanted.as_ref().and_then(|w| w.names()) {
            Some(names) if names.is_empty() => Prepared::Refuse("pod affinity terms conflict".into()),
            Some(names) => Prepared::Narrow(names, test),
            None => Prepared::Test(test),
        }
    }
}

impl Score for NodeAffinityPlugin {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }
    fn normalize(&self) -> Normalize {
        Normalize::HighestBest
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot, _: &[usize]) -> Option<ScoreFn<'a>> {
        let liked = || pod.liked.iter().chain(&self.added_liked);
        liked().next()?;
        Some(Box::new(move |slot| {
            let Some(node) = snapshot.node(slot) else { return 0 };
            liked().filter(|p| term_matches(&p.preference, node)).map(|p| i64::from(p.weight)).sum()
        }))
    }
}
