//! nodeSelector and node affinity, required and preferred.

use crate::framework::{Events, Filter, FilterFn, Normalize, Score, ScoreFn};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

pub(super) struct NodeAffinityPlugin;

impl Filter for NodeAffinityPlugin {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }
    fn helped_by(&self) -> Events {
        Events::NODE_ADDED.and(Events::NODE_LABELS)
    }
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<FilterFn<'a>> {
        let required =
            pod.affinity.as_ref().and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        if pod.selector.is_empty() && required.is_none() {
            return None;
        }
        Some(Box::new(move |slot, reasons| {
            let fits = |node: &NodeInfo| {
                let selected = pod.selector.iter().all(|(k, v)| node.label(k) == Some(v.as_str()));
                selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|t| matches(t, node)))
            };
            if !snapshot.node(slot).is_some_and(fits) {
                reasons.push("node(s) didn't match Pod's node affinity/selector".into());
            }
        }))
    }
}

impl Score for NodeAffinityPlugin {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }
    fn weight(&self) -> i64 {
        2
    }
    fn normalize(&self) -> Normalize {
        Normalize::HighestBest
    }
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot, _: &[usize]) -> Option<ScoreFn<'a>> {
        let preferred = pod.affinity.as_ref()?.preferred_during_scheduling_ignored_during_execution.as_ref()?;
        Some(Box::new(move |slot| {
            let Some(node) = snapshot.node(slot) else { return 0 };
            preferred.iter().filter(|p| matches(&p.preference, node)).map(|p| i64::from(p.weight)).sum()
        }))
    }
}

/// Does a node fulfil a term? An empty term fits no node.
fn matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let (labels, fields) =
        (term.match_expressions.as_deref().unwrap_or_default(), term.match_fields.as_deref().unwrap_or_default());
    let name = |field: &str| (field == "metadata.name").then_some(node.name.as_str());
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|r| fulfils(r, node.label(&r.key)))
        && fields.iter().all(|r| fulfils(r, name(&r.key)))
}

fn fulfils(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|w| w == v));
    let compare = |test: fn(i64, i64) -> bool| {
        let want = values.first().and_then(|w| w.parse().ok());
        matches!((value.and_then(|v| v.parse().ok()), want), (Some(have), Some(want)) if test(have, want))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|have, want| have > want),
        "Lt" => compare(|have, want| have < want),
        _ => false,
    }
}
