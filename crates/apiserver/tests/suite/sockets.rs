//! The same over real sockets: framing, streams, drain.

use crate::cases::{MAPS, maps};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kybern_testkit::World;
use serde_json::Value;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

async fn serve(world: &World) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (server, shutdown) = (world.server.clone(), CancellationToken::new());
    let stop = shutdown.clone();
    let task = tokio::spawn(async move { server.serve(listener, None, stop).await });
    Served { address, shutdown, task }
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
    served.shutdown.cancel();
    served.task.await.expect("a clean end");
}

/// Reads lines of a watch as they come.
struct Lines(hyper::body::Incoming, Vec<u8>);

impl Lines {
    async fn next(&mut self) -> Option<Value> {
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
    let mut lines = Lines(response.into_body(), Vec::new());
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
    maps(&world, &["a"]).await;
    world.clock.advance(std::time::Duration::from_secs(600));
    maps(&world, &["b"]).await;
    world.clock.advance(std::time::Duration::from_secs(600));
    maps(&world, &["c"]).await;
    let served = serve(&world).await;
    let response = client(true).request(get(&served, &format!("{MAPS}?watch=1&resourceVersion=1"))).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let mut lines = Lines(response.into_body(), Vec::new());
    let error = lines.next().await.expect("the reason");
    assert_eq!((&error["type"], &error["object"]["code"], &error["object"]["reason"]), (&"ERROR".into(), &410.into(), &"Expired".into()));
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
