//! Classes of faults that other API servers had, each by name.

use crate::cases::{MAPS, maps, names, none};
use kybern_testkit::{Builder, World, objects};
use serde_json::{Value, json};
use std::sync::Arc;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";

/// A world judged by roles, where `jane` has these rules in the namespace `default`.
async fn jane(rules: Value) -> World {
    let world = Builder::default().authorizer(Arc::new(kybern_testkit::rbac::Standard::new())).start().await;
    let role = json!({"metadata": {"name": "jane"}, "rules": rules});
    let subject = json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"});
    let of = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "jane"});
    let binding = json!({"metadata": {"name": "jane"}, "roleRef": of, "subjects": [subject]});
    for (plural, body) in [("roles", role), ("rolebindings", binding)] {
        let answer = world.call("POST", &format!("{RBAC}/{plural}"), &body).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
    }
    world
}

/// CVE-2019-11247: rights in a namespace opened what lies in none, by a path that named both.
#[tokio::test]
async fn cluster_scoped_objects_are_not_reached_through_a_namespace() {
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let world = jane(everything).await;
    world.call("POST", "/api/v1/nodes", &objects::node("n1")).await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/clusterroles";
    for path in ["/api/v1/namespaces/default/nodes", "/api/v1/namespaces/default/nodes/n1", roles] {
        for method in ["GET", "DELETE"] {
            assert_eq!(world.call_as("jane", method, path, &none()).await.code, 404, "{method} {path}");
        }
    }
    assert_eq!(world.call_as("jane", "GET", "/api/v1/nodes/n1", &none()).await.code, 403);
    assert_eq!(world.call("GET", "/api/v1/nodes/n1", &none()).await.code, 200, "it is still there");
}

/// CVE-2015-5305, CVE-2022-3162: a name or a namespace that is another's beginning, or a path in disguise.
#[tokio::test]
async fn no_name_crosses_into_another_namespace_or_kind() {
    let world = World::start().await;
    maps(&world, &["ours"]).await;
    for namespace in ["def", "defaults"] {
        world.call("POST", "/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await;
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        assert_eq!(world.call("POST", &path, &objects::config_map("theirs", "x")).await.code, 201);
    }
    assert_eq!(names(&world.call("GET", MAPS, &none()).await.json()), ["ours"]);
    let def = world.call("GET", "/api/v1/namespaces/def/configmaps", &none()).await.json();
    assert_eq!(names(&def), ["theirs"]);
    let disguised = ["..%2Fdefaults%2Ftheirs", "%2E%2E%2Fdefaults%2Ftheirs", "..", "theirs%00", "%2F", "ours%2F"];
    for name in disguised {
        let answer = world.call("GET", &format!("{MAPS}/{name}"), &none()).await;
        assert!(matches!(answer.code, 400 | 404), "{name}: {} {}", answer.code, answer.text());
        assert!(!answer.text().contains("theirs\",\"namespace\":\"defaults"), "{name}");
    }
}

/// CVE-2018-1002105 and nodes/proxy's GET: who may only read opened a connection that runs commands.
#[tokio::test]
async fn reading_rights_run_no_commands() {
    let world =
        jane(json!([{"apiGroups": [""], "resources": ["pods", "pods/exec", "pods/attach"], "verbs": ["get"]}])).await;
    let pods = "/api/v1/namespaces/default/pods";
    let mut pod = objects::pod("p");
    pod["spec"]["nodeName"] = "n1".into();
    world.call("POST", pods, &pod).await;
    assert_eq!(world.call_as("jane", "GET", &format!("{pods}/p"), &none()).await.code, 200);
    for sub in ["exec?command=id&stdout=true", "attach?stdout=true"] {
        for method in ["GET", "POST"] {
            let answer = world.call_as("jane", method, &format!("{pods}/p/{sub}"), &none()).await;
            assert_eq!(answer.code, 403, "{method} {sub}: {}", answer.text());
        }
    }
}

/// CVE-2023-2727, CVE-2023-2728 and their like: a way into a running pod went past admission.
#[tokio::test]
async fn what_joins_a_running_pod_is_judged_as_the_pod_was() {
    let world = World::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let mut pod = objects::pod("p");
    pod["spec"]["nodeName"] = "n1".into();
    assert_eq!(world.call("POST", pods, &pod).await.code, 201);
    let strict = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    assert_eq!(world.call("PATCH", "/api/v1/namespaces/default", &strict).await.code, 200);
    // Admission goes by the server's caches, which follow a moment later.
    let mut privileged = objects::pod("q");
    privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let seen = async {
        while world.call("POST", &format!("{pods}?dryRun=All"), &privileged).await.code != 403 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), seen).await.expect("the label is honoured");
    let debugger = |privileged: bool| {
        let context = json!({"privileged": privileged});
        let debugger =
            json!({"name": "d", "image": "i", "securityContext": context, "terminationMessagePolicy": "File"});
        json!({"spec": {"ephemeralContainers": [debugger]}})
    };
    let path = format!("{pods}/p/ephemeralcontainers");
    let refused = world.call("PATCH", &path, &debugger(true)).await;
    assert_eq!(refused.code, 403, "{}", refused.text());
    assert!(refused.text().contains("violates PodSecurity"), "{}", refused.text());
    let allowed = world.call("PATCH", &path, &debugger(false)).await;
    assert_eq!(allowed.code, 200, "{}", allowed.text());
}

