//! All controllers against the real API server on the memory store, each with no more than its own
//! role: what they write is valid, and what they need they may do.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{
    Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, ResourceQuota,
    Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kybern_api::attributes::UserInfo;
use kybern_api::seam::SystemIds;
use kybern_client::informer::Informer;
use kybern_client::set::InformerSet;
use kybern_client::store::{Name, Store};
use kybern_client::transport::{MERGE_PATCH, STRATEGIC_MERGE_PATCH};
use kybern_client::typed;
use kybern_client::write::{At, Writer};
use kybern_controller_manager::metrics::NoMetrics;
use kybern_controller_manager::{CertificateSigner, Config, NAME, roles, run};
use kybern_testkit::rbac::Standard;
use kybern_testkit::rbac::bootstrap::{ControllerRole, objects};
use kybern_testkit::{Builder, World};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

struct NoSigner;
impl CertificateSigner for NoSigner {
    fn sign(&self, _: &str, _: &str, _: &[String], _: Option<u32>, _: jiff::Timestamp) -> Result<String, String> {
        Err("not in this test".into())
    }
}

struct Cluster {
    world: World,
    writer: Writer,
    informers: InformerSet,
    _stop: DropGuard,
}

fn user(name: &str) -> UserInfo {
    if name == NAME {
        return UserInfo {
            name: format!("system:{NAME}"),
            groups: vec!["system:authenticated".into()],
            ..UserInfo::default()
        };
    }
    UserInfo::service_account("kube-system", name)
}

fn controller_roles() -> Vec<ControllerRole> {
    let rule = |r| serde_json::from_value(json!(r)).expect("a rule");
    roles()
        .into_iter()
        .map(|r| ControllerRole { name: r.name.into(), rules: r.rules.into_iter().map(rule).collect() })
        .collect()
}

/// The collection's path of an RBAC object.
fn path_of(object: &Value) -> String {
    let def =
        kybern_api::kinds::by_kind("rbac.authorization.k8s.io", object["kind"].as_str().expect("kind")).expect("kind");
    let resource = kybern_client::transport::Resource::new(&def.group, &def.served[0].version, &def.plural);
    resource.path(object["metadata"]["namespace"].as_str().unwrap_or_default())
}

impl Cluster {
    async fn start() -> Self {
        let world = Builder::default().authorizer(Arc::new(Standard::new())).start().await;
        let admin = world.admin();
        let cancel = CancellationToken::new();
        let cluster = Self {
            writer: Writer::new(Arc::clone(&admin), "test", 0),
            informers: InformerSet::new(admin, HashMap::new(), cancel.clone()),
            world,
            _stop: cancel.clone().drop_guard(),
        };
        for object in objects(&controller_roles()) {
            cluster.post_as_master(&path_of(&object), &object).await;
        }
        let world = cluster.world.clone();
        let config = Config {
            clock: cluster.world.clock.clone(),
            ids: Arc::new(SystemIds),
            cluster_cidr: "10.42.0.0/16".parse().expect("net"),
            ca_pem: "CA".into(),
            signer: Arc::new(NoSigner),
            metrics: Arc::new(NoMetrics),
            transports: Arc::new(move |name| world.client(user(name))),
            term: 0,
            holder: "s1_1".into(),
        };
        tokio::spawn(run(config, cancel));
        cluster
    }
    async fn post_as_master(&self, path: &str, object: &Value) {
        let resource = path.rsplit('/').next().unwrap_or_default();
        let at = kybern_client::transport::Resource::new("rbac.authorization.k8s.io", "v1", resource);
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let at = At { resource: &at, namespace, name: "", subresource: "" };
        self.writer.create(at, object).await.expect("an RBAC object");
    }
    async fn create<K: k8s_openapi::Resource>(&self, object: Value) {
        self.create_in::<K>("default", object).await;
    }
    async fn create_global<K: k8s_openapi::Resource>(&self, object: Value) {
        self.create_in::<K>("", object).await;
    }
    async fn create_in<K: k8s_openapi::Resource>(&self, namespace: &str, mut object: Value) {
        object["kind"] = json!(K::KIND);
        object["apiVersion"] = json!(K::API_VERSION);
        let at = At { resource: &typed::resource::<K>(), namespace, name: "", subresource: "" };
        self.writer.create(at, &object).await.expect("create");
    }
    fn informer<K: k8s_openapi::Resource>(&self) -> Arc<Informer> {
        self.informers.all(&typed::resource::<K>())
    }
    async fn until<K: k8s_openapi::Resource>(&self, what: &str, condition: impl Fn(&Store) -> bool) {
        let informer = self.informer::<K>();
        let reached = tokio::time::timeout(Duration::from_secs(20), informer.until(condition)).await;
        let have: Vec<Value> = informer.list().iter().filter_map(|i| i.object.tree().ok()).collect();
        assert!(reached.is_ok(), "{what}; there is: {}", json!(have));
    }
    /// Plays the nodes: every pod of the image runs, is ready and has an address.
    async fn run_pods(&self, count: usize) {
        let pods = typed::resource::<Pod>();
        for (i, pod) in self.informer::<Pod>().list().into_iter().enumerate().take(count) {
            let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}]);
            let ip = format!("10.42.0.{}", i + 2);
            let status =
                json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": ready}});
            let at = At { resource: &pods, namespace: "default", name: &pod.object.head.name, subresource: "status" };
            self.writer.patch(at, MERGE_PATCH, &status).await.expect("status");
        }
    }
    async fn deploy(&self) {
        let template =
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}});
        let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template});
        self.create::<Deployment>(json!({"metadata": {"name": "web"}, "spec": spec})).await;
        self.until::<Pod>("three pods", |s| s.len() == 3).await;
        self.run_pods(3).await;
        self.until::<Deployment>("the deployment is available", is_available).await;
    }
}

