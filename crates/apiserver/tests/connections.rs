//! Connections into pods through a served API: our own clients over both framings, a node that answers
//! over the real gRPC door, and (on demand) kubectl.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use kybern_api::attributes::UserInfo;
use kybern_api::seam::Lister;
use kybern_apiserver::doors::relay::SERVERS;
use kybern_apiserver::nodes::peers::{Connect, GrpcPeers};
use kybern_authn::{Authenticator, Credentials, Outcome};
use kybern_client::transport::{MERGE_PATCH, Resource, Target, Transport, Write};
use kybern_stream::Role;
use kybern_stream::forward::Forwarder;
use kybern_stream::negotiate::{Framing, PORT_FORWARD, REMOTE_COMMAND_V4, spdy_request};
use kybern_stream::session::{Channel, Item, Session, Wanted};
use kybern_stream::websocket::channels::Subprotocol;
use kybern_testkit::{Builder, World, objects};
use kybern_wire::node as pb;
use kybern_wire::node::node_client::NodeClient;
use kybern_wire::node::{FromNode, Hello, Opened, ToNode, from_node, open::What, to_node};
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};

const EXIT: &str = r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;

/// A token is a node's name; without one it is the administrator (kubectl sends none over plain HTTP).
struct Anybody;

impl Authenticator for Anybody {
    fn authenticate(&self, credentials: &Credentials<'_>, _: &dyn Lister) -> Outcome {
        let (name, group) = match credentials.bearer {
            Some(node) => (format!("system:node:{node}"), "system:nodes"),
            None if credentials.path.starts_with("/kybern.node.v1.Relay/") => ("server".into(), SERVERS),
            None => ("admin".into(), "system:masters"),
        };
        Outcome::Known(UserInfo {
            name,
            groups: vec![group.into(), "system:authenticated".into()],
            ..UserInfo::default()
        })
    }
}

struct Served {
    world: World,
    address: SocketAddr,
    _stop: DropGuard,
}

fn admin(world: &World) -> Arc<dyn Transport> {
    world.client(UserInfo { name: "admin".into(), groups: vec!["system:masters".into()], ..UserInfo::default() })
}

fn pod_target(name: &str) -> Target {
    Target {
        resource: Resource::new("", "v1", "pods"),
        namespace: "default".into(),
        name: name.into(),
        subresource: String::new(),
        query: Vec::new(),
        term: 0,
    }
}

/// A served world with a pod `web` (containers `main` and `side`) on node `n1`.
async fn serve() -> Served {
    let world = Builder::default().authenticator(Arc::new(Anybody)).start().await;
    let mut pod = objects::pod("web");
    pod["spec"]["nodeName"] = json!("n1");
    pod["spec"]["containers"] = json!([{"name": "main", "image": "x"}, {"name": "side", "image": "x"}]);
    admin(&world).write(&pod_target(""), Write::Create(pod.to_string().into())).await.expect("a pod");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (server, stop) = (world.server.clone(), CancellationToken::new());
    let shutdown = stop.clone();
    tokio::spawn(async move { server.serve(listener, None, shutdown).await });
    Served { world, address, _stop: stop.drop_guard() }
}

/// A node on the real door. Commands echo their input in capitals and exit with 3 at its end; ports echo;
/// the log is one line.
async fn node(served: &Served) {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", served.address)).expect("endpoint");
    let mut client = NodeClient::new(channel.connect().await.expect("connected"));
    let (out, frames) = mpsc::unbounded_channel();
    let hello = from_node::Frame::Hello(Hello { node: "n1".into() });
    out.send(FromNode { channel: 0, frame: Some(hello) }).expect("hello");
    let mut request = tonic::Request::new(UnboundedReceiverStream::new(frames));
    request.metadata_mut().insert("authorization", "Bearer n1".parse().expect("a header"));
    let mut commands = client.reverse(request).await.expect("reverse").into_inner();
    tokio::spawn(async move {
        let mut open = HashMap::new();
        while let Ok(Some(frame)) = commands.message().await {
            answer(&out, &mut open, frame);
        }
    });
}

/// What a pod's web server answers: a page with links, and the request it was asked by.
fn page(dial: &pb::Dial, request: &[u8]) -> Bytes {
    let seen = String::from_utf8_lossy(request).replace(['<', '>'], "");
    let page = format!("<a href=\"/next\">{}:{}</a><pre>{seen}</pre>", dial.ip, dial.port);
    let head = "HTTP/1.1 201 Created\r\ncontent-type: text/html\r\nconnection: close\r\nlocation: /made";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{page}", page.len()).into()
}

