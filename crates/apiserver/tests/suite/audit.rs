//! What is written down of requests, and what never is.

use crate::cases::{MAPS, none};
use bytes::Bytes;
use kybern_api::seam::FixedClock;
use kybern_apiserver::audit::{Audit, Event, Log, LogSettings, Policy, Sink};
use kybern_testkit::{Builder, World, objects};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;

/// Keeps events in memory.
#[derive(Default)]
struct Kept(Mutex<Vec<Event>>);

impl Sink for Kept {
    fn push(&self, event: Event) {
        self.0.lock().push(event);
    }
}

impl Kept {
    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.0.lock()).iter().map(Event::to_json).collect()
    }
}

async fn world(rules: Value, omit: Value) -> (World, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let policy = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": omit, "rules": rules});
    let policy = Arc::new(Policy::parse(&policy.to_string()).expect("a policy"));
    let world = Builder::default()
        .authorizer(Arc::new(kybern_testkit::rbac::Standard::new()))
        .audit(Audit { policy, sink: kept.clone() })
        .start()
        .await;
    kept.take();
    (world, kept)
}

fn stages(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["stage"].as_str().expect("a stage")).collect()
}

#[tokio::test]
async fn a_request_is_written_down_at_its_stages() {
    let (world, kept) = world(json!([{"level": "Metadata"}]), json!([])).await;
    let path = format!("{MAPS}?fieldManager=me");
    let answer = world.call("POST", &path, &objects::config_map("a", "kept private")).await;
    let events = kept.take();
    assert_eq!(stages(&events), ["RequestReceived", "ResponseComplete"]);
    let event = &events[1];
    assert_eq!(event["auditID"], answer.headers["audit-id"].to_str().expect("text"));
    assert_eq!((&event["requestURI"], &event["verb"]), (&json!(path), &json!("create")));
    assert_eq!(event["objectRef"], json!({"resource": "configmaps", "namespace": "default", "apiVersion": "v1"}));
    assert_eq!(event["user"]["username"], "admin");
    assert_eq!(event["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(event["requestReceivedTimestamp"], "2026-01-02T03:04:05.000000Z");
    assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "allow");
    assert!(!event.to_string().contains("kept private"), "Metadata holds no objects");
}

#[tokio::test]
async fn refusals_and_impersonation_are_written_down() {
    let (world, kept) = world(json!([{"level": "Metadata"}]), json!(["RequestReceived"])).await;
    world.call_as("jane", "GET", "/api/v1/secrets", &none()).await;
    let event = kept.take().remove(0);
    assert_eq!(
        (&event["responseStatus"]["code"], &event["responseStatus"]["reason"]),
        (&json!(403), &json!("Forbidden"))
    );
    assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "forbid");

    let request = |headers: &[(&str, &str)]| {
        let mut r = http::Request::builder().uri(MAPS).header("x-forwarded-for", "192.0.2.7, junk");
        for (key, value) in headers {
            r = r.header(*key, *value);
        }
        r.body(Bytes::new()).expect("a request")
    };
    world.http(request(&[])).await;
    let event = kept.take().remove(0);
    assert_eq!((&event["responseStatus"]["code"], &event["user"]["username"]), (&json!(401), &json!("")));
    assert_eq!(event["sourceIPs"], json!(["192.0.2.7"]));

    world.http(request(&[("authorization", "Bearer admin"), ("impersonate-user", "jane"), ("audit-id", "mine")])).await;
    let event = kept.take().remove(0);
    assert_eq!((&event["user"]["username"], &event["impersonatedUser"]["username"]), (&json!("admin"), &json!("jane")));
    assert_eq!((&event["auditID"], &event["responseStatus"]["code"]), (&json!("mine"), &json!(403)));

    let long = "x".repeat(65);
    let answer = world.http(request(&[("authorization", "Bearer admin"), ("audit-id", &long)])).await;
    assert_ne!(answer.headers["audit-id"], long.as_str(), "a client's own id is bounded");
}

