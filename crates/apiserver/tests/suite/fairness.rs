//! Priority and fairness: who floods the server waits or is refused; others are served.

use bytes::Bytes;
use futures::StreamExt;
use http_body::Frame;
use http_body_util::StreamBody;
use kybern_testkit::{Builder, World};
use serde_json::{Value, json};
use std::convert::Infallible;

const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";
const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn created(world: &World, path: &str, object: Value) -> Value {
    let answer = world.call("POST", path, &object).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()
}

/// A level for jane alone, with one seat, where requests wait in `response`'s queues or are refused.
async fn for_jane(world: &World, response: Value) -> (Value, Value) {
    let limited = json!({"nominalConcurrencyShares": 1, "borrowingLimitPercent": 0, "limitResponse": response});
    let level = json!({"metadata": {"name": "jane"}, "spec": {"type": "Limited", "limited": limited}});
    let rule =
        json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true});
    let subject = json!({"kind": "User", "user": {"name": "jane"}});
    let schema = json!({"metadata": {"name": "jane"}, "spec": {
        "matchingPrecedence": 300, "priorityLevelConfiguration": {"name": "jane"},
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [subject], "resourceRules": [rule]}]}});
    (created(world, LEVELS, level).await, created(world, SCHEMAS, schema).await)
}

/// A request of jane's that takes her seat until it is aborted: its body never ends.
async fn endless(world: &World) -> tokio::task::JoinHandle<()> {
    let (began, begun) = tokio::sync::oneshot::channel();
    let first = futures::stream::once(async move {
        let _ = began.send(());
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"{")))
    });
    let request = http::Request::builder()
        .method("POST")
        .uri(CONFIG_MAPS)
        .header("authorization", "Bearer jane")
        .header("content-type", "application/json")
        .body(StreamBody::new(first.chain(futures::stream::pending()).boxed()))
        .expect("a request");
    let server = world.server.clone();
    let task = tokio::spawn(async move {
        server.handle(request).await;
    });
    begun.await.expect("it is read");
    task
}

async fn list_as(world: &World, user: &str) -> kybern_testkit::Answer {
    world.call_as(user, "GET", CONFIG_MAPS, &Value::Null).await
}

#[tokio::test]
async fn a_level_without_queues_refuses_and_tells_where_the_request_was_put() {
    let world = Builder::default().configure(|c| c.max_requests = 6).start().await;
    let (level, schema) = for_jane(&world, json!({"type": "Reject"})).await;
    let flood = endless(&world).await;
    let refused = list_as(&world, "jane").await;
    assert_eq!((refused.code, &refused.json()["reason"]), (429, &json!("TooManyRequests")));
    assert_eq!(refused.headers["retry-after"], "1");
    for (header, object) in [("flowschema", &schema), ("prioritylevel", &level)] {
        assert_eq!(
            refused.headers[&*format!("x-kubernetes-pf-{header}-uid")],
            *object["metadata"]["uid"].as_str().unwrap()
        );
    }
    assert_eq!(list_as(&world, "joe").await.code, 200, "others have seats of their own");
    flood.abort();
    let _ = flood.await;
    assert_eq!(list_as(&world, "jane").await.code, 200, "her seat is free again");
}

#[tokio::test]
async fn a_level_with_queues_lets_requests_wait() {
    let world = Builder::default().configure(|c| c.max_requests = 6).start().await;
    for_jane(&world, json!({"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 1}})).await;
    let flood = endless(&world).await;
    let (waiting, server) = (list_as(&world, "jane"), list_as(&world, "jane"));
    tokio::pin!(waiting, server);
    assert!(futures::poll!(&mut waiting).is_pending());
    assert_eq!(server.await.code, 429, "one waits already");
    flood.abort();
    let _ = flood.await;
    assert_eq!(waiting.await.code, 200);
}

#[tokio::test]
async fn levels_and_schemas_are_validated() {
    let world = World::start().await;
    let limited = |limited: Value| json!({"metadata": {"name": "x"}, "spec": {"type": "Limited", "limited": limited}});
    let queuing = json!({"type": "Queue", "queuing": {"queues": 2, "handSize": 3}});
    let cases = [
        (
            LEVELS,
            json!({"metadata": {"name": "x"}, "spec": {"type": "Limited"}}),
            "spec.limited: Required value: must not be empty",
        ),
        (LEVELS, limited(json!({"limitResponse": queuing})), "should not be greater than queues (2)"),
        (LEVELS, limited(json!({"limitResponse": {"type": "Drop"}})), "supported values: \"Queue\", \"Reject\""),
        (
            LEVELS,
            limited(json!({"lendablePercent": 101, "limitResponse": {"type": "Reject"}})),
            "must be between 0 and 100, inclusive",
        ),
        (
            SCHEMAS,
            json!({"metadata": {"name": "x"}, "spec": {"priorityLevelConfiguration": {"name": "x"}, "matchingPrecedence": 1}}),
            "only the schema named 'exempt' may have matchingPrecedence 1",
        ),
        (
            SCHEMAS,
            json!({"metadata": {"name": "x"}, "spec": {"priorityLevelConfiguration": {"name": ""}}}),
            "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
        ),
    ];
    for (path, object, want) in cases {
        let answer = world.call("POST", path, &object).await;
        assert!(
            answer.code == 422 && answer.text().replace("\\\"", "\"").contains(want),
            "{object}: {}",
            answer.text()
        );
    }
}