fn is_available(store: &Store) -> bool {
    let web = store.get(&Name::new("default", "web")).and_then(|i| i.object.tree().ok()).unwrap_or_default();
    let progressing = web["status"]["conditions"]
        .as_array()
        .is_some_and(|c| c.iter().any(|c| c["reason"] == "NewReplicaSetAvailable"));
    web["status"]["availableReplicas"] == 3 && progressing
}

#[tokio::test]
async fn a_deployment_and_its_service_converge_and_rest() {
    let c = Cluster::start().await;
    c.create::<Service>(
        json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}),
    )
    .await;
    c.deploy().await;
    let addresses = |store: &Store, pointer: &str| {
        let of = |i: &kybern_client::store::Item| i.object.tree().ok()?.pointer(pointer)?.as_array().map(Vec::len);
        store.iter().filter(|i| i.object.head.name.starts_with("web")).filter_map(of).sum::<usize>()
    };
    c.until::<EndpointSlice>("three endpoints in slices", |s| addresses(s, "/endpoints") == 3).await;
    c.until::<Endpoints>("three addresses", |s| addresses(s, "/subsets/0/addresses") == 3).await;

    // Revisions count committed writes: none may follow.
    let revision = || c.world.store.view().revision();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = revision();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(revision(), before, "a converged cluster is not written to");
}

#[tokio::test]
async fn deleting_a_deployment_collects_everything_below_it() {
    let c = Cluster::start().await;
    c.deploy().await;
    let at = At { resource: &typed::resource::<Deployment>(), namespace: "default", name: "web", subresource: "" };
    c.writer.delete(at, &Default::default()).await.expect("delete");
    c.until::<ReplicaSet>("no sets", Store::is_empty).await;
    c.until::<Pod>("no pods", |s| s.iter().all(|p| p.object.head.deleting.is_some())).await;
}

#[tokio::test]
async fn a_namespace_is_furnished_emptied_and_gone() {
    let c = Cluster::start().await;
    let namespaces = typed::resource::<Namespace>();
    let at = At { resource: &namespaces, namespace: "", name: "", subresource: "" };
    c.writer
        .create(at, &json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "shop"}}))
        .await
        .expect("create");
    c.until::<ServiceAccount>("its account", |s| s.get(&Name::new("shop", "default")).is_some()).await;
    c.writer.delete(At { name: "shop", ..at }, &Default::default()).await.expect("delete");
    c.until::<Namespace>("it is gone", |s| s.get(&Name::new("", "shop")).is_none()).await;
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// A value of an object.
fn value(store: &Store, namespace: &str, name: &str, pointer: &str) -> Value {
    let tree = store.get(&Name::new(namespace, name)).and_then(|i| i.object.tree().ok());
    tree.and_then(|t| t.pointer(pointer).cloned()).unwrap_or_default()
}