fn answer(out: &mpsc::UnboundedSender<FromNode>, open: &mut HashMap<u64, What>, ToNode { channel, frame }: ToNode) {
    let send = |frame| out.send(FromNode { channel, frame: Some(frame) }).expect("send");
    let data = |stream, bytes: Bytes| send(from_node::Frame::Data(pb::Data { stream, bytes, end: false }));
    let close = || send(from_node::Frame::Close(pb::Close::default()));
    match frame {
        Some(to_node::Frame::Open(o)) => {
            let what = o.what.expect("something to open");
            if matches!(&what, What::Blob(blob) if blob.digest != "sha256:abc") {
                let error = kybern_api::error::Status::new(kybern_api::error::Reason::NotFound, "no content").to_json();
                let error = String::from_utf8(error).expect("text");
                return send(from_node::Frame::Close(pb::Close { error }));
            }
            send(from_node::Frame::Opened(Opened { code: 200, length: 11, ..Opened::default() }));
            if let What::Blob(blob) = &what {
                let from = usize::try_from(blob.offset).expect("small");
                data(0, Bytes::from_static(b"hello world").slice(from..));
                close();
            }
            if let What::Logs(logs) = &what {
                data(0, format!("{} says hello\n", logs.container).into());
                close();
            }
            if let What::Http(request) = &what {
                assert_eq!(request.path, "/stats/summary");
                let usage = json!({ "cpu": { "usageNanoCores": 1_000_000 }, "memory": { "workingSetBytes": 1 << 20 } });
                data(0, json!({ "node": usage }).to_string().into());
                close();
            }
            open.insert(channel, what);
        }
        Some(to_node::Frame::Data(d)) => match open.get(&channel) {
            Some(What::Exec(_)) if d.end => {
                data(3, Bytes::from_static(EXIT.as_bytes()));
                close();
            }
            Some(What::Exec(_)) => data(1, d.bytes.to_ascii_uppercase().into()),
            Some(What::Dial(dial)) if !d.bytes.is_empty() => {
                data(0, page(dial, &d.bytes));
                send(from_node::Frame::Data(pb::Data { stream: 0, bytes: Bytes::new(), end: true }));
                close();
            }
            Some(What::PortForward(_)) if d.end => close(),
            Some(What::PortForward(_)) => data(0, d.bytes),
            _ => {}
        },
        _ => {}
    }
}

const WEBSOCKET: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// Sends a request; the answer's code and body, or the upgraded connection.
async fn request(
    served: &Served,
    method: &str,
    path: &str,
    headers: http::HeaderMap,
) -> Result<TokioIo<hyper::upgrade::Upgraded>, (u16, String)> {
    let tcp = TcpStream::connect(served.address).await.expect("connect");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.expect("handshake");
    tokio::spawn(connection.with_upgrades());
    let mut request = http::Request::builder().method(method).uri(path).body(Empty::<Bytes>::new()).expect("a request");
    *request.headers_mut() = headers;
    request.headers_mut().insert("host", "kybern".parse().expect("a header"));
    let response = sender.send_request(request).await.expect("an answer");
    if response.status() == 101 {
        return Ok(TokioIo::new(hyper::upgrade::on(response).await.expect("upgraded")));
    }
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    Err((code, String::from_utf8_lossy(&body).into_owned()))
}

fn websocket(protocol: &str) -> http::HeaderMap {
    let mut headers: http::HeaderMap =
        WEBSOCKET.iter().map(|(k, v)| (k.parse().expect("name"), v.parse().expect("value"))).collect();
    headers.insert("sec-websocket-protocol", protocol.parse().expect("value"));
    headers
}

const EXEC: &str =
    "/api/v1/namespaces/default/pods/web/exec?container=main&command=cat&stdin=true&stdout=true&stderr=true";

