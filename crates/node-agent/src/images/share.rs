//! Image content from other nodes before any registry is asked for it: a registry mirror for this node's
//! containerd alone.
//!
//! It has content by digest only, so names are always resolved, and pulls always allowed, by the registry.
//! containerd checks what it gets against the digest and turns to the registry for what the mirror lacks.

use crate::error::{Error, Result};
use crate::feed::{Connect, Feed};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kybern_client::informer::Informer;
use kybern_wire::node::node_client::NodeClient;
use kybern_wire::node::{BlobChunk, BlobRequest};
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Nodes that are asked for one blob.
const ASKED: usize = 3;
/// How long a node may take to say that it has a blob.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a node may send nothing in the middle of one.
const SILENCE: Duration = Duration::from_secs(15);
/// A node that failed is left alone for this long.
const LAME: Duration = Duration::from_secs(60);
/// Limit of a request's head.
const HEAD: Duration = Duration::from_secs(10);

/// The mirror's address, before there is anything behind it: containerd's configuration names it.
#[derive(Debug)]
pub struct Mirror {
    listener: TcpListener,
    /// First part of every path. Whoever shares the node's network could connect, but does not know it.
    secret: String,
    endpoint: String,
}

/// The way to the other nodes.
pub struct Peers {
    /// This node's name.
    pub node: String,
    /// Makes connections to servers.
    pub connect: Connect,
    /// Knows the servers.
    pub feed: Feed,
    /// Knows the nodes and their images.
    pub nodes: Arc<Informer>,
}

/// A blob that is wanted.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// Registry and repository of the image it belongs to.
    repository: String,
    digest: String,
    offset: u64,
}

type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;
type Reply = Response<UnsyncBoxBody<Bytes, io::Error>>;

impl Mirror {
    /// Takes a free port of the loopback.
    ///
    /// # Errors
    /// When there is none.
    pub async fn bind(secret: String) -> Result<Self> {
        let failed = |source| Error::File { action: "listen on", path: "127.0.0.1".into(), source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let endpoint = format!("http://127.0.0.1:{port}/{secret}");
        Ok(Self { listener, secret, endpoint })
    }

    /// Its URL.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Serves containerd until cancelled.
    pub async fn run(self, peers: Peers, cancel: CancellationToken) {
        let prefix = format!("/{}/v2/", self.secret);
        let shared = Arc::new((prefix, Finder { peers, turn: AtomicUsize::new(0), lame: Mutex::default() }));
        let mut open = JoinSet::new();
        while let Some(accepted) = cancel.run_until_cancelled(self.listener.accept()).await {
            while open.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) => drop(open.spawn(converse(stream, shared.clone()))),
                Err(e) => {
                    tracing::debug!("a connection of containerd was not accepted: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn converse(stream: TcpStream, shared: Arc<(String, Finder)>) {
    let service = service_fn(|request: Request<Incoming>| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(&request, &shared.0, &shared.1).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD);
    if let Err(e) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("a transfer from another node ended: {e}");
    }
}

async fn answer(request: &Request<Incoming>, prefix: &str, finder: &Finder) -> Reply {
    let Some(wanted) = wanted(request, prefix) else { return empty(StatusCode::NOT_FOUND) };
    let Some((size, chunks)) = finder.find(&wanted).await else { return empty(StatusCode::NOT_FOUND) };
    let mut reply = match *request.method() {
        Method::HEAD => empty(StatusCode::OK),
        _ => Response::new(BodyExt::boxed_unsync(StreamBody::new(chunks.map(|c| c.map(Frame::data))))),
    };
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size.saturating_sub(wanted.offset)));
    let range = format!("bytes {}-{}/{size}", wanted.offset, size.saturating_sub(1));
    if wanted.offset > 0
        && let Ok(range) = HeaderValue::from_str(&range)
    {
        headers.insert(header::CONTENT_RANGE, range);
        *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    reply
}

fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *reply.status_mut() = status;
    reply
}

/// What a request of the registry protocol asks for; None: nothing that nodes have.
fn wanted<B>(request: &Request<B>, prefix: &str) -> Option<Wanted> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let (path, digest) = request.uri().path().strip_prefix(prefix)?.rsplit_once('/')?;
    let repository = path.strip_suffix("/blobs").or_else(|| path.strip_suffix("/manifests"))?;
    let hex = digest.strip_prefix("sha256:")?;
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return None;
    }
    // containerd names the registry that the mirror stands for.
    let registry = request.uri().query()?.split('&').find_map(|p| p.strip_prefix("ns="))?;
    let registry = registry.replace("%3A", ":").replace("%3a", ":");
    let begin = |range: &HeaderValue| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?.0.parse().ok();
    let offset = request.headers().get(header::RANGE).map_or(Some(0), begin)?;
    Some(Wanted { repository: format!("{registry}/{repository}"), digest: digest.into(), offset })
}

