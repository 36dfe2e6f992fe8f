//! The nodes themselves: registered once, then kept alive by their Leases.

use super::CONCURRENT;
use super::layout::Layout;
use futures::{StreamExt, TryStreamExt};
use kybern_api::error::{Reason, Status};
use kybern_api::seam::{Clock, SystemClock};
use kybern_client::transport::{MERGE_PATCH, Resource};
use kybern_client::write::{At, Writer};
use kybern_node_agent::node::capacity::Capacity;
use kybern_node_agent::node::lease;
use kybern_node_agent::node::status::{Health, conditions, resources};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What each node has to give: a common machine.
const CAPACITY: Capacity = Capacity { cpu_milli: 32_000, memory: 256 << 30, disk: 1 << 40, huge: BTreeMap::new() };
/// The leases' period, over which the nodes are spread.
const SPREAD: Duration = Duration::from_secs(10);

/// All nodes.
pub(super) struct Nodes {
    pub(super) layout: Layout,
    pub(super) max_pods: u32,
    pub(super) writer: Writer,
    pub(super) clock: Arc<SystemClock>,
}

impl Nodes {
    /// Creates every node with its status, or takes over those that are there; their uids by number.
    pub(super) async fn register(&self) -> Result<Vec<String>, Status> {
        let one = |node| self.register_one(node);
        futures::stream::iter(self.layout.numbers()).map(one).buffered(CONCURRENT).try_collect().await
    }

    async fn register_one(&self, node: u32) -> Result<String, Status> {
        let nodes = Resource::new("", "v1", "nodes");
        let name = Layout::name(node);
        let at = At { resource: &nodes, namespace: "", name: "", subresource: "" };
        let object = self.object(node, &name);
        let answer = match self.writer.create(at, &object).await {
            Err(s) if s.reason == Reason::AlreadyExists => {
                let status = json!({"status": object["status"]});
                self.writer.patch(At { name: &name, subresource: "status", ..at }, MERGE_PATCH, &status).await?
            }
            answer => answer?,
        };
        let node: Value = serde_json::from_slice(&answer.bytes).map_err(|e| Status::internal(e.to_string()))?;
        Ok(node["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
    }

    fn object(&self, node: u32, name: &str) -> Value {
        let (range, resources) = (self.layout.range(node), resources(&CAPACITY, self.max_pods));
        json!({
            "kind": "Node", "apiVersion": "v1",
            "metadata": {"name": name, "labels": {
                "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                "kybern.io/hollow": "true", (kybern_api::ingress::SWITCH): "false",
            }},
            "spec": {"podCIDR": range, "podCIDRs": [range]},
            "status": {
                "addresses": [
                    {"type": "InternalIP", "address": self.layout.address(node)},
                    {"type": "Hostname", "address": name},
                ],
                "capacity": resources, "allocatable": resources,
                "conditions": conditions(&json!({}), &Health { network: true, ..Health::default() }, self.clock.now()),
            },
        })
    }

    /// Renews every node's Lease until told to stop, each at its own time.
    pub(super) fn keep_leases(&self, uids: Vec<String>, stop: &CancellationToken) {
        let step = SPREAD / u32::try_from(uids.len()).unwrap_or(u32::MAX).max(1);
        for (number, uid) in self.layout.numbers().zip(uids) {
            let (writer, clock, stop) = (self.writer.clone(), self.clock.clone(), stop.clone());
            tokio::spawn(async move {
                if stop.run_until_cancelled(tokio::time::sleep(step * number)).await.is_some() {
                    lease::run(writer, Layout::name(number), uid, clock, stop).await;
                }
            });
        }
    }
}