#[tokio::test]
async fn a_command_runs_over_spdy_and_websocket() {
    let served = serve().await;
    node(&served).await;
    let cases = [
        ("POST", spdy_request(REMOTE_COMMAND_V4), Framing::Spdy),
        ("GET", websocket("v5.channel.k8s.io"), Framing::Channels(Subprotocol::V5)),
        ("POST", websocket("v5.channel.k8s.io"), Framing::Channels(Subprotocol::V5)),
    ];
    for (method, headers, framing) in cases {
        let io = request(&served, method, EXEC, headers).await.expect("switched");
        let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
        let mut session = Session::open(io, framing, wanted).await.expect("session");
        session.sender.send(Channel::Stdin, Bytes::from_static(b"hello")).await.expect("send");
        session.sender.end(Channel::Stdin).await.expect("end");
        let (mut out, mut status) = (Vec::new(), Vec::new());
        while let Some(item) = session.receiver.next().await.expect("item") {
            match item {
                Item::Data(Channel::Stdout, bytes) => out.extend_from_slice(&bytes),
                Item::Data(Channel::Error, bytes) => status.extend_from_slice(&bytes),
                _ => {}
            }
        }
        assert_eq!(String::from_utf8_lossy(&out), "HELLO", "{framing:?}");
        assert_eq!(String::from_utf8_lossy(&status), EXIT, "{framing:?}");
        session.close().await;
    }
}

#[tokio::test]
async fn ports_are_forwarded_over_spdy_and_websocket() {
    let served = serve().await;
    node(&served).await;
    let path = "/api/v1/namespaces/default/pods/web/portforward";
    let cases = [
        ("POST", spdy_request(PORT_FORWARD), Framing::Spdy),
        ("GET", websocket("SPDY/3.1+portforward.k8s.io"), Framing::SpdyInWebSocket),
    ];
    for (method, headers, framing) in cases {
        let io = request(&served, method, path, headers).await.expect("switched");
        let mut forwarder = Forwarder::new(io, framing, Role::Client).await.expect("forwarder");
        for text in ["one", "two"] {
            let mut forward = forwarder.open(80).await.expect("open");
            forward.data.send.send(text.into()).await.expect("send");
            forward.data.send.end().await.expect("end");
            assert_eq!(forward.data.recv.recv().await.expect("echo"), Some(text.into()), "{framing:?}");
            assert_eq!(forward.data.recv.recv().await.expect("end"), None);
        }
        forwarder.close().await;
    }
}

#[tokio::test]
async fn logs_are_text_and_mistakes_are_statuses() {
    let served = serve().await;
    let pod = "/api/v1/namespaces/default/pods/web";
    let get = |path: String| request(&served, "GET", Box::leak(path.into_boxed_str()), http::HeaderMap::new());
    let lost = get(format!("{pod}/log?container=side")).await.err();
    assert!(matches!(&lost, Some((503, text)) if text.contains("n1")), "{lost:?}");
    node(&served).await;
    assert_eq!(get(format!("{pod}/log?container=side")).await.err(), Some((200, "side says hello\n".into())));
    let cases = [
        (format!("{pod}/log"), 400, "choose one of: [main side]"),
        (format!("{pod}/log?container=x"), 400, "container x is not valid for pod web"),
        (format!("{pod}/log?container=main&tailLines=-1"), 422, "must be greater than or equal to 0"),
        (format!("{pod}/exec?container=main&command=ls&stdout=true"), 400, "Upgrade request required"),
        (format!("{pod}/exec?container=main&stdout=true"), 400, "at least one command"),
        (format!("{pod}/exec?container=main&command=ls"), 400, "at least 1 of stdin, stdout, stderr"),
        ("/api/v1/namespaces/default/pods/none/log".into(), 404, "pods \\\"none\\\" not found"),
    ];
    for (path, code, part) in cases {
        let (got, text) = get(path.clone()).await.expect_err("no upgrade");
        assert!(got == code && text.contains(part), "{path}: {got} {text}");
    }
}

