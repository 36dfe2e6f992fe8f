//! Creating, changing and deleting.

use crate::cases::{MAPS, maps, none, verdict};
use kybern_testkit::{World, objects};
use serde_json::json;

#[tokio::test]
async fn an_object_lives_and_dies() {
    let world = World::start().await;
    let created = world.call("POST", MAPS, &objects::config_map("a", "1")).await;
    assert_eq!(created.code, 201, "{}", created.text());
    let object = created.json();
    assert_eq!(object["metadata"]["creationTimestamp"], kybern_testkit::START);
    assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    assert!(object["metadata"]["uid"].as_str().is_some_and(|u| u.len() == 36));
    assert_eq!(object["metadata"]["managedFields"][0]["operation"], "Update");

    let path = format!("{MAPS}/a");
    let got = world.call("GET", &path, &none()).await;
    assert_eq!(got.json(), object);

    let patched = world.call("PATCH", &path, &json!({"data": {"key": "2"}})).await.json();
    assert_eq!(patched["data"]["key"], "2");
    assert_ne!(patched["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"]);

    let stale = world.call("PUT", &path, &object).await;
    assert_eq!(verdict(&stale), "409 Conflict");
    assert!(
        stale
            .text()
            .contains("the object has been modified; please apply your changes to the latest version and try again")
    );

    let same = world.call("PUT", &path, &patched).await.json();
    assert_eq!(same["metadata"]["resourceVersion"], patched["metadata"]["resourceVersion"], "no change, no write");

    let deleted = world.call("DELETE", &path, &none()).await;
    assert_eq!((deleted.code, deleted.json()["status"].clone()), (200, json!("Success")));
    assert_eq!(verdict(&world.call("GET", &path, &none()).await), "404 NotFound");
}