/// Finds blobs on other nodes.
struct Finder {
    peers: Peers,
    /// Counts what was asked for: nodes and servers take turns.
    turn: AtomicUsize,
    /// Nodes that failed, and when.
    lame: Mutex<HashMap<String, Instant>>,
}

impl Finder {
    /// Size of the blob and what comes from the offset on; None when no node has it.
    async fn find(&self, wanted: &Wanted) -> Option<(u64, Chunks)> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut holders = self.holders(&wanted.repository);
        if !holders.is_empty() {
            let first = turn % holders.len();
            holders.rotate_left(first);
        }
        for node in holders.into_iter().take(ASKED) {
            match timeout(ANSWER, self.ask(&node, wanted, turn)).await {
                Ok(Ok(found)) => {
                    tracing::debug!(node, digest = wanted.digest, "image content comes from another node");
                    return Some(found);
                }
                Ok(Err(e)) if e.code() == tonic::Code::NotFound => {}
                Ok(Err(e)) => self.note_lame(node, e.message()),
                Err(_) => self.note_lame(node, "no answer in time"),
            }
        }
        None
    }

    fn note_lame(&self, node: String, why: &str) {
        tracing::debug!(node, why, "another node does not give its image content");
        self.lame.lock().insert(node, Instant::now());
    }

    /// Nodes that say they have an image of the repository.
    fn holders(&self, repository: &str) -> Vec<String> {
        let lame = {
            let mut lame = self.lame.lock();
            lame.retain(|_, since| since.elapsed() < LAME);
            lame.clone()
        };
        let store = self.peers.nodes.store();
        let others = store.iter().map(|i| &i.object).filter(|o| o.head.name != self.peers.node);
        let able = others.filter(|o| !lame.contains_key(o.head.name.as_str()));
        able.filter(|o| o.view().is_ok_and(|node: Shown| has(&node, repository)))
            .map(|o| o.head.name.to_string())
            .collect()
    }

    async fn ask(&self, node: &str, wanted: &Wanted, turn: usize) -> std::result::Result<(u64, Chunks), tonic::Status> {
        let servers = self.peers.feed.servers().borrow().clone();
        let server = turn.checked_rem(servers.len()).and_then(|i| servers.get(i));
        let channel = server.and_then(|s| (self.peers.connect)(s));
        let channel = channel.ok_or_else(|| tonic::Status::unavailable("no server is known"))?;
        let Wanted { digest, offset, .. } = wanted;
        let request = BlobRequest { node: node.into(), digest: digest.clone(), offset: *offset };
        let mut stream = NodeClient::new(channel).blob(request).await?.into_inner();
        let head = stream.message().await?.ok_or_else(|| tonic::Status::internal("no answer"))?;
        Ok((head.size, patient(head.bytes, stream)))
    }
}