fn image(store: &Store, pod: &str) -> Value {
    value(store, "default", pod, "/spec/containers/0/image")
}

#[tokio::test]
async fn a_stateful_set_starts_updates_and_keeps_its_claims() {
    let c = Cluster::start().await;
    let mut template_of_old = template("web:1");
    template_of_old["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let spec = json!({"replicas": 2, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
        "template": template_of_old, "volumeClaimTemplates": [claim],
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"}});
    c.create::<StatefulSet>(json!({"metadata": {"name": "web"}, "spec": spec})).await;
    c.until::<Pod>("the first pod", |s| s.len() == 1).await;
    c.run_pods(1).await;
    c.until::<Pod>("the second pod", |s| s.len() == 2).await;
    c.run_pods(2).await;
    let status = |s: &Store, field: &str| value(s, "default", "web", &format!("/status/{field}"));
    c.until::<StatefulSet>("both are available", |s| status(s, "availableReplicas") == 2).await;
    c.until::<PersistentVolumeClaim>("each has a claim", |s| s.len() == 2).await;

    let at = At { resource: &typed::resource::<StatefulSet>(), namespace: "default", name: "web", subresource: "" };
    let mut new = template_of_old.clone();
    new["spec"]["containers"][0]["image"] = json!("web:2");
    c.writer.patch(at, MERGE_PATCH, &json!({"spec": {"template": new}})).await.expect("patch");
    for pod in ["web-1", "web-0"] {
        c.until::<Pod>("the next pod is new", |s| image(s, pod) == "web:2").await;
        c.run_pods(2).await;
    }
    let done =
        |s: &Store| status(s, "updatedReplicas") == 2 && status(s, "currentRevision") == status(s, "updateRevision");
    c.until::<StatefulSet>("the update is complete", done).await;
    // What is kept brings the old template back, as `kubectl rollout undo` does it.
    c.until::<ControllerRevision>("both templates are kept", |s| s.len() == 2).await;
    let revisions = c.informer::<ControllerRevision>().list();
    let first = revisions.iter().filter_map(|i| i.object.tree().ok()).find(|r| r["revision"] == 1).expect("the first");
    c.writer.patch(at, STRATEGIC_MERGE_PATCH, &first["data"]).await.expect("undo");
    for pod in ["web-1", "web-0"] {
        c.until::<Pod>("the next pod is old again", |s| image(s, pod) == "web:1").await;
        c.run_pods(2).await;
    }
    let numbers = |s: &Store| {
        let mut all: Vec<i64> = s.iter().filter_map(|i| i.object.tree().ok()?["revision"].as_i64()).collect();
        all.sort_unstable();
        all
    };
    c.until::<ControllerRevision>("the first is the third now", |s| numbers(s) == [2, 3]).await;

    c.until::<StatefulSet>("all is well", |s| status(s, "readyReplicas") == 2 && done(s)).await;
    let scale = At { subresource: "scale", ..at };
    c.writer.patch(scale, MERGE_PATCH, &json!({"spec": {"replicas": 1}})).await.expect("scale");
    c.until::<PersistentVolumeClaim>("the second pod's claim goes with it", |s| s.len() == 1).await;
    c.writer.delete(at, &Default::default()).await.expect("delete");
    c.until::<PersistentVolumeClaim>("the other one goes with the set", Store::is_empty).await;
}

#[tokio::test]
async fn a_daemon_set_has_a_pod_on_each_node_and_replaces_them_in_turn() {
    let c = Cluster::start().await;
    let nodes = typed::resource::<Node>();
    for name in ["n1", "n2"] {
        let node = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}});
        c.writer.create(At { resource: &nodes, namespace: "", name: "", subresource: "" }, &node).await.expect("node");
    }
    // Nobody renews leases here, so the nodes are soon tainted as out of reach.
    let template = |image: &str| {
        let mut template = template(image);
        template["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        template
    };
    let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template("web:1")});
    c.create::<DaemonSet>(json!({"metadata": {"name": "web"}, "spec": spec})).await;
    c.until::<Pod>("a pod for each node", |s| s.len() == 2).await;
    c.run_pods(2).await;
    let status = |s: &Store, field: &str| value(s, "default", "web", &format!("/status/{field}"));
    c.until::<DaemonSet>("both are available", |s| status(s, "numberAvailable") == 2).await;

    let at = At { resource: &typed::resource::<DaemonSet>(), namespace: "default", name: "web", subresource: "" };
    let patch = json!({"spec": {"template": template("web:2")}});
    c.writer.patch(at, MERGE_PATCH, &patch).await.expect("patch");
    let new = |s: &Store| s.iter().filter(|i| image(s, &i.object.head.name) == "web:2").count();
    for count in 1..=2 {
        c.until::<Pod>("one more is new", |s| s.len() == 2 && new(s) == count).await;
        c.run_pods(2).await;
    }
    c.until::<DaemonSet>("all are new", |s| {
        status(s, "updatedNumberScheduled") == 2 && status(s, "numberAvailable") == 2
    })
    .await;
}

