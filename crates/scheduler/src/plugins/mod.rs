//! The plugins: one file each, one line here. Filters run in this order; the first that refuses a
//! node gives the reasons.

mod allocation;
mod balanced_allocation;
mod image_locality;
mod inter_pod_affinity;
pub(crate) mod node_affinity;
mod node_name;
mod node_ports;
mod node_unschedulable;
mod resources_fit;
mod taint_toleration;
mod topology_spread;
mod volume_binding;
mod volume_limits;
mod volume_restrictions;
mod volume_zone;

pub(crate) use allocation::Weighed;
pub(crate) use inter_pod_affinity::AffinityArgs;
pub(crate) use resources_fit::{FitArgs, Strategy};
pub(crate) use topology_spread::default_topologies;

use crate::framework::{Filter, Score};
use crate::pod::spec::SpreadPart;
use k8s_openapi::api::core::v1::NodeAffinity;

/// What plugins are configured with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PluginArgs {
    pub(crate) fit: FitArgs,
    pub(crate) balanced: Vec<Weighed>,
    pub(crate) affinity: AffinityArgs,
    /// None: the system's defaults.
    pub(crate) spread: Option<Vec<SpreadPart>>,
    pub(crate) added_affinity: Option<NodeAffinity>,
}

impl Default for PluginArgs {
    fn default() -> Self {
        Self {
            fit: FitArgs::default(),
            balanced: Weighed::usual(),
            affinity: AffinityArgs::default(),
            spread: None,
            added_affinity: None,
        }
    }
}

#[cfg(test)]
mod tests;

type MakeFilter = fn(&PluginArgs) -> Box<dyn Filter>;
type MakeScore = fn(&PluginArgs) -> Box<dyn Score>;

/// One plugin.
pub(crate) struct Row {
    /// Name, as in Kubernetes.
    pub(crate) name: &'static str,
    /// Weight of its score.
    pub(crate) weight: i64,
    pub(crate) filter: Option<MakeFilter>,
    pub(crate) score: Option<MakeScore>,
}

const fn row(name: &'static str, weight: i64, filter: Option<MakeFilter>, score: Option<MakeScore>) -> Row {
    Row { name, weight, filter, score }
}

/// Every plugin, in Kubernetes' order. Those without filter and score act elsewhere: gates and order in
/// the queue, preemption after a refusal, binding at the end.
pub(crate) static PLUGINS: &[Row] = &[
    row("SchedulingGates", 0, None, None),
    row("PrioritySort", 0, None, None),
    row("NodeUnschedulable", 0, Some(|_| Box::new(node_unschedulable::NodeUnschedulable)), None),
    row("NodeName", 0, Some(|_| Box::new(node_name::NodeName)), None),
    row(
        "TaintToleration",
        3,
        Some(|_| Box::new(taint_toleration::TaintToleration)),
        Some(|_| Box::new(taint_toleration::TaintToleration)),
    ),
    row(
        "NodeAffinity",
        2,
        Some(|a| Box::new(node_affinity::NodeAffinityPlugin::new(a.added_affinity.clone()))),
        Some(|a| Box::new(node_affinity::NodeAffinityPlugin::new(a.added_affinity.clone()))),
    ),
    row("NodePorts", 0, Some(|_| Box::new(node_ports::NodePorts)), None),
    row(
        "NodeResourcesFit",
        1,
        Some(|a| Box::new(resources_fit::ResourcesFit { args: a.fit.clone() })),
        Some(|a| Box::new(resources_fit::ResourcesFit { args: a.fit.clone() })),
    ),
    row("VolumeRestrictions", 0, Some(|_| Box::new(volume_restrictions::VolumeRestrictions)), None),
    row("NodeVolumeLimits", 0, Some(|_| Box::new(volume_limits::VolumeLimits)), None),
    row("VolumeBinding", 0, Some(|_| Box::new(volume_binding::VolumeBinding)), None),
    row("VolumeZone", 0, Some(|_| Box::new(volume_zone::VolumeZone)), None),
    row(
        "PodTopologySpread",
        2,
        Some(|a| Box::new(topology_spread::TopologySpread::new(a.spread.clone()))),
        Some(|a| Box::new(topology_spread::TopologySpread::new(a.spread.clone()))),
    ),
    row(
        "InterPodAffinity",
        2,
        Some(|a| Box::new(inter_pod_affinity::InterPodAffinity { args: a.affinity })),
        Some(|a| Box::new(inter_pod_affinity::InterPodAffinity { args: a.affinity })),
    ),
    row("DefaultPreemption", 0, None, None),
    row(
        "NodeResourcesBalancedAllocation",
        1,
        None,
        Some(|a| Box::new(balanced_allocation::BalancedAllocation { resources: a.balanced.clone() })),
    ),
    row("ImageLocality", 1, None, Some(|_| Box::new(image_locality::ImageLocality))),
    row("DefaultBinder", 0, None, None),
];
