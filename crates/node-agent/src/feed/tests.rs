use super::connect::endpoint;
use super::*;
use futures::StreamExt;
use kybern_api::object::EventType;
use kybern_wire::node::feed_event::Type;
use kybern_wire::node::node_server::{Node, NodeServer};
use kybern_wire::node::{
    BlobChunk, BlobRequest, FeedEvent, FeedRequest, FromNode, Server, ServerList, ServersRequest, ToNode, feed_request,
};
use parking_lot::Mutex;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Streaming};

/// A server that answers every subscription with one object of the next revision and stays open.
#[derive(Clone)]
struct FakeServer {
    name: &'static str,
    peers: Arc<Mutex<Vec<String>>>,
    /// Subscriptions seen, as `plural@revision`.
    seen: Arc<Mutex<Vec<String>>>,
}

type Answers<T> = BoxStream<'static, Result<T, tonic::Status>>;

#[tonic::async_trait]
impl Node for FakeServer {
    type FeedStream = Answers<FeedEvent>;
    type ReverseStream = Answers<ToNode>;
    type ServersStream = Answers<ServerList>;
    type BlobStream = Answers<BlobChunk>;
    type PoliciesStream = Answers<PolicyUpdate>;

    async fn feed(
        &self,
        request: Request<Streaming<FeedRequest>>,
    ) -> Result<Response<Self::FeedStream>, tonic::Status> {
        let (out, events) = tokio::sync::mpsc::channel(8);
        let (mut requests, seen, name) = (request.into_inner(), self.seen.clone(), self.name);
        tokio::spawn(async move {
            while let Ok(Some(r)) = requests.message().await {
                let Some(feed_request::Request::Subscribe(s)) = r.request else { continue };
                seen.lock().push(format!("{}@{}", s.resource, s.resource_version));
                if s.resource == "expired" {
                    out.send(Ok(FeedEvent { id: s.id, r#type: Type::Reset.into(), ..FeedEvent::default() })).await.ok();
                    continue;
                }
                let revision = s.resource_version + 1;
                let object = format!(r#"{{"metadata":{{"name":"{name}","resourceVersion":"{revision}"}}}}"#);
                let event = FeedEvent { id: s.id, r#type: Type::Modified.into(), revision, object: object.into() };
                out.send(Ok(event)).await.ok();
            }
        });
        Ok(Response::new(ReceiverStream::new(events).boxed()))
    }

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallResponse>, tonic::Status> {
        let bearer = request.metadata().get("authorization").and_then(|v| v.to_str().ok()).unwrap_or("none").to_owned();
        let call = request.into_inner();
        let body = format!("{} {} {} {bearer}", self.name, call.method, call.path);
        if call.path.starts_with("/denied") {
            return Ok(Response::new(CallResponse {
                code: 403,
                body: Status::forbidden("", "pods", "p", "no").to_json().into(),
            }));
        }
        Ok(Response::new(CallResponse { code: 200, body: body.into() }))
    }

    async fn policies(&self, _: Request<PoliciesRequest>) -> Result<Response<Self::PoliciesStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("not here"))
    }

    async fn reverse(&self, _: Request<Streaming<FromNode>>) -> Result<Response<Self::ReverseStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("not in this test"))
    }

    async fn blob(&self, _: Request<BlobRequest>) -> Result<Response<Self::BlobStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("not in this test"))
    }

    async fn servers(&self, _: Request<ServersRequest>) -> Result<Response<Self::ServersStream>, tonic::Status> {
        let servers = self.peers.lock().iter().map(|a| Server { id: 0, address: a.clone() }).collect();
        Ok(Response::new(futures::stream::iter([Ok(ServerList { servers })]).chain(futures::stream::pending()).boxed()))
    }
}

/// A server process, as far as a client can tell: its sockets are gone when it is dropped.
struct Process(Option<tokio::runtime::Runtime>);

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Serves on a free port of the loopback until the process is dropped.
async fn serve(server: FakeServer) -> (String, Process) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    let (bound, address) = tokio::sync::oneshot::channel();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        bound.send(listener.local_addr().expect("address").to_string()).expect("send");
        let serving = tonic::transport::Server::builder().add_service(NodeServer::new(server));
        serving.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("serve");
    });
    (address.await.expect("bound"), Process(Some(runtime)))
}