#[tokio::test]
async fn a_replication_controller_scales() {
    let c = Cluster::start().await;
    let spec = json!({"replicas": 2, "template": template("web:1")});
    c.create::<ReplicationController>(json!({"metadata": {"name": "web"}, "spec": spec})).await;
    c.until::<Pod>("two pods", |s| s.len() == 2).await;
    let resource = typed::resource::<ReplicationController>();
    let at = At { resource: &resource, namespace: "default", name: "web", subresource: "scale" };
    c.writer.patch(at, MERGE_PATCH, &json!({"spec": {"replicas": 1}})).await.expect("scale");
    c.until::<Pod>("one pod", |s| s.len() == 1).await;
    c.until::<ReplicationController>("it says so", |s| value(s, "default", "web", "/status/replicas") == 1).await;
}

/// Everything that is looked at: pods with a service, a budget, a quota and an autoscaler, a node with a
/// lease, endpoints kept by hand.
async fn furnish(c: &Cluster) {
    c.deploy().await;
    c.create::<Service>(
        json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}),
    )
    .await;
    c.create::<PodDisruptionBudget>(
        json!({"metadata": {"name": "web"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}}),
    )
    .await;
    let hard = json!({"pods": "9", "count/services": "9", "requests.memory": "1Gi"});
    c.create::<ResourceQuota>(json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    c.create::<HorizontalPodAutoscaler>(
        json!({"metadata": {"name": "web"}, "spec": {"maxReplicas": 5, "scaleTargetRef": target}}),
    )
    .await;
    c.create::<Service>(json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}})).await;
    let subsets = json!([{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 5432}]}]);
    c.create::<Endpoints>(json!({"metadata": {"name": "db"}, "subsets": subsets})).await;
    let node = kybern_testkit::objects::node("n1");
    assert_eq!(c.world.call("POST", "/api/v1/nodes", &node).await.code, 201);
    c.renew(0).await;
}

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

