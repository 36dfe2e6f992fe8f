//! Evictions against disruption budgets.

use kybern_testkit::{Answer, World, objects};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

async fn running(world: &World, name: &str, ready: bool) {
    let mut pod = objects::pod(name);
    pod["metadata"]["labels"] = json!({"app": "web"});
    pod["spec"]["nodeName"] = "n".into();
    pod["spec"]["terminationGracePeriodSeconds"] = 0.into();
    assert_eq!(world.call("POST", PODS, &pod).await.code, 201);
    let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" }});
    let status = json!({"status": {"phase": "Running", "conditions": [condition]}});
    assert_eq!(world.call("PATCH", &format!("{PODS}/{name}/status"), &status).await.code, 200);
}

async fn budget(world: &World, spec: Value, status: Value) {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    let object = json!({"metadata": {"name": "web"}, "spec": spec});
    assert_eq!(world.call("POST", BUDGETS, &object).await.code, 201);
    let path = format!("{BUDGETS}/web/status");
    let answer = world.call("PATCH", &path, &json!({ "status": status })).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
}

async fn evict(world: &World, pod: &str, options: Value) -> Answer {
    let body =
        json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": pod}, "deleteOptions": options});
    world.call("POST", &format!("{PODS}/{pod}/eviction"), &body).await
}

fn observed(allowed: i64, healthy: i64) -> Value {
    json!({"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": 2, "expectedPods": healthy})
}

async fn left(world: &World) -> Value {
    world.call("GET", &format!("{BUDGETS}/web"), &Value::Null).await.json()["status"].clone()
}

#[tokio::test]
async fn a_spent_budget_refuses_with_the_cause() {
    let world = World::start().await;
    running(&world, "a", true).await;
    budget(&world, json!({"minAvailable": 2}), observed(0, 2)).await;
    let refused = evict(&world, "a", Value::Null).await;
    let status = refused.json();
    assert_eq!((refused.code, &status["reason"]), (429, &json!("TooManyRequests")));
    assert_eq!(status["message"], "Cannot evict pod as it would violate the pod's disruption budget.");
    let cause = json!({"reason": "DisruptionBudget", "message": "The disruption budget web needs 2 healthy pods and has 2 currently"});
    assert_eq!(status["details"]["causes"], json!([cause]));
    assert_eq!(world.call("GET", &format!("{PODS}/a"), &Value::Null).await.code, 200);
}

#[tokio::test]
async fn a_budget_its_controller_has_not_seen_refuses_for_a_while() {
    let world = World::start().await;
    running(&world, "a", true).await;
    budget(&world, json!({"minAvailable": 2}), json!({"observedGeneration": 0, "disruptionsAllowed": 5, "currentHealthy": 7, "desiredHealthy": 2, "expectedPods": 7})).await;
    let refused = evict(&world, "a", Value::Null).await;
    assert_eq!((refused.code, &refused.json()["details"]["retryAfterSeconds"]), (429, &json!(10)));
    assert_eq!(
        refused.json()["details"]["causes"][0]["message"],
        "The disruption budget web is still being processed by the server."
    );
}

#[tokio::test]
async fn a_dozen_at_once_spend_exactly_what_is_allowed() {
    let world = World::start().await;
    for i in 0..12 {
        running(&world, &format!("p{i}"), true).await;
    }
    budget(&world, json!({"minAvailable": 2}), observed(5, 12)).await;
    let tries = (0..12).map(|i| {
        let world = world.clone();
        tokio::spawn(async move { evict(&world, &format!("p{i}"), Value::Null).await.code })
    });
    let mut codes = Vec::new();
    for task in tries {
        codes.push(task.await.expect("a task"));
    }
    let count = |code| codes.iter().filter(|c| **c == code).count();
    assert_eq!((count(201), count(429)), (5, 7), "{codes:?}");
    let status = left(&world).await;
    assert_eq!(status["disruptionsAllowed"], 0);
    assert_eq!(status["disruptedPods"].as_object().map(serde_json::Map::len), Some(5));
}

#[tokio::test]
async fn a_dry_run_and_a_failed_precondition_spend_nothing() {
    let world = World::start().await;
    running(&world, "a", true).await;
    budget(&world, json!({"minAvailable": 2}), observed(1, 3)).await;
    assert_eq!(evict(&world, "a", json!({"dryRun": ["All"]})).await.code, 201);
    assert_eq!(evict(&world, "a", json!({"preconditions": {"uid": "other"}})).await.code, 409);
    assert_eq!(evict(&world, "a", json!({"preconditions": {"resourceVersion": "1"}})).await.code, 409);
    assert_eq!(left(&world).await["disruptionsAllowed"], 1);
    let pod = world.call("GET", &format!("{PODS}/a"), &Value::Null).await.json();
    let unmarked = |pod: &Value| pod["status"]["conditions"].as_array().is_some_and(|c| c.len() == 1);
    assert!(unmarked(&pod), "{pod}");

    let revision = pod["metadata"]["resourceVersion"].clone();
    assert_eq!(evict(&world, "a", json!({"preconditions": {"resourceVersion": revision}})).await.code, 201);
    assert_eq!(left(&world).await["disruptionsAllowed"], 0);
    assert_eq!(world.call("GET", &format!("{PODS}/a"), &Value::Null).await.code, 404);
}

#[tokio::test]
async fn pods_that_are_not_healthy_go_as_the_policy_says() {
    for (policy, healthy, code) in
        [(Value::Null, 2, 201), (json!("IfHealthyBudget"), 1, 429), (json!("AlwaysAllow"), 1, 201)]
    {
        let world = World::start().await;
        running(&world, "sick", false).await;
        budget(&world, json!({"minAvailable": 2, "unhealthyPodEvictionPolicy": policy}), observed(0, healthy)).await;
        assert_eq!(evict(&world, "sick", Value::Null).await.code, code, "{policy} with {healthy}");
        assert_eq!(left(&world).await["disruptedPods"], Value::Null, "nothing was spent");
    }
}

#[tokio::test]
async fn an_evicted_pod_that_lingers_is_marked() {
    let world = World::start().await;
    running(&world, "held", true).await;
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    assert_eq!(world.call("PATCH", &format!("{PODS}/held"), &hold).await.code, 200);
    assert_eq!(evict(&world, "held", Value::Null).await.code, 201);
    let pod = world.call("GET", &format!("{PODS}/held"), &Value::Null).await.json();
    let mark = pod["status"]["conditions"].as_array().and_then(|c| c.iter().find(|c| c["type"] == "DisruptionTarget"));
    let mark = mark.expect("a mark");
    assert_eq!((&mark["status"], &mark["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
    assert_eq!(mark["message"], "Eviction API: evicting");
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
}
