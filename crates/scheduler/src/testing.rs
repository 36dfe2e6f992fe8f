//! Objects for unit tests.

use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use crate::world::Topic;
use kybern_api::object::Object;
use kybern_client::store::{Delta, Item};
use serde_json::Value;
use std::sync::Arc;

pub(crate) fn object(tree: &Value) -> Object {
    kybern_client::wire::object(tree.to_string().as_bytes()).expect("an object")
}

pub(crate) fn pod(tree: &Value) -> Arc<PodInfo> {
    Arc::new(PodInfo::read(&object(tree)).expect("a pod"))
}

pub(crate) fn node(tree: &Value) -> NodeInfo {
    NodeInfo::read(&object(tree)).expect("a node")
}

/// Adds an object of a kind that decisions rest on.
pub(crate) fn add(snapshot: &mut Snapshot, tree: &Value) {
    let topic = match tree["kind"].as_str() {
        Some("Namespace") => Topic::Namespace,
        Some("Service") => Topic::Service,
        Some("ReplicationController") => Topic::ReplicationController,
        Some("ReplicaSet") => Topic::ReplicaSet,
        Some("StatefulSet") => Topic::StatefulSet,
        Some("PersistentVolumeClaim") => Topic::Claim,
        Some("PersistentVolume") => Topic::Volume,
        Some("StorageClass") => Topic::Class,
        Some("CSINode") => Topic::CsiNode,
        Some("CSIDriver") => Topic::CsiDriver,
        Some("CSIStorageCapacity") => Topic::Capacity,
        Some("PodDisruptionBudget") => Topic::Budget,
        other => panic!("no topic for {other:?}"),
    };
    let delta = Delta { old: None, new: Some(Item { object: object(tree), row: None }) };
    snapshot.world.apply(topic, &delta, &mut |_| {}).expect("a readable object");
}