impl Cluster {
    /// Renews the node's lease.
    async fn renew(&self, second: usize) {
        let time = format!("2026-01-02T03:{:02}:{:02}.000000Z", 4 + second / 60, second % 60);
        let spec = json!({"holderIdentity": "n1", "leaseDurationSeconds": 40, "renewTime": time});
        let answer = match second {
            0 => self.world.call("POST", LEASES, &json!({"metadata": {"name": "n1"}, "spec": spec})).await,
            _ => self.world.call("PATCH", &format!("{LEASES}/n1"), &json!({ "spec": spec })).await,
        };
        assert!(answer.code < 300, "{}", answer.text());
    }
    fn revision(&self) -> u64 {
        self.world.store.view().revision()
    }
    /// The keys written after a revision.
    fn written_after(&self, revision: u64) -> Vec<String> {
        let (all, _) = self.world.store.view().range(b"", b"", 0);
        let late = all.into_iter().filter(|kv| kv.mod_revision > revision);
        late.map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
    }
    async fn pass(&self, seconds: usize) {
        for _ in 0..seconds {
            self.world.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn for_a_minute_a_converged_cluster_sees_no_writes_but_renewals() {
    let c = Cluster::start().await;
    furnish(&c).await;
    let mut second = 0;
    loop {
        let before = c.revision();
        c.pass(10).await;
        if c.revision() == before {
            break;
        }
        second += 10;
        assert!(second < 300, "still written to: {:?}", c.written_after(before));
        c.renew(second).await;
    }
    let before = c.revision();
    for round in 1..=6 {
        c.pass(10).await;
        c.renew(second + 10 * round).await;
    }
    assert_eq!(c.revision() - before, 6, "{:?}", c.written_after(before));
    // All of it has been looked at, or there would be nothing to rest from.
    let status = |path: &str| format!("/{path}/web");
    let autoscaler = status("apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers");
    let autoscaler = c.world.call("GET", &autoscaler, &Value::Null).await.json();
    assert_eq!(autoscaler["status"]["conditions"][1]["reason"], "FailedGetResourceMetric", "{autoscaler}");
    let budget = status("apis/policy/v1/namespaces/default/poddisruptionbudgets");
    let budget = c.world.call("GET", &budget, &Value::Null).await.json();
    assert_eq!(budget["status"]["disruptionsAllowed"], 1, "{budget}");
    let quota = c.world.call("GET", "/api/v1/namespaces/default/resourcequotas/q", &Value::Null).await.json();
    assert_eq!(quota["status"]["used"], json!({"pods": "3", "count/services": "2", "requests.memory": "0"}));
    c.until::<EndpointSlice>("a mirrored slice", |s| s.iter().any(|i| i.object.head.name.starts_with("db-"))).await;
}

/// Plays the scheduler and a node: a claim gets its volume where its pod will run, and gives it back.
#[tokio::test]
async fn a_claim_gets_its_volume_and_gives_it_back_through_the_node() {
    let c = Cluster::start().await;
    let tree = |store: &Store, name: &Name| store.get(name).and_then(|i| i.object.tree().ok()).unwrap_or_default();
    let (claim, node) = (Name::new("default", "data"), Name::new("", "n1"));
    let class = json!({"metadata": {"name": "local-path"}, "provisioner": "kybern.io/local-path",
        "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer"});
    c.create_global::<StorageClass>(class).await;
    c.create_global::<Node>(json!({"metadata": {"name": "n1", "annotations": {"kybern.io/local-path": "/d"}}})).await;
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "local-path",
        "resources": {"requests": {"storage": "1Gi"}}});
    c.create::<PersistentVolumeClaim>(json!({"metadata": {"name": "data"}, "spec": spec})).await;
    let claims = typed::resource::<PersistentVolumeClaim>();
    let at = At { resource: &claims, namespace: "default", name: "data", subresource: "" };
    let selected = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}});
    c.writer.patch(at, MERGE_PATCH, &selected).await.expect("select a node");
    let is_bound = |s: &Store| {
        let claim = tree(s, &claim);
        claim["status"]["phase"] == "Bound" && claim["status"]["capacity"]["storage"] == "1Gi"
    };
    c.until::<PersistentVolumeClaim>("the claim is bound", is_bound).await;
    let phase =
        |s: &Store| s.iter().next().and_then(|v| v.object.tree().ok()).unwrap_or_default()["status"]["phase"].clone();
    c.until::<PersistentVolume>("so is the volume", |s| phase(s) == "Bound").await;

    c.writer.delete(at, &Default::default()).await.expect("delete");
    c.until::<PersistentVolumeClaim>("nobody uses it: the claim goes", Store::is_empty).await;
    let asked = |s: &Store| {
        let all = tree(s, &node)["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
        all.into_iter().find(|(key, _)| key.starts_with("reclaim.kybern.io/"))
    };
    c.until::<Node>("the node is asked", |s| asked(s).is_some_and(|(_, word)| word == "delete")).await;
    let (key, _) = asked(&c.informer::<Node>().store()).expect("what it is asked");
    let nodes = typed::resource::<Node>();
    let at = At { resource: &nodes, namespace: "", name: "n1", subresource: "" };
    c.writer.patch(at, MERGE_PATCH, &json!({"metadata": {"annotations": {key: "done"}}})).await.expect("the answer");
    c.until::<PersistentVolume>("the volume goes", Store::is_empty).await;
    c.until::<Node>("and the word with it", |s| asked(s).is_none()).await;
}