#[tokio::test]
async fn objects_are_written_down_where_the_policy_says_so() {
    let rules = json!([{"level": "RequestResponse", "omitManagedFields": true}]);
    let (world, kept) = world(rules, json!(["RequestReceived"])).await;
    world.call("POST", MAPS, &objects::config_map("a", "x")).await;
    let event = kept.take().remove(0);
    assert_eq!(event["requestObject"]["data"], event["responseObject"]["data"]);
    assert!(event["responseObject"]["metadata"]["uid"].is_string());
    assert!(event["responseObject"]["metadata"].get("managedFields").is_none());

    let yaml = http::Request::builder()
        .method("POST")
        .uri(MAPS)
        .header("authorization", "Bearer admin")
        .header("content-type", "application/yaml")
        .body(Bytes::from("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {k: v}\n"));
    world.http(yaml.expect("a request")).await;
    assert_eq!(kept.take().remove(0)["requestObject"]["data"]["k"], "v");

    world.call("GET", MAPS, &none()).await;
    let event = kept.take().remove(0);
    assert_eq!(event["responseObject"]["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn what_is_too_large_is_left_out_and_said_so() {
    let (world, kept) = world(json!([{"level": "Request"}]), json!(["RequestReceived"])).await;
    world.call("POST", MAPS, &objects::config_map("a", &"x".repeat(200 << 10))).await;
    let event = kept.take().remove(0);
    assert_eq!(event["annotations"]["audit.k8s.io/truncated"], "true");
    assert!(event.get("requestObject").is_none());
}

#[tokio::test]
async fn secrets_and_tokens_are_never_written_down_with_their_content() {
    let (world, kept) = world(json!([{"level": "RequestResponse"}]), json!([])).await;
    let word = "aHVudGVyMg==";
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"p": word}});
    let secrets = "/api/v1/namespaces/default/secrets";
    world.call("POST", secrets, &secret).await;
    world.call("PATCH", &format!("{secrets}/s"), &json!({"data": {"q": word}})).await;
    world.call("GET", &format!("{secrets}/s"), &none()).await;
    world.call("GET", secrets, &none()).await;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": word}});
    world.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [word]}});
    world.call("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", &request).await;
    let admin = world.admin();
    let of = kybern_client::transport::Resource::new("", "v1", "secrets");
    admin.get(&of, "default", "s").await.expect("the secret");
    let events = kept.take();
    assert_eq!(events.len(), 14, "each is written down: {events:?}");
    for event in events {
        assert_eq!(event["level"], "Metadata");
        assert!(!event.to_string().contains(word), "{event}");
        assert!(event.get("requestObject").is_none() && event.get("responseObject").is_none());
    }
}

#[tokio::test]
async fn a_watch_begins_and_ends() {
    let (world, kept) = world(json!([{"level": "Metadata"}]), json!(["RequestReceived"])).await;
    let answer = world.call("GET", &format!("{MAPS}?watch=true&timeoutSeconds=1"), &none()).await;
    assert_eq!(answer.code, 200);
    let events = kept.take();
    assert_eq!(stages(&events), ["ResponseStarted", "ResponseComplete"]);
    assert_eq!(events[1]["verb"], "watch");

    let watched = kybern_client::transport::Selection::default();
    let of = kybern_client::transport::Resource::new("", "v1", "configmaps");
    let list = world.admin().list(&of, &watched).await.expect("a list");
    kept.take();
    let stream = world.admin().watch(&of, &watched, list.revision).await.expect("a watch");
    let events = kept.take();
    assert_eq!(stages(&events), ["ResponseStarted"]);
    assert_eq!(events[0]["requestURI"], "/api/v1/configmaps");
    drop(stream);
    assert_eq!(stages(&kept.take()), ["ResponseComplete"]);
}

#[tokio::test]
async fn a_client_that_goes_away_is_written_down() {
    let (world, kept) = world(json!([{"level": "Metadata"}]), json!(["RequestReceived"])).await;
    let body = futures::stream::pending::<Result<http_body::Frame<Bytes>, std::io::Error>>();
    let request = http::Request::builder()
        .method("POST")
        .uri(MAPS)
        .header("authorization", "Bearer admin")
        .body(http_body_util::StreamBody::new(body))
        .expect("a request");
    let waiting = world.server.handle(request);
    let late = tokio::time::timeout(std::time::Duration::from_millis(50), waiting).await;
    assert!(late.is_err());
    let event = kept.take().remove(0);
    assert_eq!(event["responseStatus"]["code"], 499);
}

#[tokio::test]
async fn the_file_holds_a_line_per_event_and_a_full_queue_drops() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.log");
    let settings = LogSettings {
        path: path.clone(),
        max_size: 1 << 20,
        max_backups: 1,
        max_age: jiff::SignedDuration::from_hours(1),
    };
    let clock = Arc::new(FixedClock::new("2026-01-02T03:04:05Z".parse().expect("a time")));
    let mut metrics = prometheus_client::registry::Registry::default();
    let log = Arc::new(Log::open(settings, clock, &mut metrics).expect("a log"));
    let policy = Arc::new(Policy::standard().expect("a policy"));
    let world = Builder::default().audit(Audit { policy, sink: log.clone() }).start().await;
    for name in ["a", "b"] {
        world.call("POST", MAPS, &objects::config_map(name, "x")).await;
    }
    world.call("GET", "/readyz", &none()).await;
    log.close();
    world.call("GET", MAPS, &none()).await;
    let text = std::fs::read_to_string(&path).expect("text");
    let events: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("a line of JSON")).collect();
    let of_admin: Vec<&Value> = events
        .iter()
        .filter(|e| e["user"]["username"] == "admin" && e["objectRef"]["namespace"] == "default")
        .collect();
    assert_eq!(of_admin.len(), 2, "{text}");
    let mut figures = String::new();
    prometheus_client::encoding::text::encode(&mut figures, &metrics).expect("figures");
    assert!(figures.contains(&format!("apiserver_audit_event_total {}", events.len())), "{figures}");
    assert!(figures.contains("apiserver_audit_dropped_total 1"), "what comes after the end is counted: {figures}");
}
