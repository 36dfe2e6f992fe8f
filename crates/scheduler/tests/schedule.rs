//! The scheduler on an API server in miniature.

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kybern_api::seam::{FixedClock, SystemIds};
use kybern_client::memory::MemoryApi;
use kybern_client::transport::{MERGE_PATCH, Resource, Transport};
use kybern_client::typed;
use kybern_client::write::{At, DeleteOptions, Writer};
use kybern_scheduler::{Config, run};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

struct Cluster {
    api: MemoryApi,
    writer: Writer,
    pods: Resource,
    nodes: Resource,
    _stop: DropGuard,
}

impl Cluster {
    fn start() -> Self {
        let api = MemoryApi::default();
        let transport: Arc<dyn Transport> = Arc::new(api.clone());
        let writer = Writer::new(Arc::clone(&transport), "test", 0);
        let cancel = CancellationToken::new();
        let config = Config {
            clock: Arc::new(FixedClock::new("2030-01-01T00:00:00Z".parse().expect("time"))),
            ids: Arc::new(SystemIds),
            transports: Arc::new(move |_| Arc::clone(&transport)),
            term: 1,
            holder: "s1_1".into(),
        };
        tokio::spawn(run(config, cancel.clone()));
        let (pods, nodes) = (typed::resource::<Pod>(), typed::resource::<Node>());
        Self { api, writer, pods, nodes, _stop: cancel.drop_guard() }
    }
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    async fn node(&self, name: &str, cpu: &str) {
        let at = At { resource: &self.nodes, namespace: "", name: "", subresource: "" };
        let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "110"}}});
        self.writer.create(at, &node).await.expect("node");
    }
    async fn pod(&self, name: &str, cpu: &str) {
        let at = At { resource: &self.pods, namespace: "default", name: "", subresource: "" };
        let spec = json!({"schedulerName": "default-scheduler", "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
        self.writer.create(at, &json!({"metadata": {"name": name}, "spec": spec})).await.expect("pod");
    }
    fn tree(&self, name: &str) -> Value {
        self.api.tree(&self.pods, "default", name).expect("pod")
    }
    fn placed(&self) -> Vec<String> {
        let mut nodes: Vec<String> = self
            .api
            .trees(&self.pods)
            .iter()
            .filter_map(|p| Some(p["spec"]["nodeName"].as_str()?.to_owned()))
            .collect();
        nodes.sort();
        nodes
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_pods_is_spread_and_never_overfills_a_node() {
    let c = Cluster::start();
    c.node("a", "1").await;
    c.node("b", "2").await;
    for i in 0..8 {
        c.pod(&format!("p{i}"), "500m").await;
    }
    c.settle().await;
    assert_eq!(c.placed(), ["a", "a", "b", "b", "b", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_pod_says_why_and_gets_the_room_that_another_leaves() {
    let c = Cluster::start();
    c.node("a", "1").await;
    c.pod("first", "1").await;
    c.settle().await;
    c.pod("second", "1").await;
    c.settle().await;
    let condition = c.tree("second")["status"]["conditions"][0].clone();
    assert_eq!(
        (&condition["type"], &condition["status"], &condition["reason"]),
        (&json!("PodScheduled"), &json!("False"), &json!("Unschedulable"))
    );
    assert_eq!(condition["message"], "0/1 nodes are available: 1 Insufficient cpu.");
    let events: Vec<Value> = c.api.trees(&typed::resource::<Event>()).iter().map(|e| e["reason"].clone()).collect();
    assert!(events.contains(&json!("FailedScheduling")) && events.contains(&json!("Scheduled")), "{events:?}");

    let writes = c.api.writes();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(c.api.writes(), writes, "a parked pod is not tried again without a reason");

    let first = At { resource: &c.pods, namespace: "default", name: "first", subresource: "" };
    c.writer.delete(first, &DeleteOptions::default()).await.expect("delete");
    c.settle().await;
    assert_eq!(c.tree("second")["spec"]["nodeName"], "a");
}

#[tokio::test(start_paused = true)]
async fn a_gated_pod_waits_for_its_gates() {
    let c = Cluster::start();
    c.node("a", "1").await;
    let at = At { resource: &c.pods, namespace: "default", name: "", subresource: "" };
    let spec = json!({"schedulerName": "default-scheduler", "schedulingGates": [{"name": "g"}], "containers": [{"name": "c"}]});
    c.writer.create(at, &json!({"metadata": {"name": "p"}, "spec": spec})).await.expect("pod");
    c.settle().await;
    assert_eq!(c.placed(), Vec::<String>::new());
    let at = At { resource: &c.pods, namespace: "default", name: "p", subresource: "" };
    c.writer.patch(at, MERGE_PATCH, &json!({"spec": {"schedulingGates": null}})).await.expect("patch");
    c.settle().await;
    assert_eq!(c.placed(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn pods_of_other_schedulers_are_left_alone() {
    let c = Cluster::start();
    c.node("a", "1").await;
    let at = At { resource: &c.pods, namespace: "default", name: "", subresource: "" };
    let spec = json!({"schedulerName": "none", "containers": [{"name": "c"}]});
    c.writer.create(at, &json!({"metadata": {"name": "p"}, "spec": spec})).await.expect("pod");
    c.settle().await;
    assert_eq!(c.placed(), Vec::<String>::new());
}
