//! The same over real sockets: framing, streams, drain.

use crate::cases::{MAPS, long_ago, maps};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kybern_testkit::{Answer, World};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A served world.
pub struct Served {
    pub address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    /// Stops serving.
    pub async fn end(self) {
        self.shutdown.cancel();
        self.task.await.expect("a clean end");
    }
}

/// Serves a world on a port of its own.
pub async fn serve(world: &World) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (server, shutdown) = (world.server.clone(), CancellationToken::new());
    let stop = shutdown.clone();
    let task = tokio::spawn(async move { server.serve(listener, None, stop).await });
    Served { address, shutdown, task }
}

/// One request over a socket.
pub async fn ask(served: &Served, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
    let (mut parts, body) = request.body(Full::new(body.into())).expect("a request").into_parts();
    parts.uri = format!("http://{}{}", served.address, parts.uri).parse().expect("an address");
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(http::Request::from_parts(parts, body)).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
}

fn client(h2: bool) -> Client<HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).http2_only(h2).build_http()
}

fn get(served: &Served, path: &str) -> http::Request<Empty<Bytes>> {
    let uri = format!("http://{}{path}", served.address);
    http::Request::get(uri).header("authorization", "Bearer admin").body(Empty::new()).expect("a request")
}

#[tokio::test]
async fn lists_over_both_protocols() {
    let world = World::start().await;
    maps(&world, &["a", "b"]).await;
    let served = serve(&world).await;
    for h2 in [false, true] {
        let response = client(h2).request(get(&served, MAPS)).await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert!(response.headers().contains_key("audit-id"));
        assert_eq!(response.headers()["cache-control"], "no-cache, private");
        let length: usize = response.headers()["content-length"].to_str().expect("text").parse().expect("a number");
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(bytes.len(), length);
        let list: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(crate::cases::names(&list), ["a", "b"]);
    }
    served.end().await;
}

/// Reads lines of a watch as they come.
pub struct Lines(hyper::body::Incoming, Vec<u8>);

impl Lines {
    pub fn new(body: hyper::body::Incoming) -> Self {
        Self(body, Vec::new())
    }

    /// None at the end of the stream.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.1.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.1.drain(..=at).collect();
                return serde_json::from_slice(&line).ok();
            }
            let frame = self.0.frame().await?.ok()?;
            self.1.extend_from_slice(frame.data_ref()?);
        }
    }
}

#[tokio::test]
async fn a_watch_streams_and_ends_with_the_server() {
    let world = World::start().await;
    maps(&world, &["a"]).await;
    let served = serve(&world).await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let response = client(false).request(get(&served, &format!("{MAPS}?{query}"))).await.expect("an answer");
    let mut lines = Lines::new(response.into_body());
    let added = lines.next().await.expect("the object that is there");
    assert_eq!((&added["type"], &added["object"]["kind"]), (&"ADDED".into(), &"ConfigMap".into()));
    let mark = lines.next().await.expect("the end of the initial objects");
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    maps(&world, &["b"]).await;
    assert_eq!(lines.next().await.expect("the new object")["object"]["metadata"]["name"], "b");
    served.shutdown.cancel();
    assert!(lines.next().await.is_none(), "a clean end of the body");
    served.task.await.expect("a clean end");
}

#[tokio::test]
async fn a_watch_that_comes_too_late_is_a_stream_with_an_error() {
    let world = World::start().await;
    long_ago(&world, &["a", "b", "c"]).await;
    let served = serve(&world).await;
    let response =
        client(true).request(get(&served, &format!("{MAPS}?watch=1&resourceVersion=1"))).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let mut lines = Lines::new(response.into_body());
    let error = lines.next().await.expect("the reason");
    assert_eq!(
        (&error["type"], &error["object"]["code"], &error["object"]["reason"]),
        (&"ERROR".into(), &410.into(), &"Expired".into())
    );
    assert!(lines.next().await.is_none());
}

#[tokio::test]
async fn paths_beside_the_resources() {
    let world = World::start().await;
    maps(&world, &["a"]).await;
    let served = serve(&world).await;
    let text = async |path: &str| {
        let response = client(false).request(get(&served, path)).await.expect("an answer");
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (code, String::from_utf8_lossy(&bytes).into_owned())
    };
    for path in ["/healthz", "/livez", "/readyz", "/readyz/etcd", "/livez/ping"] {
        assert_eq!(text(path).await, (200, "ok".to_owned()), "{path}");
    }
    let (_, verbose) = text("/readyz?verbose").await;
    assert!(verbose.contains("[+]etcd ok") && verbose.ends_with("readyz check passed\n"), "{verbose}");
    assert_eq!(text("/readyz/unheard").await.0, 404);
    let (_, version) = text("/version").await;
    assert!(version.contains("\"gitVersion\": \"v1.36."), "{version}");
    let (_, metrics) = text("/metrics").await;
    assert!(metrics.contains("apiserver_request_total{"), "{metrics}");
}

#[tokio::test]
async fn a_serving_server_keeps_the_kubernetes_service() {
    let world = World::start().await;
    let client = world.admin();
    let slices = kybern_client::transport::Resource::new("discovery.k8s.io", "v1", "endpointslices");
    let selection = kybern_client::transport::Selection { namespace: "default".into(), ..Default::default() };
    let list = client.list(&slices, &selection).await.expect("a list");
    let mut watch = client.watch(&slices, &selection, list.revision).await.expect("a watch");
    let served = serve(&world).await;
    let slice = loop {
        match futures::StreamExt::next(&mut watch).await {
            Some(Ok(kybern_client::transport::WatchEvent::Object(_, object))) => break object.tree().expect("JSON"),
            Some(Ok(_)) => {}
            other => panic!("a slice, not {other:?}"),
        }
    };
    assert_eq!(slice["endpoints"][0]["addresses"], serde_json::json!(["192.0.2.1"]));
    let service = world.call("GET", "/api/v1/namespaces/default/services/kubernetes", &Value::Null).await.json();
    assert_eq!(service["spec"]["clusterIP"], "10.43.0.1");
    let endpoints = world.call("GET", "/api/v1/namespaces/default/endpoints/kubernetes", &Value::Null).await.json();
    assert_eq!(endpoints["subsets"][0]["ports"][0]["port"], 6443);
    served.end().await;
}

#[tokio::test]
async fn the_api_describes_itself() {
    let world = World::start().await;
    let get = async |path: &str| world.call("GET", path, &Value::Null).await;
    assert_eq!(get("/api").await.json()["versions"][0], "v1");
    assert!(get("/apis").await.json()["groups"].as_array().is_some_and(|g| g.len() > 10));
    let apps = get("/apis/apps/v1").await.json();
    assert!(apps["resources"].as_array().is_some_and(|r| r.iter().any(|r| r["name"] == "deployments/scale")));
    assert_eq!(get("/apis/apps").await.json()["preferredVersion"]["version"], "v1");
    assert_eq!(get("/apis/none").await.code, 404);
    let v2 = get("/openapi/v2").await;
    assert!(v2.json()["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
    let index = get("/openapi/v3").await.json();
    let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().expect("a document").to_owned();
    let document = get(&url).await;
    assert_eq!(document.headers["cache-control"], "public, immutable, max-age=31536000");
    let tag = document.headers["etag"].clone();
    let again = http::Request::get(&url).header("authorization", "Bearer admin").header("if-none-match", tag);
    assert_eq!(world.http(again.body(Bytes::new()).expect("a request")).await.code, 304);
}
