//! Gives every node its own range of pod addresses.

use crate::rows::NodeRow;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kybern_client::store::{Delta, Item};
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Note, Plan, change, reference};
use kybern_reconcile::view::{View, World, decode};
use std::collections::HashSet;
use std::sync::Arc;

/// Prefix length of a node's range: 254 pods.
const NODE_PREFIX: u8 = 24;

/// The definition. `cluster` is the range all pods share. One worker: two plans at once could
/// choose the same range.
pub(crate) fn def(cluster: IpNet) -> ControllerDef {
    ControllerDef {
        name: "node-ipam-controller",
        watches: vec![Watch::mapped::<Node>(without_range)],
        writes: vec![Access::to::<Node>(&["update", "patch"])],
        seeds: Vec::new(),
        workers: 1,
        plan: Arc::new(move |world, key| plan(world, key, cluster)),
    }
}

fn without_range(delta: &Delta, view: &View) -> Vec<Key> {
    match &delta.new {
        Some(item) if range(item).is_none() => vec![Key::of(item)],
        Some(_) => Vec::new(),
        // A range has become free: nodes that wait for one may have it.
        None => view.of::<Node>().iter().filter(|i| range(i).is_none()).map(Key::of).collect(),
    }
}

fn range(item: &Item) -> Option<IpNet> {
    item.row::<NodeRow>()?.pod_range
}

fn plan(world: &World<'_>, key: &Key, cluster: IpNet) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(item) = world.view.get::<Node>("", &key.name).filter(|i| range(i).is_none()) else { return Ok(plan) };
    let taken: HashSet<IpNet> = world.view.of::<Node>().iter().filter_map(range).collect();
    let Some(free) = ranges(cluster).find(|r| !taken.contains(r)) else {
        plan.note(Note {
            about: reference::<Node>(&item.object),
            warning: true,
            reason: "CIDRNotAvailable".into(),
            message: format!("Node {} status is now: CIDRNotAvailable", key.name),
        });
        return Ok(plan);
    };
    let node: Node = decode(item)?;
    let mut given = node.clone();
    let spec = given.spec.get_or_insert_default();
    spec.pod_cidr = Some(free.to_string());
    spec.pod_cidrs = Some(vec![free.to_string()]);
    plan.act(change(&node, &given, "")?);
    Ok(plan)
}

/// The nodes' ranges inside the cluster's. One /64 per node is the custom for IPv6.
fn ranges(cluster: IpNet) -> Box<dyn Iterator<Item = IpNet>> {
    match cluster {
        IpNet::V4(net) => Box::new(net.subnets(NODE_PREFIX.max(net.prefix_len())).into_iter().flatten().map(IpNet::V4)),
        IpNet::V6(net) => Box::new(net.subnets(64.max(net.prefix_len())).into_iter().flatten().map(IpNet::V6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_range_is_cut_into_node_ranges() {
        let cluster: IpNet = "10.42.0.0/16".parse().expect("net");
        let all: Vec<IpNet> = ranges(cluster).collect();
        assert_eq!(all.len(), 256);
        assert_eq!((all[0].to_string(), all[255].to_string()), ("10.42.0.0/24".into(), "10.42.255.0/24".into()));
        assert_eq!(ranges("10.1.2.0/26".parse().expect("net")).count(), 1);
    }
}