fn fake(name: &'static str, peers: &Arc<Mutex<Vec<String>>>) -> FakeServer {
    FakeServer { name, peers: peers.clone(), seen: Arc::default() }
}

fn feed(servers: Vec<String>, dir: &tempfile::TempDir, bearer: Option<&str>) -> (Feed, AbortOnDropHandle<()>) {
    let connect: Connect = Arc::new(|address| Some(endpoint(address)?.connect_lazy()));
    let config =
        FeedConfig { servers, known: dir.path().join("servers.json"), connect, bearer: bearer.map(str::to_owned) };
    let feed = Feed::new(config).expect("feed");
    let running = feed.clone();
    (feed, AbortOnDropHandle::new(tokio::spawn(async move { running.run(CancellationToken::new()).await })))
}

async fn next(watch: &mut BoxStream<'static, Result<WatchEvent, Status>>) -> (String, u64) {
    let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("in time").expect("open");
    match event.expect("event") {
        WatchEvent::Object(EventType::Modified, o) => (o.head.name.to_string(), o.revision),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_watch_goes_on_at_the_next_server_where_it_stopped() {
    let dir = tempfile::tempdir().expect("dir");
    let peers = Arc::default();
    let (one, two) = (fake("one", &peers), fake("two", &peers));
    let ((first, process), (second, _process)) = (serve(one).await, serve(two.clone()).await);
    // Only the first is configured: the second is learnt from it.
    peers.lock().extend([first.clone(), second]);
    let (feed, _running) = feed(vec![first], &dir, None);
    let pods = Resource::new("", "v1", "pods");
    let mut watch = feed.watch(&pods, &Selection::default(), 41).await.expect("watch");
    // No bookmark has come: the event itself is where the watch stands.
    assert_eq!(next(&mut watch).await, ("one".into(), 42));
    feed.servers().wait_for(|s| s.len() == 2).await.expect("learnt");
    drop(process);
    assert_eq!(next(&mut watch).await, ("two".into(), 43));
    assert_eq!(*two.seen.lock(), ["pods@42"]);
}

/// A renewed certificate is shown on a new connection.
#[tokio::test]
async fn watches_and_calls_go_on_over_a_new_connection() {
    let dir = tempfile::tempdir().expect("dir");
    let server = fake("one", &Arc::default());
    let (address, _process) = serve(server.clone()).await;
    let (feed, _running) = feed(vec![address], &dir, Some("abc.def"));
    let pods = Resource::new("", "v1", "pods");
    let mut watch = feed.watch(&pods, &Selection::default(), 41).await.expect("watch");
    assert_eq!(next(&mut watch).await, ("one".into(), 42));
    feed.reconnect();
    assert_eq!(next(&mut watch).await, ("one".into(), 43));
    assert_eq!(*server.seen.lock(), ["pods@41", "pods@42"]);
    feed.call("GET", "/api/v1/nodes", "", Bytes::new()).await.expect("an answer");
}

#[tokio::test]
async fn an_expired_watch_says_so_and_ends() {
    let dir = tempfile::tempdir().expect("dir");
    let server = fake("one", &Arc::default());
    let (address, _task) = serve(server.clone()).await;
    let (feed, _running) = feed(vec![address], &dir, None);
    let mut watch = feed.watch(&Resource::new("", "v1", "expired"), &Selection::default(), 7).await.expect("watch");
    let status = watch.next().await.expect("an item").expect_err("expired");
    assert_eq!(status.reason, Reason::Expired);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn calls_carry_the_token_and_bring_back_the_status() {
    let dir = tempfile::tempdir().expect("dir");
    let (address, _task) = serve(fake("one", &Arc::default())).await;
    let (feed, _running) = feed(vec!["127.0.0.1:1".into(), address], &dir, Some("abc.def"));
    let body = feed.call("GET", "/api/v1/nodes", "", Bytes::new()).await.expect("answer");
    assert_eq!(body, "one GET /api/v1/nodes Bearer abc.def");
    let status = feed.call("GET", "/denied", "", Bytes::new()).await.expect_err("denied");
    assert_eq!((status.reason, status.code), (Reason::Forbidden, 403));
}
