//! What requests cost in this process, without sockets and without a disk:
//! `cargo bench -p kybern-apiserver --bench costs` (ONLY=get, patch, status, list or watch for one of them,
//! COUNT for another number of pods). Under a profiler that counts instructions it also tells on a busy
//! machine: `valgrind --tool=callgrind target/release/deps/costs-... --bench` with COUNT=500.

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::BodyExt;
use kybern_testkit::{Builder, World, objects};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A pod like those of real clusters: about 2.9 KB with its managed fields.
fn pod(name: &str) -> Value {
    let env: Vec<Value> = (0..8).map(|i| json!({"name": format!("VARIABLE_{i}"), "value": "a value"})).collect();
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10});
    let mut pod = objects::pod(name);
    pod["metadata"]["labels"] = json!({"app": "web", "tier": "front", "release": "stable"});
    pod["metadata"]["annotations"] = json!({"example.org/note": "x".repeat(300)});
    pod["spec"]["schedulerName"] = "none".into();
    pod["spec"]["containers"] = json!([{
        "name": "main", "image": "example.org/web:1", "env": env, "ports": [{"containerPort": 8080}],
        "livenessProbe": probe, "readinessProbe": probe,
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }]);
    pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    pod
}

async fn send(world: &World, method: &str, path: &str, media: &str, body: Bytes) -> u16 {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", "Bearer admin")
        .header("user-agent", "bench/1")
        .header("content-type", media)
        .body(body)
        .expect("a request");
    world.http(request).await.code
}

/// Runs `work` for each number up to `count` and prints how long one takes.
async fn cost(what: &str, count: usize, work: impl AsyncFn(usize) -> u16) {
    let began = Instant::now();
    for i in 0..count {
        let code = work(i).await;
        assert!(code < 300, "{what}: {code}");
    }
    print(what, began.elapsed(), count);
}

fn print(what: &str, took: Duration, count: usize) {
    let each = took.as_secs_f64() / count as f64;
    println!("{what:28} {:9.1} us {:10.0}/s", each * 1e6, 1.0 / each);
}

/// A number from the environment, for a profiler that makes everything slow.
fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn main() {
    // Test runs build and start benches too; there is nothing to check here.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        requests().await;
        if wanted("watch") {
            watches().await;
        }
    });
}

/// Is this to be measured?
fn wanted(what: &str) -> bool {
    std::env::var("ONLY").map_or(true, |only| only.is_empty() || only == what)
}

async fn requests() {
    let world = Builder::default().authorizer(std::sync::Arc::new(kybern_testkit::rbac::Standard::new())).start().await;
    let count = number("COUNT", 20_000);
    cost("create pod", count, async |i| {
        let body = pod(&format!("pod-{i:05}")).to_string().into();
        send(&world, "POST", PODS, "application/json", body).await
    })
    .await;
    println!("a pod has {} bytes", world.call("GET", &format!("{PODS}/pod-00001"), &json!(null)).await.bytes.len());
    if wanted("get") {
        cost("get pod", count, async |i| {
            send(&world, "GET", &format!("{PODS}/pod-{:05}", i % count), "", Bytes::new()).await
        })
        .await;
    }
    if wanted("patch") {
        cost("merge-patch pod label", count, async |i| {
            let body = json!({"metadata": {"labels": {"round": format!("r{i}")}}}).to_string().into();
            send(&world, "PATCH", &format!("{PODS}/pod-{i:05}"), "application/merge-patch+json", body).await
        })
        .await;
    }
    if wanted("status") {
        cost("strategic patch pod status", count, async |i| {
            let status = json!({"status": {"phase": "Running", "podIP": "10.42.0.7", "conditions": [{"type": "Ready", "status": "True"}]}});
            let path = format!("{PODS}/pod-{i:05}/status");
            send(&world, "PATCH", &path, "application/strategic-merge-patch+json", status.to_string().into()).await
        })
        .await;
    }
    if wanted("list") {
        cost("list all pods", 20, async |_| send(&world, "GET", PODS, "", Bytes::new()).await).await;
        let none = format!("{PODS}?labelSelector=app%3Dnone");
        cost("list none of all pods", 50, async |_| send(&world, "GET", &none, "", Bytes::new()).await).await;
    }
}

async fn watches() {
    const WATCHERS: usize = 500;
    const EVENTS: usize = 1_000;
    let world = World::start().await;
    let mut open = Vec::new();
    for _ in 0..WATCHERS {
        let request = http::Request::get(format!("{MAPS}?watch=true"))
            .header("authorization", "Bearer admin")
            .body(http_body_util::Empty::<Bytes>::new())
            .expect("a request");
        let mut body = world.server.handle(request).await.into_body().into_data_stream();
        open.push(tokio::spawn(async move {
            let (mut events, mut pieces) = (0, 0);
            while let Some(Ok(piece)) = body.next().await {
                // Each event is a line that begins like this; the system's own object comes first.
                events += piece.windows(9).filter(|w| w == b"\"name\":\"m").count();
                pieces += 1;
                if events >= EVENTS {
                    break;
                }
            }
            pieces
        }));
    }
    let began = Instant::now();
    for i in 0..EVENTS {
        let map = objects::config_map(&format!("m{i}"), &"x".repeat(512));
        assert_eq!(world.call("POST", MAPS, &map).await.code, 201);
    }
    let mut pieces = 0;
    for watcher in open {
        pieces += watcher.await.expect("the watcher ran");
    }
    print("delivery to a watcher", began.elapsed(), WATCHERS * EVENTS);
    println!("{:.1} events in a piece", (WATCHERS * EVENTS) as f64 / f64::from(pieces));
}
