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
