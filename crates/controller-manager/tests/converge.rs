//! All controllers together on an API server in miniature: they converge, and then rest.

use bytes::Bytes;
use futures::stream::BoxStream;
use kybern_api::error::Status;
use kybern_api::object::Object;
use kybern_api::seam::{FixedClock, SystemIds};
use kybern_client::memory::MemoryApi;
use kybern_client::transport::{List, MERGE_PATCH, Resource, Selection, Target, Transport, WatchEvent, Write};
use kybern_client::typed;
use kybern_client::write::{At, DeleteOptions, Writer};
use kybern_controller_manager::metrics::NoMetrics;
use kybern_controller_manager::{CertificateSigner, Config, roles, run};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;

struct NoSigner;
impl CertificateSigner for NoSigner {
    fn sign(&self, _: &str, _: &str, _: &[String], _: Option<u32>, _: jiff::Timestamp) -> Result<String, String> {
        Err("not in this test".into())
    }
}

/// The API as a leader sees it that is killed: so many writes are carried out, the answer of the last
/// never comes, and nothing that is asked later does anything.
struct Mortal {
    api: MemoryApi,
    left: AtomicUsize,
    killed: CancellationToken,
}

#[async_trait::async_trait]
impl Transport for Mortal {
    async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Object, Status> {
        self.api.get(resource, namespace, name).await
    }
    async fn list(&self, resource: &Resource, selection: &Selection) -> Result<List, Status> {
        self.api.list(resource, selection).await
    }
    async fn watch(
        &self,
        resource: &Resource,
        selection: &Selection,
        revision: u64,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status> {
        self.api.watch(resource, selection, revision).await
    }
    async fn write(&self, target: &Target, write: Write) -> Result<Bytes, Status> {
        let take = |left: usize| left.checked_sub(1);
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        if left.is_err() {
            return std::future::pending().await;
        }
        let answer = self.api.write(target, write).await;
        if left == Ok(1) {
            self.killed.cancel();
            return std::future::pending().await;
        }
        answer
    }
}

struct Cluster {
    api: MemoryApi,
    writer: Writer,
    cancel: CancellationToken,
}

impl Cluster {
    fn start() -> Self {
        let api = MemoryApi::default();
        let transport: Arc<dyn Transport> = Arc::new(api.clone());
        let cluster =
            Self { writer: Writer::new(Arc::clone(&transport), "test", 0), api, cancel: CancellationToken::new() };
        cluster.run(transport);
        cluster
    }
    fn run(&self, transport: Arc<dyn Transport>) {
        let config = Config {
            clock: Arc::new(FixedClock::new("2030-01-01T00:00:00Z".parse().expect("time"))),
            ids: Arc::new(SystemIds),
            cluster_cidr: "10.42.0.0/16".parse().expect("net"),
            ca_pem: "CA".into(),
            signer: Arc::new(NoSigner),
            metrics: Arc::new(NoMetrics),
            transports: Arc::new(move |_| Arc::clone(&transport)),
            term: 1,
            holder: "s1_1".into(),
        };
        tokio::spawn(run(config, self.cancel.clone()));
    }
    /// Lets (paused) time pass until nothing more happens by itself.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    async fn create(&self, resource: &Resource, namespace: &str, object: Value) {
        let at = At { resource, namespace, name: "", subresource: "" };
        self.writer.create(at, &object).await.expect("create");
    }
    async fn patch(&self, resource: &Resource, name: &str, subresource: &str, patch: Value) {
        let at = At { resource, namespace: "default", name, subresource };
        self.writer.patch(at, MERGE_PATCH, &patch).await.expect("patch");
    }
    /// Plays the nodes: every pod runs, is ready and has an address.
    async fn run_pods(&self) {
        let pods = typed::resource::<Pod>();
        for (i, pod) in self.api.trees(&pods).into_iter().enumerate() {
            if pod["status"]["phase"] == "Running" {
                continue;
            }
            let name = pod["metadata"]["name"].as_str().expect("name");
            let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z"}]);
            let ip = format!("10.42.0.{}", i + 2);
            self.patch(
                &pods,
                name,
                "status",
                json!({"status": {"phase": "Running", "conditions": ready, "podIPs": [{"ip": ip}]}}),
            )
            .await;
        }
    }
    /// Steps nodes and controllers in turn until the rollout rests.
    async fn roll(&self) {
        for _ in 0..12 {
            self.settle().await;
            self.run_pods().await;
        }
        self.settle().await;
    }
    async fn deploy(&self) {
        let template =
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}});
        let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}});
        self.create(&typed::resource::<Deployment>(), "default", json!({"metadata": {"name": "web"}, "spec": spec}))
            .await;
        let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "clusterIP": "10.43.0.9", "ports": [{"port": 80, "protocol": "TCP"}]}});
        self.create(&typed::resource::<Service>(), "default", service).await;
    }
    fn deployment(&self) -> Value {
        self.api.tree(&typed::resource::<Deployment>(), "default", "web").expect("deployment")
    }
    fn count<K: k8s_openapi::Resource>(&self) -> usize {
        self.api.trees(&typed::resource::<K>()).len()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_becomes_pods_and_endpoints_and_then_nothing_is_written() {
    let c = Cluster::start();
    c.deploy().await;
    c.roll().await;
    assert_eq!((c.count::<Pod>(), c.count::<ReplicaSet>()), (3, 1));
    let status = c.deployment()["status"].clone();
    assert_eq!((&status["availableReplicas"], &status["updatedReplicas"]), (&json!(3), &json!(3)), "{status}");
    let slices = c.api.trees(&typed::resource::<EndpointSlice>());
    assert_eq!(slices.iter().map(|s| s["endpoints"].as_array().map_or(0, Vec::len)).sum::<usize>(), 3);
    let endpoints = c.api.tree(&typed::resource::<Endpoints>(), "default", "web").expect("endpoints");
    assert_eq!(endpoints["subsets"][0]["addresses"].as_array().map(Vec::len), Some(3));

    let writes = c.api.writes();
    c.settle().await;
    assert_eq!(c.api.writes(), writes, "a converged cluster is not written to");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_and_its_undoing_keep_revisions() {
    let c = Cluster::start();
    c.deploy().await;
    c.roll().await;
    let deployments = typed::resource::<Deployment>();
    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    for (tag, revision) in [("web:2", "2"), ("web:1", "3")] {
        c.patch(&deployments, "web", "", image(tag)).await;
        c.roll().await;
        let running: Vec<Value> = c
            .api
            .trees(&typed::resource::<Pod>())
            .iter()
            .map(|p| p["spec"]["containers"][0]["image"].clone())
            .collect();
        assert_eq!(running, [tag, tag, tag]);
        let d = c.deployment();
        assert_eq!(d["metadata"]["annotations"]["deployment.kubernetes.io/revision"], revision);
        let progressing =
            d["status"]["conditions"].as_array().and_then(|c| c.iter().find(|c| c["type"] == "Progressing")).cloned();
        assert_eq!(progressing.map(|p| p["reason"].clone()), Some(json!("NewReplicaSetAvailable")));
    }
    assert_eq!(c.count::<ReplicaSet>(), 2, "the first set was used again");
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_goes_on_and_doubles_nothing() {
    let mut c = Cluster::start();
    c.deploy().await;
    // The first controllers are stopped in the middle of their work.
    tokio::task::yield_now().await;
    c.cancel.cancel();
    c.cancel = CancellationToken::new();
    c.run(Arc::new(c.api.clone()));
    c.roll().await;
    assert_eq!((c.count::<Pod>(), c.count::<ReplicaSet>()), (3, 1));
}

/// A rollout whose leader is killed after `writes` writes. Did it live to be killed?
async fn roll_out_with_a_death_after(writes: usize) -> bool {
    let mut c = Cluster::start();
    c.deploy().await;
    c.roll().await;
    c.cancel.cancel();
    c.cancel = CancellationToken::new();
    let (left, killed) = (AtomicUsize::new(writes), c.cancel.clone());
    c.run(Arc::new(Mortal { api: c.api.clone(), left, killed }));
    let template = json!({"spec": {"containers": [{"name": "c", "image": "web:2"}]}});
    c.patch(&typed::resource::<Deployment>(), "web", "", json!({"spec": {"template": template}})).await;
    c.roll().await;
    let was_killed = c.cancel.is_cancelled();
    // 25% of three, rounded up, may come on top.
    assert!((2..=4).contains(&c.count::<Pod>()), "{} pods after {writes} writes", c.count::<Pod>());

    c.cancel.cancel();
    c.cancel = CancellationToken::new();
    c.run(Arc::new(c.api.clone()));
    c.roll().await;
    let pods = c.api.trees(&typed::resource::<Pod>());
    let images: Vec<&Value> = pods.iter().map(|p| &p["spec"]["containers"][0]["image"]).collect();
    assert_eq!(images, ["web:2", "web:2", "web:2"], "after {writes} writes");
    assert_eq!(c.count::<ReplicaSet>(), 2, "after {writes} writes");
    let status = c.deployment()["status"].clone();
    assert_eq!(status["availableReplicas"], 3, "after {writes} writes: {status}");
    let slices = c.api.trees(&typed::resource::<EndpointSlice>());
    let endpoints = slices.iter().map(|s| s["endpoints"].as_array().map_or(0, Vec::len)).sum::<usize>();
    assert_eq!((slices.len(), endpoints), (1, 3), "after {writes} writes");
    was_killed
}

#[tokio::test(start_paused = true)]
async fn a_rollout_survives_the_death_of_its_leader_at_every_write() {
    let mut writes = 1;
    while roll_out_with_a_death_after(writes).await {
        writes += 1;
    }
    assert!(writes > 15, "a rollout takes more than {writes} writes");
}

#[tokio::test(start_paused = true)]
async fn what_a_deleted_deployment_owned_is_collected() {
    let c = Cluster::start();
    c.deploy().await;
    c.roll().await;
    let at = At { resource: &typed::resource::<Deployment>(), namespace: "default", name: "web", subresource: "" };
    c.writer.delete(at, &DeleteOptions::default()).await.expect("delete");
    c.settle().await;
    assert_eq!((c.count::<ReplicaSet>(), c.count::<Pod>()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_gets_its_furniture_and_is_emptied_when_it_goes() {
    let c = Cluster::start();
    let namespaces = typed::resource::<Namespace>();
    c.create(
        &namespaces,
        "",
        json!({"metadata": {"name": "shop", "finalizers": ["stand-in"]}, "spec": {"finalizers": ["kubernetes"]}}),
    )
    .await;
    c.settle().await;
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert!(c.api.tree(&namespaces, "", name).is_some(), "{name}");
    }
    assert!(c.api.tree(&typed::resource::<ServiceAccount>(), "shop", "default").is_some());
    assert_eq!(
        c.api.tree(&typed::resource::<ConfigMap>(), "shop", "kube-root-ca.crt").map(|m| m["data"]["ca.crt"].clone()),
        Some(json!("CA"))
    );

    let at = At { resource: &namespaces, namespace: "", name: "shop", subresource: "" };
    c.writer.delete(at, &DeleteOptions::default()).await.expect("delete");
    c.settle().await;
    assert!(c.api.tree(&typed::resource::<ServiceAccount>(), "shop", "default").is_none());
    assert_eq!(c.api.tree(&namespaces, "", "shop").map(|n| n["spec"]["finalizers"].clone()), Some(json!([])));
}

#[test]
fn every_controller_has_a_role_that_reads_what_it_watches() {
    let roles = roles();
    let deployment = roles.iter().find(|r| r.name == "deployment-controller").expect("role");
    let may = |verb: &str, resource: &str| {
        deployment
            .rules
            .iter()
            .any(|r| r.verbs.iter().any(|v| v == verb) && r.resources.iter().flatten().any(|have| have == resource))
    };
    assert!(may("watch", "replicasets") && may("create", "replicasets") && may("patch", "deployments/status"));
    assert!(!may("create", "pods") && !may("get", "secrets"));
}