#[tokio::test]
async fn pods_services_and_nodes_are_proxied() {
    let served = serve().await;
    node(&served).await;
    let api = admin(&served.world);
    let status = Target { subresource: "status".into(), ..pod_target("web") };
    let address = json!({ "status": { "podIP": "10.42.0.7" } }).to_string();
    api.write(&status, Write::Patch(MERGE_PATCH, address.into())).await.expect("an address");
    let create = async |resource: Resource, object: serde_json::Value| {
        let target = Target { resource, ..pod_target("") };
        api.write(&target, Write::Create(object.to_string().into())).await.expect("created");
    };
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": { "ports": [{ "name": "http", "port": 80 }] } });
    create(Resource::new("", "v1", "services"), service).await;
    let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
        "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": [{ "addresses": ["10.42.0.9"], "nodeName": "n1" }] });
    create(Resource::new("discovery.k8s.io", "v1", "endpointslices"), slice).await;
    let ask = async |path: &'static str| {
        let mut headers = http::HeaderMap::new();
        for (name, value) in [("x-mine", "1"), ("te", "trailers"), ("proxy-authorization", "Basic eA==")] {
            headers.insert(name, value.parse().expect("a value"));
        }
        request(&served, "GET", path, headers).await.expect_err("an answer")
    };
    let (code, text) = ask("/api/v1/namespaces/default/pods/web:81/proxy/a%2Fb?c=d").await;
    let link = "<a href=\"/api/v1/namespaces/default/pods/web:81/proxy/next\">10.42.0.7:81</a>";
    assert!(code == 201 && text.starts_with(link), "{code} {text}");
    let lower = text.to_ascii_lowercase();
    for part in ["get /a%2fb?c=d http/1.1", "host: 10.42.0.7:81", "x-mine: 1", "x-forwarded-host: kybern"] {
        assert!(lower.contains(part), "no {part}: {text}");
    }
    for part in ["te: trailers", "proxy-authorization"] {
        assert!(!lower.contains(part), "{part} went through: {text}");
    }
    for path in
        ["/api/v1/namespaces/default/services/web:http/proxy/", "/api/v1/namespaces/default/services/web:80/proxy/"]
    {
        let (code, text) = ask(path).await;
        assert!(code == 201 && text.contains(">10.42.0.9:8080</a>"), "{path}: {code} {text}");
    }
    let (code, text) = ask("/api/v1/namespaces/default/services/web:81/proxy/").await;
    assert!(code == 503 && text.contains("no service port 81 found for service \\\"web\\\""), "{code} {text}");
    let (code, _) = ask("/api/v1/namespaces/default/pods/web/proxy").await;
    assert_eq!(code, 301);
    let (code, text) = ask("/api/v1/namespaces/default/pods/ftp:web:21/proxy/").await;
    assert!(code == 400 && text.contains("invalid pod request"), "{code} {text}");
}

/// A server that has no stream to the node reaches it through the one that has.
#[tokio::test]
async fn a_node_reads_image_content_of_another_and_nobody_else_does() {
    let served = serve().await;
    node(&served).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", served.address)).expect("endpoint");
    let client = NodeClient::new(channel.connect().await.expect("connected"));
    let ask = async |node: &str, digest: &str, offset, asker: Option<&str>| {
        let blob = pb::BlobRequest { node: node.into(), digest: digest.into(), offset };
        let mut request = tonic::Request::new(blob);
        if let Some(asker) = asker {
            request.metadata_mut().insert("authorization", format!("Bearer {asker}").parse().expect("a header"));
        }
        let mut chunks = client.clone().blob(request).await.map_err(|e| e.code())?.into_inner();
        let (mut size, mut bytes) = (0, Vec::new());
        while let Some(chunk) = chunks.message().await.map_err(|e| e.code())? {
            size += chunk.size;
            bytes.extend_from_slice(&chunk.bytes);
        }
        Ok((size, String::from_utf8(bytes).expect("text")))
    };
    assert_eq!(ask("n1", "sha256:abc", 0, Some("n2")).await, Ok((11, "hello world".into())));
    assert_eq!(ask("n1", "sha256:abc", 6, Some("n2")).await, Ok((11, "world".into())));
    assert_eq!(ask("n1", "sha256:def", 0, Some("n2")).await, Err(tonic::Code::NotFound));
    assert_eq!(ask("n3", "sha256:abc", 0, Some("n2")).await, Err(tonic::Code::Unavailable), "not connected");
    assert_eq!(ask("n1", "sha256:abc", 0, None).await, Err(tonic::Code::PermissionDenied), "no node");
}

