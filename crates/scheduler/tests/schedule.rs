//! The scheduler on an API server in miniature.

use bytes::Bytes;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Event, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kybern_api::error::Status;
use kybern_api::object::Object;
use kybern_api::seam::{FixedClock, SystemIds};
use kybern_client::memory::MemoryApi;
use kybern_client::transport::{List, MERGE_PATCH, Resource, Selection, Target, Transport, WatchEvent, Write};
use kybern_client::typed;
use kybern_client::write::{At, DeleteOptions, Writer};
use kybern_scheduler::{Config, Settings, run};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
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
        Self::start_with(Settings::default())
    }
    fn start_with(settings: Settings) -> Self {
        Self::start_on(settings, |api| Arc::new(api))
    }
    /// The scheduler goes through what `between` makes of the API, the test does not.
    fn start_on(settings: Settings, between: impl Fn(MemoryApi) -> Arc<dyn Transport>) -> Self {
        let api = MemoryApi::default();
        let transport = between(api.clone());
        let writer = Writer::new(Arc::new(api.clone()), "test", 0);
        let cancel = CancellationToken::new();
        let config = Config {
            clock: Arc::new(FixedClock::new("2030-01-01T00:00:00Z".parse().expect("time"))),
            ids: Arc::new(SystemIds),
            transports: Arc::new(move |_| Arc::clone(&transport)),
            term: 1,
            holder: "s1_1".into(),
            settings,
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
    assert_eq!(
        condition["message"],
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
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

fn at<'a>(resource: &'a Resource, namespace: &'a str, name: &'a str) -> At<'a> {
    At { resource, namespace, name, subresource: "" }
}

fn events(c: &Cluster, reason: &str) -> Vec<Value> {
    c.api.trees(&typed::resource::<Event>()).into_iter().filter(|e| e["reason"] == reason).collect()
}

#[tokio::test(start_paused = true)]
async fn a_more_important_pod_takes_the_place_of_a_lesser_one() {
    let c = Cluster::start();
    c.node("a", "1").await;
    let pod = |name: &str, priority: i32| {
        let spec = json!({"schedulerName": "default-scheduler", "priority": priority,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]});
        // A finalizer keeps the victim visible.
        json!({"metadata": {"name": name, "finalizers": ["example.com/keep"]}, "spec": spec})
    };
    c.writer.create(at(&c.pods, "default", ""), &pod("lesser", 0)).await.expect("pod");
    c.settle().await;
    c.writer.create(at(&c.pods, "default", ""), &pod("greater", 100)).await.expect("pod");
    c.settle().await;
    let victim = c.tree("lesser");
    assert!(!victim["metadata"]["deletionTimestamp"].is_null(), "the victim is told to go");
    let condition = victim["status"]["conditions"].as_array().and_then(|l| l.last().cloned()).expect("a condition");
    assert_eq!(
        (&condition["type"], &condition["status"], &condition["reason"], &condition["message"]),
        (
            &json!("DisruptionTarget"),
            &json!("True"),
            &json!("PreemptionByScheduler"),
            &json!("default-scheduler: preempting to accommodate a higher priority pod")
        )
    );
    let greater = c.tree("greater");
    assert_eq!(greater["status"]["nominatedNodeName"], "a");
    assert_eq!(greater["spec"]["nodeName"], Value::Null);
    let told = events(&c, "Preempted");
    let text = format!("Preempted by pod {} on node a", greater["metadata"]["uid"].as_str().expect("a uid"));
    assert_eq!((told.len(), &told[0]["message"], &told[0]["type"]), (1, &json!(text), &json!("Normal")));

    // Neither a less important pod nor a second search gets in the way meanwhile.
    c.writer.create(at(&c.pods, "default", ""), &pod("late", 50)).await.expect("pod");
    c.settle().await;
    let free = json!({"metadata": {"finalizers": []}});
    c.writer.patch(at(&c.pods, "default", "lesser"), MERGE_PATCH, &free).await.expect("freed");
    c.settle().await;
    assert_eq!(
        (&c.tree("greater")["spec"]["nodeName"], &c.tree("late")["spec"]["nodeName"]),
        (&json!("a"), &Value::Null)
    );
    assert_eq!(events(&c, "Preempted").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn volumes_are_chosen_or_ordered_before_the_pod_is_bound() {
    let c = Cluster::start();
    c.node("a", "4").await;
    let claims = typed::resource::<PersistentVolumeClaim>();
    let (volumes, classes) = (typed::resource::<PersistentVolume>(), typed::resource::<StorageClass>());
    for (name, provisioner) in [("local", "kubernetes.io/no-provisioner"), ("made", "example.com/disks")] {
        let class = json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer"});
        c.writer.create(at(&classes, "", ""), &class).await.expect("class");
        let claim = json!({"metadata": {"name": name}, "spec": {"storageClassName": name, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
        c.writer.create(at(&claims, "default", ""), &claim).await.expect("claim");
    }
    let volume = json!({"metadata": {"name": "v"}, "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "2Gi"}}, "status": {"phase": "Available"}});
    c.writer.create(at(&volumes, "", ""), &volume).await.expect("volume");
    let uses = |name: &str| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
    let spec = json!({"schedulerName": "default-scheduler", "containers": [{"name": "c"}],
        "volumes": [uses("local"), uses("made")]});
    c.writer.create(at(&c.pods, "default", ""), &json!({"metadata": {"name": "p"}, "spec": spec})).await.expect("pod");
    c.settle().await;
    let reference = c.api.tree(&volumes, "", "v").expect("volume")["spec"]["claimRef"].clone();
    assert_eq!((&reference["namespace"], &reference["name"]), (&json!("default"), &json!("local")));
    let made = c.api.tree(&claims, "default", "made").expect("claim");
    assert_eq!(made["metadata"]["annotations"]["volume.kubernetes.io/selected-node"], "a");
    assert_eq!(c.tree("p")["spec"]["nodeName"], Value::Null, "not before the claims are bound");

    // Meanwhile decisions go on.
    c.pod("other", "1").await;
    c.settle().await;
    assert_eq!(c.placed(), ["a"]);

    for name in ["local", "made"] {
        let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "v"}});
        c.writer.patch(at(&claims, "default", name), MERGE_PATCH, &bound).await.expect("bound");
    }
    c.settle().await;
    assert_eq!(c.tree("p")["spec"]["nodeName"], "a");
}

#[tokio::test(start_paused = true)]
async fn each_profile_decides_about_its_own_pods() {
    let config = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
        "profiles": [{}, {"schedulerName": "careless", "plugins": {"filter": {"disabled": [{"name": "NodeResourcesFit"}]}}}],
    });
    let c = Cluster::start_with(Settings::read(&config).expect("settings"));
    c.node("a", "1").await;
    for scheduler in ["default-scheduler", "careless", "nobody"] {
        let spec =
            json!({"schedulerName": scheduler, "containers": [{"name": "c", "resources": {"requests": {"cpu": "9"}}}]});
        let pod = json!({"metadata": {"name": scheduler}, "spec": spec});
        c.writer.create(at(&c.pods, "default", ""), &pod).await.expect("pod");
    }
    c.settle().await;
    assert_eq!(c.tree("careless")["spec"]["nodeName"], "a");
    assert_eq!(c.tree("default-scheduler")["spec"]["nodeName"], Value::Null);
    assert_eq!(c.tree("nobody")["status"], Value::Null);
    assert_eq!(events(&c, "Scheduled")[0]["source"]["component"], "careless");
}

/// An API whose bindings are slow for pods called `stuck` and fail a few times for all others.
struct Troubled {
    api: MemoryApi,
    failures: AtomicU32,
}

#[async_trait::async_trait]
impl Transport for Troubled {
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
        if target.subresource == "binding" && target.name == "stuck" {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        } else if target.subresource == "binding"
            && self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
        {
            return Err(Status::internal("the store is busy"));
        }
        self.api.write(target, write).await
    }
}

#[tokio::test(start_paused = true)]
async fn no_decision_waits_for_a_binding_and_a_failed_one_gives_its_room_back() {
    let c = Cluster::start_on(Settings::default(), |api| Arc::new(Troubled { api, failures: AtomicU32::new(2) }));
    c.node("a", "2").await;
    c.pod("stuck", "1").await;
    c.settle().await;
    c.pod("unlucky", "1").await;
    c.settle().await;
    c.settle().await;
    assert_eq!(c.tree("stuck")["spec"]["nodeName"], Value::Null);
    assert_eq!(c.tree("unlucky")["spec"]["nodeName"], "a", "its own failed attempts are not counted against it");
    let failed = events(&c, "FailedScheduling");
    let message = failed[0]["message"].as_str().expect("a message");
    assert!(message.starts_with("binding rejected: running Bind plugin \"DefaultBinder\": "), "{message}");
    c.pod("late", "1").await;
    c.settle().await;
    assert_eq!(c.tree("late")["spec"]["nodeName"], Value::Null, "what is being bound takes room");
}
