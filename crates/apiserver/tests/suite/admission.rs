//! Every way to write goes through admission: what a node may do is asked of all of them.

use crate::cases::{none, verdict};
use kybern_authn::TokenConfig;
use kybern_authn::issuer::Issuer;
use kybern_authn::pki::new_key_pem;
use kybern_testkit::{Builder, World, objects};
use serde_json::{Value, json};
use std::sync::Arc;

const PODS: &str = "/api/v1/namespaces/default/pods";
const NODE: &str = "system:node:n1";

/// Two nodes with one pod each, `mine` and `theirs`, and a world that mints tokens. Only admission
/// stands between a node and what it asks for: the authoriser allows everything.
async fn nodes() -> World {
    let config = TokenConfig::for_domain("cluster.local");
    let issuer = Issuer::new(&config.issuer, &config.audiences, &[new_key_pem().expect("a key")]).expect("an issuer");
    let world = Builder::default().issuer(Arc::new(issuer)).start().await;
    for name in ["default", "builder"] {
        let account = json!({"metadata": {"name": name}});
        create(&world, "/api/v1/namespaces/default/serviceaccounts", &account).await;
    }
    for (pod, node) in [("mine", "n1"), ("theirs", "n2")] {
        create(&world, "/api/v1/nodes", &objects::node(node)).await;
        let mut body = objects::pod(pod);
        body["spec"]["nodeName"] = node.into();
        body["spec"]["serviceAccountName"] = "default".into();
        create(&world, PODS, &body).await;
    }
    world
}

async fn create(world: &World, path: &str, body: &Value) {
    let answer = world.call("POST", path, body).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
}

async fn uid(world: &World, pod: &str) -> String {
    let pod = world.call("GET", &format!("{PODS}/{pod}"), &none()).await.json();
    pod["metadata"]["uid"].as_str().expect("a pod").to_owned()
}

fn binding(pod: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": {"kind": "Node", "name": "n1"}})
}

#[tokio::test]
async fn a_node_cannot_mint_a_token_that_is_not_bound_to_its_own_pod() {
    let world = nodes().await;
    let (mine, theirs) = (uid(&world, "mine").await, uid(&world, "theirs").await);
    let bound = |kind: &str, name: &str, uid: &str| json!({"kind": kind, "apiVersion": "v1", "name": name, "uid": uid});
    let cases = [
        ("default", bound("Pod", "mine", &mine), json!([]), 201),
        ("default", none(), json!([]), 403),
        ("default", bound("Secret", "mine", &mine), json!([]), 403),
        ("default", bound("Node", "n1", ""), json!([]), 403),
        ("default", bound("Pod", "theirs", &theirs), json!([]), 403),
        ("default", bound("Pod", "missing", &mine), json!([]), 403),
        ("default", bound("Pod", "mine", ""), json!([]), 403),
        ("default", bound("Pod", "mine", &theirs), json!([]), 403),
        ("default", bound("Pod", "mine", &mine), json!(["vault"]), 403),
        ("builder", bound("Pod", "mine", &mine), json!([]), 403),
    ];
    for (account, reference, audiences, want) in cases {
        let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
        let body = json!({"spec": {"boundObjectRef": reference, "audiences": audiences}});
        let answer = world.call_as(NODE, "POST", &path, &body).await;
        assert_eq!(answer.code, want, "{account} {body}: {}", answer.text());
        assert_eq!(answer.json()["status"]["token"].is_string(), want == 201, "{account} {body}");
    }
}