#[tokio::test]
async fn a_peer_relays_to_its_node() {
    let (with_node, without) = (serve().await, serve().await);
    node(&with_node).await;
    let peer = pb::Server { id: 1, address: with_node.address.to_string() };
    without.world.server.publish_servers(vec![peer, pb::Server { id: 2, address: without.address.to_string() }]);
    let connect: Connect = Arc::new(|address| {
        tonic::transport::Endpoint::from_shared(format!("http://{address}")).expect("endpoint").connect_lazy()
    });
    let peers = GrpcPeers::new(2, without.world.server.servers(), connect);
    without.world.server.nodes().set_peers(Arc::new(peers));
    let headers = spdy_request(REMOTE_COMMAND_V4);
    let io = request(&without, "POST", EXEC, headers).await.expect("switched");
    let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
    let mut session = Session::open(io, Framing::Spdy, wanted).await.expect("session");
    session.sender.send(Channel::Stdin, Bytes::from_static(b"far")).await.expect("send");
    session.sender.end(Channel::Stdin).await.expect("end");
    let mut seen = Vec::new();
    while let Some(item) = session.receiver.next().await.expect("item") {
        if let Item::Data(channel, bytes) = item {
            seen.push((channel, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    seen.sort_by_key(|(channel, _)| channel.number());
    assert_eq!(seen, [(Channel::Stdout, "FAR".into()), (Channel::Error, EXIT.into())]);
    session.close().await;
    let unknown = without.world.server.nodes().open("n9", What::Dial(pb::Dial::default())).await;
    assert_eq!(unknown.expect_err("nobody has it").code, 503);
}

/// A feed over the real door: present objects, then changes, and a node sees only what it may ask for.
#[tokio::test]
async fn a_feed_lists_and_follows() {
    use pb::feed_event::Type;
    let served = serve().await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", served.address)).expect("endpoint");
    let mut client = NodeClient::new(channel.connect().await.expect("connected"));
    let (out, requests) = mpsc::unbounded_channel();
    let mut request = tonic::Request::new(UnboundedReceiverStream::new(requests));
    request.metadata_mut().insert("authorization", "Bearer n1".parse().expect("a header"));
    let mut events = client.feed(request).await.expect("feed").into_inner();
    let subscribe = pb::Subscribe {
        id: 7,
        version: "v1".into(),
        resource: "pods".into(),
        field_selector: "spec.nodeName=n1".into(),
        ..pb::Subscribe::default()
    };
    out.send(pb::FeedRequest { request: Some(pb::feed_request::Request::Subscribe(subscribe)) }).expect("send");
    let mut kinds = Vec::new();
    for _ in 0..3 {
        let event = events.message().await.expect("open").expect("an event");
        assert_eq!(event.id, 7);
        kinds.push(event.r#type());
    }
    assert_eq!(kinds, [Type::Reset, Type::Added, Type::Synced]);
    let label = json!({"metadata": {"labels": {"a": "b"}}}).to_string();
    let patch = Write::Patch(MERGE_PATCH, label.into());
    admin(&served.world).write(&pod_target("web"), patch).await.expect("patched");
    let event = events.message().await.expect("open").expect("an event");
    assert_eq!(event.r#type(), Type::Modified);
    assert!(String::from_utf8_lossy(&event.object).contains(r#""a":"b""#));
    let mut call = tonic::Request::new(pb::CallRequest {
        method: "GET".into(),
        path: "/api/v1/namespaces/default/pods/web".into(),
        ..pb::CallRequest::default()
    });
    call.metadata_mut().insert("authorization", "Bearer n1".parse().expect("a header"));
    let answer = client.call(call).await.expect("call").into_inner();
    assert_eq!(answer.code, 200);
    assert!(answer.body.starts_with(br#"{"kind":"Pod""#), "{:?}", answer.body);
}

/// Real kubectl against the same server, over its WebSocket and its SPDY transport.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl on the machine"]
async fn kubectl_speaks_with_it() {
    let served = serve().await;
    node(&served).await;
    let server = format!("--server=http://{}", served.address);
    for websockets in ["true", "false"] {
        let mut command = tokio::process::Command::new("kubectl");
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets).env("KUBECONFIG", "/dev/null");
        command.args([&server, "exec", "-i", "web", "-c", "main", "--", "cat"]).stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().expect("kubectl");
        let mut stdin = child.stdin.take().expect("stdin");
        tokio::io::AsyncWriteExt::write_all(&mut stdin, b"hello").await.expect("write");
        drop(stdin);
        let output = tokio::time::timeout(std::time::Duration::from_secs(20), child.wait_with_output()).await;
        let output = output.expect("in time").expect("output");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "HELLO", "websockets {websockets}: {errors}");
        assert_eq!(output.status.code(), Some(3), "websockets {websockets}: {errors}");
    }
}

#[tokio::test]
async fn what_nodes_use_is_asked_of_them() {
    let served = serve().await;
    let nodes = Resource::new("", "v1", "nodes");
    for name in ["n1", "n2"] {
        let target =
            Target { resource: nodes.clone(), namespace: String::new(), name: String::new(), ..pod_target("") };
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
        admin(&served.world).write(&target, Write::Create(node.to_string().into())).await.expect("a node");
    }
    node(&served).await;
    let metrics = Resource::new("metrics.k8s.io", "v1beta1", "nodes");
    // The stream is there when the server has read its first frame.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    while served.world.server.nodes().connected().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "the node does not connect");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let list = admin(&served.world).list(&metrics, &Default::default()).await.expect("usage");
    let names: Vec<&str> = list.items.iter().map(|o| o.head.name.as_str()).collect();
    assert_eq!(names, ["n1"], "who does not answer is left out");
    let one: serde_json::Value = list.items[0].tree().expect("JSON");
    assert_eq!(one["usage"], json!({ "cpu": "1000000n", "memory": "1024Ki" }));
    let missing = admin(&served.world).get(&metrics, "", "n2").await.expect_err("n2 does not answer");
    assert_eq!((missing.code, missing.message.as_str()), (404, "nodes.metrics.k8s.io \"n2\" not found"));
}

fn policies_target(resource: &str, subresource: &str, name: &str) -> Target {
    let group = if resource == "networkpolicies" { "networking.k8s.io" } else { "" };
    let resource = Resource::new(group, "v1", resource);
    Target { resource, subresource: subresource.into(), ..pod_target(name) }
}

/// The stream of a node's policies.
async fn policies(served: &Served, node: &str) -> Result<tonic::Streaming<pb::PolicyUpdate>, tonic::Status> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", served.address)).expect("endpoint");
    let mut client = NodeClient::new(channel.connect().await.expect("connected"));
    let mut request = tonic::Request::new(pb::PoliciesRequest {});
    if !node.is_empty() {
        request.metadata_mut().insert("authorization", format!("Bearer {node}").parse().expect("a header"));
    }
    Ok(client.policies(request).await?.into_inner())
}

#[tokio::test]
async fn a_node_is_told_the_policies_of_its_own_pods_and_only_those() {
    let served = serve().await;
    let refused = policies(&served, "").await.expect_err("only nodes are told");
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let (mut n1, mut n2) = (policies(&served, "n1").await.expect("told"), policies(&served, "n2").await.expect("told"));
    let first = n1.message().await.expect("a message").expect("an update");
    assert!(first.whole && first.policies.is_empty());
    assert_eq!(first.pods, [pb::PolicyPod { name: "default/web".into(), policies: Vec::new() }]);
    let other = n2.message().await.expect("a message").expect("an update");
    assert_eq!(other, pb::PolicyUpdate { whole: true, ..Default::default() }, "n2 has no pods, and is told of none");

    let admin = admin(&served.world);
    let policy = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": "p", "namespace": "default" },
        "spec": { "podSelector": {}, "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "role": "client" } } }] }] } });
    let create = Write::Create(policy.to_string().into());
    admin.write(&policies_target("networkpolicies", "", ""), create).await.expect("a policy");
    let update = n1.message().await.expect("a message").expect("an update");
    assert!(!update.whole && update.policies[0].ingress && !update.policies[0].egress);
    assert_eq!(update.pods[0].policies, ["default/p"]);
    assert!(update.sets[0].fresh && update.sets[0].add.is_empty(), "no client yet: {update:?}");

    let mut client = objects::pod("client");
    client["metadata"]["labels"] = json!({ "role": "client" });
    client["spec"]["nodeName"] = json!("n2");
    admin.write(&pod_target(""), Write::Create(client.to_string().into())).await.expect("a pod");
    let update = n2.message().await.expect("a message").expect("an update");
    assert_eq!(update.pods[0].policies, ["default/p"], "a pod comes with the policies that were there before it");
    let status = json!({ "status": { "podIP": "10.42.1.7", "podIPs": [{ "ip": "10.42.1.7" }] } });
    let patch = Write::Patch(MERGE_PATCH, status.to_string().into());
    admin.write(&policies_target("pods", "status", "client"), patch).await.expect("a status");
    let update = n1.message().await.expect("a message").expect("an update");
    let member = pb::SetMember { address: u32::from(std::net::Ipv4Addr::new(10, 42, 1, 7)), port: 0 };
    assert_eq!((update.sets[0].add.as_slice(), update.pods.len(), update.policies.len()), (&[member][..], 0, 0));
}