/// The blob's bytes; an error when the node falls silent.
fn patient(
    first: Bytes,
    chunks: impl Stream<Item = std::result::Result<BlobChunk, tonic::Status>> + Send + Unpin + 'static,
) -> Chunks {
    let rest = stream::unfold(Some(chunks), |chunks| async {
        let mut chunks = chunks?;
        let error = match timeout(SILENCE, chunks.next()).await {
            Ok(Some(Ok(chunk))) => return Some((Ok(chunk.bytes), Some(chunks))),
            Ok(None) => return None,
            Ok(Some(Err(e))) => io::Error::other(e.message().to_owned()),
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        Some((Err(error), None))
    });
    Box::pin(stream::iter([Ok(first)]).chain(rest))
}

/// What a node says of its images; the rest of it does not matter here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Shown {
    status: Images,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Images {
    images: Vec<Names>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Names {
    names: Vec<String>,
}

fn has(node: &Shown, repository: &str) -> bool {
    node.status.images.iter().flat_map(|i| &i.names).any(|name| {
        let rest = name.strip_prefix(repository);
        rest.is_some_and(|r| r.starts_with([':', '@']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(method: &str, path: &str, range: Option<&str>) -> Option<Wanted> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        wanted(&request.body(()).unwrap(), "/s3cret/v2/")
    }

    #[test]
    fn only_content_by_digest_is_answered() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let blob = format!("/s3cret/v2/library/web/blobs/{digest}?ns=docker.io");
        let found = |offset| Wanted { repository: "docker.io/library/web".into(), digest: digest.clone(), offset };
        assert_eq!(asked("GET", &blob, None), Some(found(0)));
        assert_eq!(asked("HEAD", &blob.replace("blobs", "manifests"), None), Some(found(0)));
        assert_eq!(asked("GET", &blob, Some("bytes=17-")), Some(found(17)));
        let own = blob.replace("docker.io", "reg.x%3A5000");
        assert_eq!(asked("GET", &own, None).unwrap().repository, "reg.x:5000/library/web");
        for (method, path, range) in [
            ("POST", blob.clone(), None),
            ("GET", blob.replace("s3cret", "guess"), None),
            ("GET", blob.replace(&digest, "1.36"), None),
            ("GET", blob.replace("0a0a", "0A0A"), None),
            ("GET", blob.replace("0a0a", ""), None),
            ("GET", blob.replace("blobs", "tags"), None),
            ("GET", blob.replace("?ns=docker.io", ""), None),
            ("GET", blob.clone(), Some("bytes=-5")),
            ("GET", "/s3cret/v2/".into(), None),
        ] {
            assert_eq!(asked(method, &path, range), None, "{method} {path} {range:?}");
        }
    }

    #[test]
    fn a_node_has_what_its_status_names() {
        let node: Shown = serde_json::from_value(json!({"metadata": {}, "status": {"images": [
            {"names": ["reg.x:5000/a/b@sha256:00", "reg.x:5000/a/b:1"], "sizeBytes": 1}, {"sizeBytes": 2}]}}))
        .unwrap();
        assert!(has(&node, "reg.x:5000/a/b"));
        assert!(!has(&node, "reg.x:5000/a") && !has(&node, "reg.x:5000/a/bc") && !has(&Shown::default(), "a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_blob_that_falls_silent_ends_with_an_error() {
        let chunk = |text: &'static str| Ok(BlobChunk { size: 0, bytes: Bytes::from_static(text.as_bytes()) });
        let whole = patient(Bytes::from_static(b"a"), stream::iter([chunk("b"), chunk("c")]));
        let parts: Vec<Bytes> = whole.map(io::Result::unwrap).collect().await;
        assert_eq!(parts.concat(), b"abc");
        let stuck = patient(Bytes::new(), stream::iter([chunk("b")]).chain(stream::pending()));
        let kinds: Vec<_> = stuck.map(|p| p.map_err(|e| e.kind())).collect().await;
        assert_eq!(kinds[2..], [Err(io::ErrorKind::TimedOut)]);
    }
}
