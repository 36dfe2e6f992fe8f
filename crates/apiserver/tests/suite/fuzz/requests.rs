//! Whole requests: every method, path, parameter, media type and body, and bytes that are hardly HTTP. The
//! answer comes in time, an error is a Status, and the server lives.

use super::mutate::{self, Random};
use super::{Input, Run, Watched};
use crate::cases::{MAPS, maps, none};
use crate::sockets::serve;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use kybern_testkit::{World, objects};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Requests of the short round.
const SHORT: u64 = 1_500;
/// Connections of the short round.
const CONNECTIONS: u64 = 60;

const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW"];
const MEDIA: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/json;charset=utf-8",
    "text/plain",
    "",
];
const ACCEPT: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/json;as=Nothing;v=v9;g=x",
    "*/*;q=0",
    "text/html",
    ";;;",
];
const PARAMETERS: &[(&str, &[&str])] = &[
    ("limit", &["0", "1", "-1", "99999999999999999999", "x"]),
    ("continue", &["x", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0"]),
    ("resourceVersion", &["", "0", "1", "5", "x", "-1"]),
    ("resourceVersionMatch", &["Exact", "NotOlderThan", "x"]),
    ("sendInitialEvents", &["true", "false", "x"]),
    ("allowWatchBookmarks", &["true"]),
    ("watch", &["1", "true", "x"]),
    ("timeoutSeconds", &["0", "1", "-1", "x"]),
    ("labelSelector", &["a=b", "a in (b", "!a", "%00"]),
    ("fieldSelector", &["metadata.name=a", "spec.nodeName=x", "x=y"]),
    ("dryRun", &["All", "x"]),
    ("fieldValidation", &["Strict", "Warn", "Ignore", "x"]),
    ("fieldManager", &["me", "%07", ""]),
    ("force", &["true", "x"]),
    ("propagationPolicy", &["Orphan", "Foreground", "x"]),
    ("gracePeriodSeconds", &["0", "-1", "x"]),
    ("pretty", &["true"]),
    ("includeObject", &["None", "Object", "x"]),
    ("container", &["c", "../x"]),
    ("command", &["sh"]),
    ("ports", &["80", "x"]),
];

/// A path of an object like this one, or of something near it.
fn path(input: &Input, random: &mut Random) -> String {
    let (def, version) = (input.def, &random.of(&input.def.served).version);
    let mut parts: Vec<String> = match def.group.as_str() {
        "" => vec!["api".into(), version.to_string()],
        group => vec!["apis".into(), group.into(), version.to_string()],
    };
    if def.namespaced() && !random.one_in(12) {
        parts.extend([
            "namespaces".into(),
            (*random.of(&["default", "default", "default", "none", "kube-system"])).into(),
        ]);
    }
    parts.push(def.plural.to_string());
    if !random.one_in(4) {
        parts.push((*random.of(&["a", "a", "here", "missing", "A", "..", "a%2fb", "a%00"])).into());
        if random.one_in(3) {
            let own = def.subresources.iter().map(|s| s.name.to_string()).nth(random.below(def.subresources.len() + 1));
            parts.push(own.unwrap_or_else(|| "status".into()));
        }
    }
    if random.one_in(20) {
        let at = random.below(parts.len());
        parts[at] = mutate::text(&parts[at], random);
    }
    let encoded = parts.iter().map(|p| {
        // What cannot stand in a path at all never reaches the server.
        p.chars()
            .filter(|c| {
                c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' | '#' | '?')
            })
            .collect::<String>()
    });
    let mut path = format!("/{}", encoded.collect::<Vec<_>>().join("/"));
    let parameters: Vec<String> = (0..random.below(4))
        .map(|_| {
            let (name, values) = random.of(PARAMETERS);
            format!("{name}={}", random.of(values))
        })
        .collect();
    if !parameters.is_empty() {
        path = format!("{path}?{}", parameters.join("&").replace(' ', "%20").replace(['(', '!'], "%28"));
    }
    path
}

/// A body for it: an object, a patch of every kind, options, or what is left of one.
fn payload(input: &Input, other: &Input, random: &mut Random) -> Vec<u8> {
    let mut tree = input.tree.clone();
    mutate::tree(&mut tree, &other.tree, random);
    let pointers = ["/metadata/labels", "/spec", "/data/key", "/metadata/name", "/-", "", "/spec/containers/0/image"];
    match random.below(8) {
        0 => json!([{
            "op": random.of(&["add", "remove", "replace", "move", "copy", "test", "burn"]), "path": random.of(&pointers),
            "from": random.of(&pointers), "value": tree,
        }])
        .to_string()
        .into_bytes(),
        1 => json!({"propagationPolicy": random.of(&["Orphan", "Background", "x"]), "preconditions": {"uid": "x"}, "gracePeriodSeconds": tree})
            .to_string()
            .into_bytes(),
        2 => {
            let mut bytes = input.bytes.clone();
            mutate::bytes(&mut bytes, &other.bytes, random);
            bytes
        }
        3 => {
            let mut bytes = tree.to_string().into_bytes();
            mutate::bytes(&mut bytes, other.tree.to_string().as_bytes(), random);
            bytes
        }
        _ => {
            if let Some(object) = tree.as_object_mut()
                && random.one_in(2)
            {
                object.insert("kind".into(), input.def.kind.as_str().into());
                object.insert("apiVersion".into(), input.def.api_version(&input.def.served[0]).into());
            }
            tree.to_string().into_bytes()
        }
    }
}

/// An error is a Status that says its code.
fn judge(code: u16, body: &[u8], method: &str, headers: &http::HeaderMap) -> String {
    if code < 400 || method == "HEAD" {
        return code.to_string();
    }
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    let plain = headers.get("content-type").is_some_and(|t| t.to_str().unwrap_or_default().starts_with("text/plain"));
    let message = status["message"].as_str().unwrap_or_default();
    let of_protobuf_or_yaml = status.is_null() && !plain && !body.is_empty();
    assert!(status["kind"] == "Status" || plain || of_protobuf_or_yaml, "{code}: {}", String::from_utf8_lossy(body));
    assert!(status.is_null() || status["code"] == code, "{status}");
    let meant =
        code != 500 || message == "resourceVersion should not be set on objects to be created" || of_protobuf_or_yaml;
    assert!(meant, "{status}");
    format!("{code} {message}")
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_whatever_they_say() {
    let world = World::start().await;
    maps(&world, &["here", "a"]).await;
    world.call("POST", "/api/v1/namespaces/default/pods", &objects::pod("a")).await;
    let mut run = Run::new(SHORT);
    while run.goes_on() {
        let (input, other) = (run.pick(), run.pick());
        let random = &mut run.random;
        let (path, method) = (path(&input, random), *random.of(METHODS));
        let body = if matches!(method, "GET" | "HEAD") { Vec::new() } else { payload(&input, &other, random) };
        let request = http::Request::builder()
            .method(method)
            .uri(&path)
            .header("authorization", "Bearer admin")
            .header("content-type", *random.of(MEDIA))
            .header("accept", *random.of(ACCEPT))
            .body(Full::new(Bytes::from(body.clone())));
        let Ok(request) = request else { continue };
        let what = format!("{method} {path} {:?}", request.headers());
        let watched = Watched::new(&what, &body);
        let response = world.server.handle(request).await;
        let (parts, stream) = response.into_parts();
        let code = parts.status.as_u16();
        // What goes well may be a stream without end.
        let bytes = match code {
            400.. => stream.collect().await.expect("a body").to_bytes(),
            _ => Bytes::new(),
        };
        let answer = judge(code, &bytes, method, &parts.headers);
        drop(watched);
        run.learn(input, &answer);
    }
    run.report("requests");
    assert_eq!(world.call("GET", MAPS, &none()).await.code, 200, "the server lives");
}

#[tokio::test]
async fn what_is_hardly_http_ends_its_connection_only() {
    let world = World::start().await;
    let served = serve(&world).await;
    let mut run = Run::new(CONNECTIONS);
    while run.goes_on() {
        let (input, other) = (run.pick(), run.pick());
        let body = input.tree.to_string();
        let mut bytes = format!(
            "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer admin\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            path(&input, &mut run.random),
            body.len()
        )
        .into_bytes();
        mutate::bytes(&mut bytes, other.tree.to_string().as_bytes(), &mut run.random);
        let _watched = Watched::new("a connection", &bytes);
        let mut stream = tokio::net::TcpStream::connect(served.address).await.expect("a connection");
        // It may refuse before it has heard all.
        let _ = stream.write_all(&bytes).await;
        // Nothing more will come: whatever the server waits for, it need not.
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        // A reset is an end as well.
        assert!(read.is_ok(), "the server holds the connection");
        let first = String::from_utf8_lossy(&answer).lines().next().unwrap_or("closed").to_owned();
        assert!(first == "closed" || first.starts_with("HTTP/1."), "{first}");
        run.shapes.insert(first);
    }
    println!("fuzz connections: {} executions, answers {:?}", run.executions - 1, run.shapes);
    assert_eq!(world.call("GET", MAPS, &none()).await.code, 200, "the server lives");
    served.end().await;
}
