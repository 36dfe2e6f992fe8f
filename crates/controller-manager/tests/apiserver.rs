//! All controllers against the real API server on the memory store, each with no more than its own
//! role: what they write is valid, and what they need they may do.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kybern_api::attributes::UserInfo;
use kybern_api::seam::SystemIds;
use kybern_client::informer::Informer;
use kybern_client::set::InformerSet;
use kybern_client::store::{Name, Store};
use kybern_client::transport::MERGE_PATCH;
use kybern_client::typed;
use kybern_client::write::{At, Writer};
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
    async fn create<K: k8s_openapi::Resource>(&self, mut object: Value) {
        object["kind"] = json!(K::KIND);
        object["apiVersion"] = json!(K::API_VERSION);
        let at = At { resource: &typed::resource::<K>(), namespace: "default", name: "", subresource: "" };
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