#[tokio::test]
async fn generated_names_clash_and_are_tried_again() {
    let world = World::start().await;
    let mut body = objects::config_map("", "1");
    body["metadata"] = json!({"generateName": "web-"});
    let name = world.call("POST", MAPS, &body).await.json()["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
}

#[tokio::test]
async fn finalizers_hold_a_deletion_until_they_are_gone() {
    let world = World::start().await;
    let mut body = objects::config_map("held", "1");
    body["metadata"]["finalizers"] = json!(["example.org/hold"]);
    world.call("POST", MAPS, &body).await;
    let path = format!("{MAPS}/held");
    let lingering = world.call("DELETE", &path, &none()).await.json();
    assert_eq!(lingering["metadata"]["deletionTimestamp"], kybern_testkit::START);
    assert_eq!(lingering["metadata"]["deletionGracePeriodSeconds"], 0);
    let more = json!({"metadata": {"finalizers": ["example.org/hold", "example.org/more"]}});
    assert_eq!(verdict(&world.call("PATCH", &path, &more).await), "422 Invalid");
    let last = world.call("PATCH", &path, &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(last.code, 200, "{}", last.text());
    assert_eq!(verdict(&world.call("GET", &path, &none()).await), "404 NotFound");
}

#[tokio::test]
async fn propagation_policies_become_finalizers() {
    let world = World::start().await;
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        maps(&world, &["p"]).await;
        let path = format!("{MAPS}/p");
        let left = world.call("DELETE", &format!("{path}?propagationPolicy={policy}"), &none()).await.json();
        assert_eq!(left["metadata"]["finalizers"], json!([finalizer]), "{policy}");
        world.call("PATCH", &path, &json!({"metadata": {"finalizers": null}})).await;
    }
    maps(&world, &["p"]).await;
    let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
    assert_eq!(world.call("DELETE", &format!("{MAPS}/p"), &body).await.json()["status"], "Success");
}

#[tokio::test]
async fn preconditions_protect_a_deletion() {
    let world = World::start().await;
    maps(&world, &["a"]).await;
    let path = format!("{MAPS}/a");
    for wrong in [json!({"uid": "other"}), json!({"resourceVersion": "1"})] {
        let body = json!({"preconditions": wrong});
        assert_eq!(verdict(&world.call("DELETE", &path, &body).await), "409 Conflict");
    }
    let uid = world.call("GET", &path, &none()).await.json()["metadata"]["uid"].clone();
    assert_eq!(world.call("DELETE", &path, &json!({"preconditions": {"uid": uid}})).await.code, 200);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let world = World::start().await;
    let created = world.call("POST", &format!("{MAPS}?dryRun=All"), &objects::config_map("dry", "1")).await;
    assert_eq!(created.code, 201);
    assert!(created.json()["metadata"]["uid"].is_string());
    assert!(created.json()["metadata"].get("resourceVersion").is_none());
    assert_eq!(verdict(&world.call("GET", &format!("{MAPS}/dry"), &none()).await), "404 NotFound");

    maps(&world, &["kept"]).await;
    let path = format!("{MAPS}/kept");
    let before = world.call("GET", &path, &none()).await.json();
    let patched = world.call("PATCH", &format!("{path}?dryRun=All"), &json!({"data": {"key": "9"}})).await.json();
    assert_eq!(patched["data"]["key"], "9");
    assert_eq!(world.call("DELETE", &format!("{path}?dryRun=All"), &none()).await.code, 200);
    assert_eq!(world.call("GET", &path, &none()).await.json(), before);
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let world = World::start().await;
    let all = "/apis/apps/v1/namespaces/default/deployments";
    let created = world.call("POST", all, &objects::deployment("web", 3)).await;
    assert_eq!(created.code, 201, "{}", created.text());
    assert_eq!(created.json()["metadata"]["generation"], 1);
    let path = format!("{all}/web");
    let both = json!({"spec": {"replicas": 5}, "status": {"replicas": 2}});
    let main = world.call("PATCH", &path, &both).await.json();
    assert_eq!((&main["spec"]["replicas"], &main["status"]["replicas"]), (&json!(5), &json!(null)));
    assert_eq!(main["metadata"]["generation"], 2);
    let both = json!({"spec": {"replicas": 7}, "status": {"replicas": 2}});
    let status = world.call("PATCH", &format!("{path}/status"), &both).await.json();
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(5), &json!(2)));
    assert_eq!(status["metadata"]["generation"], 2);
    let scaled = world.call("PATCH", &format!("{path}/scale"), &json!({"spec": {"replicas": 4}})).await.json();
    assert_eq!(
        (&scaled["kind"], &scaled["spec"]["replicas"], &scaled["status"]["selector"]),
        (&json!("Scale"), &json!(4), &json!("app=web"))
    );
    assert_eq!(world.call("GET", &path, &none()).await.json()["spec"]["replicas"], 4);
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let world = World::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let created = world.call("POST", pods, &objects::pod("p")).await;
    assert_eq!(created.code, 201, "{}", created.text());
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    let bound = world.call("POST", &format!("{pods}/p/binding"), &binding).await;
    assert_eq!(bound.code, 201, "{}", bound.text());
    let pod = world.call("GET", &format!("{pods}/p"), &none()).await.json();
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
    let again = world.call("POST", &format!("{pods}/p/binding"), &binding).await;
    assert_eq!(verdict(&again), "409 Conflict");
    assert!(again.text().contains("pod p is already assigned to node"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn concurrent_patches_all_arrive() {
    let world = World::start().await;
    maps(&world, &["shared"]).await;
    let path = format!("{MAPS}/shared");
    let patches = (0..16).map(|i| {
        let (world, path) = (world.clone(), path.clone());
        tokio::spawn(async move {
            let key = format!("k{i}");
            world.call("PATCH", &path, &json!({"data": {key: "v"}})).await.code
        })
    });
    for patch in patches.collect::<Vec<_>>() {
        assert_eq!(patch.await.expect("the patch ran"), 200);
    }
    let data = world.call("GET", &path, &none()).await.json()["data"].clone();
    assert_eq!(data.as_object().map(serde_json::Map::len), Some(17), "{data}");
}

#[tokio::test]
async fn a_patch_that_names_a_revision_holds_for_it_alone() {
    let world = World::start().await;
    maps(&world, &["a"]).await;
    let path = format!("{MAPS}/a");
    let first = world.call("GET", &path, &none()).await.json()["metadata"]["resourceVersion"].clone();
    let patch = |value: &str| json!({"metadata": {"resourceVersion": first}, "data": {"key": value}});
    assert_eq!(world.call("PATCH", &path, &patch("2")).await.code, 200);
    assert_eq!(verdict(&world.call("PATCH", &path, &patch("3")).await), "409 Conflict");
    assert_eq!(world.call("GET", &path, &none()).await.json()["data"]["key"], "2");
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let world = World::start().await;
    maps(&world, &["a", "b"]).await;
    world.call("PATCH", &format!("{MAPS}/a"), &json!({"metadata": {"labels": {"go": "yes"}}})).await;
    let gone = world.call("DELETE", &format!("{MAPS}?labelSelector=go%3Dyes"), &none()).await;
    assert_eq!(gone.code, 200, "{}", gone.text());
    assert_eq!(verdict(&world.call("GET", &format!("{MAPS}/a"), &none()).await), "404 NotFound");
    assert_eq!(world.call("GET", &format!("{MAPS}/b"), &none()).await.code, 200);
}

#[tokio::test]
async fn services_take_addresses_and_ports_and_give_them_back() {
    let world = World::start().await;
    let all = "/api/v1/namespaces/default/services";
    let mut fixed = objects::service("fixed");
    fixed["spec"]["clusterIP"] = json!("10.43.0.10");
    let taken = world.call("POST", all, &fixed).await;
    assert_eq!(taken.code, 201, "{}", taken.text());
    assert_eq!(taken.json()["spec"]["clusterIPs"], json!(["10.43.0.10"]));
    fixed["metadata"]["name"] = json!("second");
    assert_eq!(verdict(&world.call("POST", all, &fixed).await), "422 Invalid");
    assert_eq!(world.call("DELETE", &format!("{all}/fixed"), &none()).await.code, 200);
    assert_eq!(world.call("POST", all, &fixed).await.code, 201, "a deleted service gives its address back");

    let mut open = objects::service("open");
    open["spec"]["type"] = json!("NodePort");
    let open = world.call("POST", all, &open).await.json();
    let port = open["spec"]["ports"][0]["nodePort"].as_i64().expect("a port");
    assert!((30_000..=32_767).contains(&port));
    assert!(open["spec"]["clusterIP"].as_str().is_some_and(|a| a.starts_with("10.43.")));
    fixed["spec"]["clusterIP"] = json!("192.0.2.1");
    fixed["metadata"]["name"] = json!("outside");
    assert_eq!(verdict(&world.call("POST", all, &fixed).await), "422 Invalid");
}

#[tokio::test]
async fn a_namespace_ends_when_its_finalizer_goes() {
    let world = World::start().await;
    world.call("POST", "/api/v1/namespaces", &objects::namespace("gone")).await;
    let path = "/api/v1/namespaces/gone";
    let ending = world.call("DELETE", path, &none()).await.json();
    assert_eq!(ending["status"]["phase"], "Terminating");
    let late = world.call("POST", &format!("{path}/configmaps"), &objects::config_map("x", "1")).await;
    assert_eq!(verdict(&late), "403 Forbidden");
    let mut last = world.call("GET", path, &none()).await.json();
    last["spec"]["finalizers"] = json!([]);
    assert_eq!(world.call("PUT", &format!("{path}/finalize"), &last).await.code, 200);
    assert_eq!(verdict(&world.call("GET", path, &none()).await), "404 NotFound");
}

#[tokio::test]
async fn apply_owns_what_it_says() {
    let world = World::start().await;
    let apply = async |manager: &str, force: bool, value: &str| {
        let body = format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: owned\ndata:\n  key: {value}\n");
        let uri = format!("{MAPS}/owned?fieldManager={manager}&force={force}");
        let request = http::Request::patch(uri)
            .header("authorization", "Bearer admin")
            .header("content-type", "application/apply-patch+yaml")
            .body(bytes::Bytes::from(body));
        world.http(request.expect("a request")).await
    };
    let created = apply("one", false, "a").await;
    assert_eq!(created.code, 201, "{}", created.text());
    let conflict = apply("two", false, "b").await;
    assert_eq!(verdict(&conflict), "409 Conflict");
    assert_eq!(conflict.json()["details"]["causes"][0]["reason"], "FieldManagerConflict");
    let taken = apply("two", true, "b").await;
    assert_eq!((taken.code, taken.json()["data"]["key"].clone()), (200, json!("b")));
}
