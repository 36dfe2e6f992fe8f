//! Quotas: what is taken is taken exactly, with the object or not at all.

use kybern_testkit::{Answer, Builder, World, objects};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

async fn quota(world: &World, name: &str, spec: Value) {
    let answer = world.call("POST", QUOTAS, &json!({"metadata": {"name": name}, "spec": spec})).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
}

async fn pod(world: &World, name: &str) -> Answer {
    world.call("POST", PODS, &objects::pod(name)).await
}

#[tokio::test]
async fn a_full_quota_refuses_in_kubernetes_words() {
    let world = World::start().await;
    quota(&world, "q", json!({"hard": {"pods": "2", "count/pods": "9"}})).await;
    assert_eq!((pod(&world, "a").await.code, pod(&world, "b").await.code), (201, 201));
    let refused = pod(&world, "c").await;
    assert_eq!(refused.code, 403);
    let text = "pods \"c\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2";
    assert_eq!((&refused.json()["message"], &refused.json()["reason"]), (&json!(text), &json!("Forbidden")));

    // What goes, or ends, gives back what it used.
    assert_eq!(world.call("DELETE", &format!("{PODS}/a"), &Value::Null).await.code, 200);
    assert_eq!(pod(&world, "c").await.code, 201);
    assert_eq!(pod(&world, "d").await.code, 403);
    let ended = json!({"status": {"phase": "Succeeded"}});
    assert_eq!(world.call("PATCH", &format!("{PODS}/b/status"), &ended).await.code, 200);
    assert_eq!(pod(&world, "d").await.code, 201);
}

#[tokio::test]
async fn amounts_are_added_up_and_a_refusal_lists_all_that_is_too_much() {
    let world = World::start().await;
    quota(&world, "q", json!({"hard": {"requests.cpu": "1", "requests.memory": "1Gi"}})).await;
    let sized = |name: &str, cpu: &str, memory: &str| {
        let mut pod = objects::pod(name);
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu, "memory": memory}});
        pod
    };
    assert_eq!(world.call("POST", PODS, &sized("a", "600m", "512Mi")).await.code, 201);
    let refused = world.call("POST", PODS, &sized("b", "600m", "768Mi")).await;
    let text = "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=600m,requests.memory=768Mi, used: requests.cpu=600m,requests.memory=512Mi, limited: requests.cpu=1,requests.memory=1Gi";
    assert_eq!(refused.json()["message"], text);
    assert_eq!(world.call("POST", PODS, &sized("b", "400m", "512Mi")).await.code, 201);
}

#[tokio::test]
async fn many_writers_on_three_servers_take_exactly_what_is_left() {
    let first = World::start().await;
    let mut worlds = vec![first.clone()];
    for _ in 0..2 {
        worlds.push(Builder::default().store(first.store.clone()).empty().start().await);
    }
    quota(&first, "q", json!({"hard": {"pods": "7"}})).await;
    quota(&first, "wide", json!({"hard": {"count/pods": "100"}})).await;
    let tries: Vec<_> = (0..30)
        .map(|i| {
            let world = worlds[i % 3].clone();
            tokio::spawn(async move { pod(&world, &format!("p{i}")).await.code })
        })
        .collect();
    let mut codes = Vec::new();
    for task in tries {
        codes.push(task.await.expect("a task"));
    }
    let count = |code| codes.iter().filter(|c| **c == code).count();
    assert_eq!((count(201), count(403)), (7, 23), "{codes:?}");
}

#[tokio::test]
async fn a_new_quota_counts_what_is_there_and_a_raised_one_lets_more_in() {
    let world = World::start().await;
    for name in ["a", "b", "c"] {
        assert_eq!(pod(&world, name).await.code, 201);
    }
    quota(&world, "q", json!({"hard": {"pods": "2"}})).await;
    let refused = pod(&world, "d").await;
    assert!(refused.text().contains("used: pods=3, limited: pods=2"), "{}", refused.text());
    let raised = json!({"spec": {"hard": {"pods": "4", "count/configmaps": "1"}}});
    assert_eq!(world.call("PATCH", &format!("{QUOTAS}/q"), &raised).await.code, 200);
    assert_eq!((pod(&world, "d").await.code, pod(&world, "e").await.code), (201, 403));
    let maps = "/api/v1/namespaces/default/configmaps";
    assert_eq!(world.call("POST", maps, &objects::config_map("m", "v")).await.code, 201);
    assert_eq!(world.call("POST", maps, &objects::config_map("n", "v")).await.code, 403);
    assert_eq!(world.call("DELETE", &format!("{QUOTAS}/q"), &Value::Null).await.code, 200);
    assert_eq!(world.call("POST", maps, &objects::config_map("n", "v")).await.code, 201);
    // Its successor of the same name begins anew.
    quota(&world, "q", json!({"hard": {"count/configmaps": "3"}})).await;
    assert_eq!(world.call("POST", maps, &objects::config_map("o", "v")).await.code, 201);
    assert_eq!(world.call("POST", maps, &objects::config_map("p", "v")).await.code, 403);
}

#[tokio::test]
async fn a_status_write_puts_right_counters_that_missed_something() {
    let world = World::start().await;
    quota(&world, "q", json!({"hard": {"pods": "2"}})).await;
    // A server that does not know of the quota writes past it.
    let blind = Builder::default().store(world.store.clone()).without_plugins(&["ServiceAccount", "ResourceQuota"]);
    let blind = blind.empty().start().await;
    for name in ["a", "b"] {
        assert_eq!(pod(&blind, name).await.code, 201);
    }
    let seen = json!({"status": {"hard": {"pods": "2"}, "used": {"pods": "2"}}});
    assert_eq!(world.call("PATCH", &format!("{QUOTAS}/q/status"), &seen).await.code, 200);
    let refused = pod(&world, "c").await;
    assert!(refused.text().contains("used: pods=2, limited: pods=2"), "{}", refused.text());
}

#[tokio::test]
async fn dry_runs_are_judged_and_take_nothing() {
    let world = World::start().await;
    quota(&world, "q", json!({"hard": {"pods": "1"}})).await;
    let dry = format!("{PODS}?dryRun=All");
    for _ in 0..2 {
        assert_eq!(world.call("POST", &dry, &objects::pod("x")).await.code, 201);
    }
    assert_eq!(pod(&world, "a").await.code, 201);
    assert_eq!(world.call("POST", &dry, &objects::pod("x")).await.code, 403);
}

#[tokio::test]
async fn a_service_that_becomes_reachable_on_nodes_is_counted_then() {
    let world = World::start().await;
    quota(&world, "q", json!({"hard": {"services.nodeports": "0", "services": "5"}})).await;
    let services = "/api/v1/namespaces/default/services";
    assert_eq!(world.call("POST", services, &objects::service("web")).await.code, 201);
    let opened = json!({"spec": {"type": "NodePort"}});
    let refused = world.call("PATCH", &format!("{services}/web"), &opened).await;
    assert_eq!(refused.code, 403, "{}", refused.text());
    assert!(
        refused.text().contains("requested: services.nodeports=1, used: services.nodeports=0"),
        "{}",
        refused.text()
    );
    let bound = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(world.call("PATCH", &format!("{services}/web"), &bound).await.code, 200);
}

#[tokio::test]
async fn with_the_plugin_off_nothing_is_counted() {
    let world = Builder::default().without_plugins(&["ServiceAccount", "ResourceQuota"]).start().await;
    quota(&world, "q", json!({"hard": {"pods": "0"}})).await;
    assert_eq!(pod(&world, "a").await.code, 201);
}
