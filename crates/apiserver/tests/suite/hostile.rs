//! Input that is made to break a server: answered in bounded time and memory, with a Status, and nothing
//! of it is kept.

use crate::cases::{MAPS, maps, none, verdict};
use crate::sockets::{Served, ask, serve};
use bytes::Bytes;
use kybern_testkit::{Answer, World, objects};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const MERGE: &str = "application/merge-patch+json";
const PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

pub async fn send(served: &Served, method: &str, path: &str, media: &str, body: impl Into<Bytes>) -> Answer {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", "Bearer admin")
        .header("content-type", media);
    ask(served, request, body).await
}

fn map(data: &str) -> String {
    format!(r#"{{"metadata":{{"name":"x"}},"data":{data}}}"#)
}

fn nested(levels: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
}

fn revision(data: &str) -> String {
    format!(r#"{{"metadata":{{"name":"r"}},"revision":1,"data":{data}}}"#)
}

/// Nine anchors, each naming the one before nine times.
fn alias_bomb() -> String {
    let mut text = "a0: &a0 [x]\n".to_owned();
    for level in 1..9 {
        let names = vec![format!("*a{}", level - 1); 9].join(",");
        text.push_str(&format!("a{level}: &a{level} [{names}]\n"));
    }
    format!("metadata: {{name: x}}\ndata:\n  {}", text.replace('\n', "\n  "))
}

/// A patch that makes an object deeper with every operation.
fn deepening(path: &str) -> String {
    let mut ops = vec![json!({"op": "add", "path": format!("{path}/n"), "value": {}})];
    for _ in 0..3_000 {
        ops.push(json!({"op": "add", "path": format!("{path}/m"), "value": {"b": {"b": {"b": {"b": {}}}}}}));
        ops.push(json!({"op": "move", "from": format!("{path}/n"), "path": format!("{path}/m/b/b/b/b/n")}));
        ops.push(json!({"op": "move", "from": format!("{path}/m"), "path": format!("{path}/n")}));
    }
    Value::from(ops).to_string()
}

fn many_operations(count: usize) -> String {
    Value::from(vec![json!({"op": "test", "path": "/data/key", "value": "x"}); count]).to_string()
}

/// A patch whose copies double a value each time.
fn copying() -> String {
    let mut ops = vec![json!({"op": "add", "path": "/data/c0", "value": "x".repeat(1024)})];
    for i in 0..4_000 {
        ops.push(json!({"op": "copy", "from": "/data/c0", "path": format!("/data/d{i}")}));
    }
    Value::from(ops).to_string()
}

#[tokio::test]
async fn bodies_made_to_break_a_server() {
    let world = World::start().await;
    maps(&world, &["here"]).await;
    let served = serve(&world).await;
    assert_eq!(send(&served, "POST", REVISIONS, JSON, revision("{}")).await.code, 201);
    let (here, deep) = (format!("{MAPS}/here"), format!("{REVISIONS}/r"));
    let applied = format!("{here}?fieldManager=me");
    let annotated = json!({"metadata": {"name": "x", "annotations": {"a": "x".repeat(257 << 10)}}}).to_string();
    let yaml_deep = format!("metadata: {{name: x}}\ndata: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    let flow = format!("revision: 1\nmetadata: {{name: s}}\ndata: {}1{}", "{a: ".repeat(110), "}".repeat(110));
    let cases: &[(&str, &str, &str, &str, String, &str)] = &[
        ("aliases", "POST", MAPS, YAML, alias_bomb(), "400 BadRequest"),
        ("aliases in an apply", "PATCH", &applied, APPLY, alias_bomb(), "400 BadRequest"),
        ("10,000 levels", "POST", MAPS, JSON, map(&nested(10_000)), "400 BadRequest"),
        ("10,000 levels of YAML", "POST", MAPS, YAML, yaml_deep, "400 BadRequest"),
        ("10,000 open brackets", "POST", MAPS, JSON, "[".repeat(10_000), "400 BadRequest"),
        ("10,000 levels in a patch", "PATCH", &here, MERGE, nested(10_000), "400 BadRequest"),
        ("more levels than are kept", "POST", REVISIONS, JSON, revision(&nested(110)), "400 BadRequest"),
        ("the same in YAML", "POST", REVISIONS, YAML, flow, "400 BadRequest"),
        ("the same by a patch", "PATCH", &deep, MERGE, format!(r#"{{"data":{}}}"#, nested(110)), "422 Invalid"),
        ("levels upon levels by a patch", "PATCH", &deep, PATCH, deepening("/data"), "422 Invalid"),
        ("a lone surrogate", "POST", MAPS, JSON, map(r#"{"a":"\ud800"}"#), "400 BadRequest"),
        ("NaN", "POST", MAPS, JSON, map(r#"{"a":NaN}"#), "400 BadRequest"),
        (
            "a huge number",
            "POST",
            REVISIONS,
            JSON,
            r#"{"metadata":{"name":"x"},"revision":1e400}"#.into(),
            "400 BadRequest",
        ),
        (
            "a large number",
            "POST",
            REVISIONS,
            JSON,
            r#"{"metadata":{"name":"x"},"revision":9223372036854775808}"#.into(),
            "400 BadRequest",
        ),
        ("a fraction", "POST", REVISIONS, JSON, r#"{"metadata":{"name":"x"},"revision":1.5}"#.into(), "400 BadRequest"),
        ("a number for a text", "POST", MAPS, JSON, map(r#"{"a":1}"#), "400 BadRequest"),
        ("bytes that are no UTF-8", "POST", MAPS, JSON, map("{}") + "\u{0}", "400 BadRequest"),
        ("two bodies", "POST", MAPS, JSON, map("{}") + &map("{}"), "400 BadRequest"),
        (
            "two documents",
            "POST",
            MAPS,
            YAML,
            "metadata: {name: x}\n---\nmetadata: {name: y}\n".into(),
            "400 BadRequest",
        ),
        ("no body", "POST", MAPS, JSON, String::new(), "400 BadRequest"),
        ("a list for an object", "POST", MAPS, JSON, "[]".into(), "400 BadRequest"),
        ("annotations of 257 KiB", "POST", MAPS, JSON, annotated, "422 Invalid"),
        ("10,001 operations", "PATCH", &here, PATCH, many_operations(10_001), "413 RequestEntityTooLarge"),
        ("copies of 4 MB", "PATCH", &here, PATCH, copying(), "422 Invalid"),
        ("a patch that is no object", "PATCH", &here, MERGE, "[]".into(), "400 BadRequest"),
        ("a JSON patch that is no list", "PATCH", &here, PATCH, "{}".into(), "400 BadRequest"),
        ("an unknown operation", "PATCH", &here, PATCH, r#"[{"op":"burn","path":"/data"}]"#.into(), "400 BadRequest"),
    ];
    let mut wrong = Vec::new();
    for (what, method, path, media, body, want) in cases {
        let began = Instant::now();
        let answer = send(&served, method, path, media, body.clone()).await;
        if verdict(&answer) != *want || answer.json()["kind"] != "Status" {
            wrong.push(format!("{what}: want {want}, got {}: {:.300}", verdict(&answer), answer.text()));
        }
        // The goal is a second; unoptimised code on a machine that builds beside gets more.
        assert!(began.elapsed() < Duration::from_secs(60), "{what} took {:?}", began.elapsed());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let kept = world.call("GET", &here, &none()).await.json();
    assert_eq!(kept["data"], objects::config_map("here", "x")["data"]);
    assert_eq!(world.call("GET", &deep, &none()).await.json()["data"], json!({}));
    served.end().await;
}

#[tokio::test]
async fn requests_that_ask_for_what_there_is_not() {
    let world = World::start().await;
    maps(&world, &["here"]).await;
    let token = {
        maps(&world, &["there"]).await;
        world.call("GET", &format!("{MAPS}?limit=1"), &none()).await.json()["metadata"]["continue"].clone()
    };
    let token = token.as_str().expect("a second page").to_owned();
    let long = "a=b,".repeat(10_000);
    let lists = [
        (format!("{MAPS}?continue={token}&resourceVersion=7"), "400 BadRequest"),
        (format!("{MAPS}?continue={token}&resourceVersionMatch=Exact"), "422 Invalid"),
        (format!("/api/v1/namespaces/kube-system/configmaps?continue={token}"), "400 BadRequest"),
        (format!("{MAPS}?resourceVersionMatch=Newest&resourceVersion=1"), "422 Invalid"),
        (format!("{MAPS}?resourceVersion=-1"), "400 BadRequest"),
        (format!("{MAPS}?resourceVersion=99999999999999999999"), "400 BadRequest"),
        (format!("{MAPS}?fieldSelector=spec.nowhere%3Dx"), "400 BadRequest"),
        (format!("{MAPS}?fieldSelector=metadata.name"), "400 BadRequest"),
        (format!("{MAPS}?labelSelector=a%20in%20(b"), "400 BadRequest"),
        (format!("{MAPS}?labelSelector=%2f%2f%3Db"), "400 BadRequest"),
        (format!("{MAPS}?labelSelector={long}"), "400 BadRequest"),
        (format!("{MAPS}?watch=true&resourceVersionMatch=NotOlderThan"), "422 Invalid"),
        (format!("{MAPS}?watch=true&timeoutSeconds=soon"), "400 BadRequest"),
        (format!("{MAPS}/here?resourceVersion=x"), "400 BadRequest"),
        (format!("{MAPS}/%2e%2e"), "400 BadRequest"),
        (format!("{MAPS}/a%00b"), "400 BadRequest"),
        ("/api/v1/namespaces/default%2fkube-system/configmaps".into(), "400 BadRequest"),
        (format!("{MAPS}/here/status"), "404 NotFound"),
    ];
    let served = serve(&world).await;
    let mut wrong = Vec::new();
    for (path, want) in lists {
        let answer = send(&served, "GET", &path, JSON, "").await;
        if verdict(&answer) != want {
            wrong.push(format!("{path:.120}: want {want}, got {}: {:.300}", verdict(&answer), answer.text()));
        }
    }
    let manager = "m".repeat(129);
    let writes = [
        ("POST", format!("{MAPS}?fieldManager={manager}"), objects::config_map("x", "1"), "422 Invalid"),
        ("POST", format!("{MAPS}?fieldManager=%07"), objects::config_map("x", "1"), "422 Invalid"),
        ("DELETE", format!("{MAPS}/here"), json!({"preconditions": {"resourceVersion": "1"}}), "409 Conflict"),
        ("DELETE", format!("{MAPS}/here?gracePeriodSeconds=soon"), none(), "400 BadRequest"),
        ("DELETE", format!("{MAPS}/here?dryRun=Some"), none(), "422 Invalid"),
        ("DELETE", format!("{MAPS}?labelSelector=%3D%3D%3D"), none(), "400 BadRequest"),
        ("PATCH", format!("{MAPS}/here"), json!({"metadata": {"name": "other"}}), "400 BadRequest"),
        ("PATCH", format!("{MAPS}/here"), json!({"kind": "Secret"}), "400 BadRequest"),
    ];
    for (method, path, body, want) in writes {
        let media = if method == "PATCH" { MERGE } else { JSON };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = send(&served, method, &path, media, body).await;
        if verdict(&answer) != want {
            wrong.push(format!("{method} {path:.120}: want {want}, got {}: {:.300}", verdict(&answer), answer.text()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let kept = world.call("GET", MAPS, &none()).await.json();
    assert_eq!(kept["items"].as_array().map(Vec::len), Some(2), "here and there, as before");
    served.end().await;
}

#[tokio::test]
async fn what_nobody_can_read_is_not_acceptable() {
    let world = World::start().await;
    let request = http::Request::get(MAPS).header("authorization", "Bearer admin").header("accept", "text/html");
    assert_eq!(verdict(&world.http(request.body(Bytes::new()).expect("a request")).await), "406 NotAcceptable");
}

#[tokio::test]
async fn a_watch_may_be_asked_to_last_for_ever() {
    let world = World::start().await;
    let request = http::Request::get(format!("{MAPS}?watch=true&timeoutSeconds={}", i64::MAX))
        .header("authorization", "Bearer admin")
        .body(http_body_util::Empty::<Bytes>::new());
    assert_eq!(world.server.handle(request.expect("a request")).await.status(), 200);
}