#[tokio::test]
async fn a_node_cannot_bind_pods_or_connect_to_them() {
    let world = nodes().await;
    create(&world, PODS, &objects::pod("free")).await;
    let cases = [
        ("POST", format!("{PODS}/free/binding"), binding("free")),
        ("POST", "/api/v1/namespaces/default/bindings".into(), binding("free")),
        ("POST", format!("{PODS}/mine/exec?command=id&stdout=true"), none()),
        ("GET", format!("{PODS}/mine/exec?command=id&stdout=true"), none()),
        ("POST", format!("{PODS}/mine/attach?stdout=true"), none()),
        ("POST", format!("{PODS}/mine/portforward?ports=80"), none()),
        ("PATCH", format!("{PODS}/mine/resize"), json!({"metadata": {"labels": {"a": "b"}}})),
        ("PATCH", format!("{PODS}/mine/ephemeralcontainers"), json!({"spec": {"ephemeralContainers": []}})),
        ("PATCH", format!("{PODS}/theirs/status"), json!({"status": {"phase": "Failed"}})),
        ("PATCH", format!("{PODS}/mine"), json!({"metadata": {"labels": {"a": "b"}}})),
    ];
    for (method, path, body) in cases {
        let answer = world.call_as(NODE, method, &path, &body).await;
        assert_eq!(verdict(&answer), "403 Forbidden", "{method} {path}: {}", answer.text());
    }
    let free = world.call("GET", &format!("{PODS}/free"), &none()).await.json();
    assert_eq!(free["spec"].get("nodeName"), None);
}

#[tokio::test]
async fn a_node_evicts_and_deletes_only_what_runs_on_it() {
    let world = nodes().await;
    let evict = |pod: &str| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
    let foreign = world.call_as(NODE, "POST", &format!("{PODS}/theirs/eviction"), &evict("theirs")).await;
    assert_eq!(verdict(&foreign), "403 Forbidden");
    let all = world.call_as(NODE, "DELETE", &format!("{PODS}?fieldSelector=metadata.name%3Dtheirs"), &none()).await;
    assert_eq!(verdict(&all), "403 Forbidden", "each object of a collection is judged");
    let theirs = world.call("GET", &format!("{PODS}/theirs"), &none()).await.json();
    assert_eq!(theirs["metadata"].get("deletionTimestamp"), None);
    let own = world.call_as(NODE, "POST", &format!("{PODS}/mine/eviction"), &evict("mine")).await;
    assert_eq!(own.code, 201, "{}", own.text());
}

#[tokio::test]
async fn the_namespaces_a_cluster_needs_stay() {
    let world = World::start().await;
    for name in ["default", "kube-system", "kube-public"] {
        let answer = world.call("DELETE", &format!("/api/v1/namespaces/{name}"), &none()).await;
        assert_eq!(verdict(&answer), "403 Forbidden", "{name}");
    }
}

#[tokio::test]
async fn a_pod_carries_the_zone_of_its_node() {
    let world = World::start().await;
    let mut node = objects::node("n1");
    node["metadata"]["labels"] =
        json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "other": "x"});
    create(&world, "/api/v1/nodes", &node).await;
    let wanted = json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"});
    let labels = async |pod: &str| {
        world.call("GET", &format!("{PODS}/{pod}"), &none()).await.json()["metadata"]["labels"].clone()
    };

    let mut free = objects::pod("free");
    free["metadata"]["labels"] =
        json!({"topology.kubernetes.io/zone": "wished-for", "topology.kubernetes.io/region": "r"});
    create(&world, PODS, &free).await;
    create(&world, &format!("{PODS}/free/binding"), &binding("free")).await;
    assert_eq!(labels("free").await, wanted, "what is so wins over what was wished for");

    let mut placed = objects::pod("placed");
    placed["metadata"]["labels"] = json!({"topology.kubernetes.io/region": "own"});
    placed["spec"]["nodeName"] = "n1".into();
    create(&world, PODS, &placed).await;
    let own = json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "own"});
    assert_eq!(labels("placed").await, own);

    let mut carried = binding("later");
    carried["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "carried"});
    create(&world, PODS, &objects::pod("later")).await;
    create(&world, &format!("{PODS}/later/binding"), &carried).await;
    assert_eq!(labels("later").await["topology.kubernetes.io/zone"], "carried");
}