/// CVE-2021-25735: admission of a Node judged by an old object that the client could choose. Here it is the
/// stored one, by every way to write.
#[tokio::test]
async fn a_node_does_not_choose_what_it_is_compared_with() {
    let world = World::start().await;
    let (path, node) = ("/api/v1/nodes/n1", "system:node:n1");
    let label = "node-restriction.kubernetes.io/trusted";
    assert_eq!(world.call("POST", "/api/v1/nodes", &objects::node("n1")).await.code, 201);
    let mut stored = world.call("GET", path, &none()).await.json();
    stored["metadata"]["labels"][label] = "yes".into();
    for (method, path) in [("PUT", path.to_owned()), ("PUT", format!("{path}/status"))] {
        let answer = world.call_as(node, method, &path, &stored).await;
        let labels = world.call("GET", "/api/v1/nodes/n1", &none()).await.json()["metadata"]["labels"].clone();
        assert!(labels.get(label).is_none(), "{method} {path}: {} {labels}", answer.code);
    }
    let patch = json!({"metadata": {"labels": {label: "yes"}}});
    for path in [path.to_owned(), format!("{path}/status")] {
        let answer = world.call_as(node, "PATCH", &path, &patch).await;
        let labels = world.call("GET", "/api/v1/nodes/n1", &none()).await.json()["metadata"]["labels"].clone();
        assert!(labels.get(label).is_none(), "PATCH {path}: {} {labels}", answer.code);
    }
    let refused = world.call_as(node, "PATCH", path, &patch).await;
    assert_eq!(refused.code, 403, "{}", refused.text());
    // And one that takes its own Node's owner away to have it collected, or collected later (CVE-2025-5187).
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "gone"});
    let patch = json!({"metadata": {"ownerReferences": [owner]}});
    assert_eq!(world.call_as(node, "PATCH", path, &patch).await.code, 403);
}

/// CVE-2020-8554: a Service that takes an address of others. Refused from the first start.
#[tokio::test]
async fn nobody_takes_an_address_that_is_not_the_clusters() {
    let world = World::start().await;
    let services = "/api/v1/namespaces/default/services";
    let mut service = objects::service("s");
    service["spec"]["externalIPs"] = json!(["8.8.8.8"]);
    assert_eq!(world.call("POST", services, &service).await.code, 403);
    assert_eq!(world.call("POST", services, &objects::service("s")).await.code, 201);
    let taken = json!({"spec": {"externalIPs": ["8.8.8.8"]}});
    assert_eq!(world.call("PATCH", &format!("{services}/s"), &taken).await.code, 403);
}

/// CVE-2021-25737: endpoints named addresses of the node. (Who may write endpoints at all, CVE-2021-25740, is in
/// the matrix of the default roles.)
#[tokio::test]
async fn endpoints_are_no_way_to_a_nodes_own_addresses() {
    let world = World::start().await;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let endpoints = "/api/v1/namespaces/default/endpoints";
    for address in ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1"] {
        let slice = json!({
            "metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": [],
        });
        let answer = world.call("POST", slices, &slice).await;
        assert_eq!(answer.code, 422, "EndpointSlice {address}: {}", answer.text());
        let subset = json!({"addresses": [{"ip": address}], "ports": [{"port": 1}]});
        let body = json!({"metadata": {"name": "e"}, "subsets": [subset]});
        let answer = world.call("POST", endpoints, &body).await;
        assert_eq!(answer.code, 422, "Endpoints {address}: {}", answer.text());
    }
}

/// CVE-2019-11254, CVE-2019-11253, CVE-2019-1002100 and their like are bodies in `hostile`; CVE-2019-11250 and
/// its like, secrets in logs, are in `audit`; this is a Secret that its kind's own errors could show.
#[tokio::test]
async fn a_refused_secret_is_not_shown_by_the_refusal() {
    let world = World::start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let plain = "not base64, and private";
    for body in [
        json!({"metadata": {"name": "s"}, "data": {"k": plain}}),
        json!({"metadata": {"name": "s"}, "data": {"k/ey": "cHJpdmF0ZQ=="}, "stringData": {"k": [plain]}}),
        json!({"metadata": {"name": "s"}, "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": plain}}),
    ] {
        let answer = world.call("POST", secrets, &body).await;
        assert!(matches!(answer.code, 400 | 422), "{}", answer.text());
        assert!(!answer.text().contains(plain), "{}", answer.text());
    }
}
