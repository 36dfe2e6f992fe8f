//! The plugins: one file each, one line here. Filters run in this order; the first that refuses a
//! node gives the reasons.

mod balanced_allocation;
mod image_locality;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_unschedulable;
mod resources_fit;
mod spread;
mod taint_toleration;

use crate::framework::{Filter, Score};

/// Every filter.
pub(crate) static FILTERS: &[&dyn Filter] = &[
    &node_unschedulable::NodeUnschedulable,
    &node_name::NodeName,
    &taint_toleration::TaintToleration,
    &node_affinity::NodeAffinityPlugin,
    &node_ports::NodePorts,
    &resources_fit::ResourcesFit,
];

/// Every score.
pub(crate) static SCORES: &[&dyn Score] = &[
    &taint_toleration::TaintToleration,
    &node_affinity::NodeAffinityPlugin,
    &resources_fit::ResourcesFit,
    &balanced_allocation::BalancedAllocation,
    &spread::Spread,
    &image_locality::ImageLocality,
];
