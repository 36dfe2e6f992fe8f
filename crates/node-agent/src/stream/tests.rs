use super::*;
use crate::pods::find::ContainerRef;
use crate::runtime::fake::Fake;
use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kybern_api::seam::FixedClock;
use kybern_stream::mux::{Body, ChannelError, Link};
use kybern_stream::negotiate;
use kybern_stream::session::{Channel as Stream, Item, Session, Wanted};
use kybern_wire::node as pb;
use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One container `c`, whose log is a file.
struct One {
    log: PathBuf,
    running: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl Containers for One {
    async fn find(&self, _: &str, pod: &str, _: &str, container: &str, _: bool) -> Result<ContainerRef, Status> {
        if container != "c" {
            return Err(Status::bad_request(format!("container {container} is not in pod {pod}")));
        }
        let running = self.running.load(std::sync::atomic::Ordering::SeqCst);
        Ok(ContainerRef { id: "id".into(), sandbox_id: "s".into(), log_path: self.log.clone(), running })
    }
    async fn sandbox(&self, _: &str, _: &str, _: &str) -> Result<String, Status> {
        Ok("s".into())
    }
    async fn sandbox_pid(&self, _: &str) -> Result<i32, Status> {
        Ok(std::process::id().cast_signed())
    }
}

fn services(log: PathBuf) -> (Arc<Services>, Arc<One>) {
    let one = Arc::new(One { log, running: true.into() });
    let clock = Arc::new(FixedClock::new("2024-05-01T10:00:10Z".parse().expect("time")));
    let runtime: Arc<dyn crate::runtime::Runtime> = Arc::new(Fake::default());
    let stats = Arc::new(crate::node::stats::Stats::new("n1", runtime.clone(), clock.clone(), "/".into()));
    let paths = crate::cni::Paths { bin_dir: "/nonexistent".into(), conf_dir: "/nonexistent".into() };
    let check = crate::netcheck::NetCheck::new("n1", paths, ([10, 43, 0, 10].into(), "cluster.local".into()));
    (
        Arc::new(Services {
            runtime,
            containers: one.clone(),
            clock,
            stats,
            content: None,
            check,
            ingress: Arc::default(),
        }),
        one,
    )
}

/// The server's end of a channel and the node's, joined; the answer comes out of the receiver.
fn opening() -> (Channel, Opening, mpsc::UnboundedReceiver<FromNode>) {
    let (to_node, mut for_node) = mpsc::unbounded_channel();
    let (to_server, mut for_server) = mpsc::unbounded_channel();
    let out = |queue: mpsc::UnboundedSender<(u64, Body)>| -> kybern_stream::mux::Out {
        Box::new(move |id, b| queue.send((id, b)).is_ok())
    };
    let (server, node) = (Link::new(out(to_node)), Link::new(out(to_server)));
    let (near, far) = (server.register(1).expect("server"), node.register(1).expect("node"));
    tokio::spawn(async move {
        while let Some((id, body)) = for_node.recv().await {
            node.deliver(id, body);
        }
    });
    tokio::spawn(async move {
        while let Some((id, body)) = for_server.recv().await {
            server.deliver(id, body);
        }
    });
    let (out, answers) = mpsc::unbounded_channel();
    (near, Opening { id: 1, channel: far, out }, answers)
}

async fn read(channel: &mut Channel, stream: u32, until: &str) {
    let mut all = Vec::new();
    while !all.ends_with(until.as_bytes()) {
        let data = channel.receiver.recv().await.expect("recv").unwrap_or_else(|| panic!("ended after {all:?}"));
        if data.stream == stream {
            all.extend_from_slice(&data.bytes);
        }
    }
}

fn logs(tail: i64, follow: bool) -> What {
    What::Logs(pb::Logs {
        pod: "p".into(),
        container: "c".into(),
        tail_lines: Some(tail),
        follow,
        stream: "All".into(),
        ..pb::Logs::default()
    })
}

#[tokio::test]
async fn a_followed_log_ends_with_its_container() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("0.log");
    let mut file = std::fs::File::create(&path).expect("create");
    let line = |text: &str| format!("2024-05-01T10:00:00Z stdout F {text}\n");
    write!(file, "{}{}", line("one"), line("two")).expect("write");
    let (services, one) = services(path);
    let (mut channel, opening, mut answers) = opening();
    let serving = tokio::spawn(async move { services.serve(Some(logs(1, true)), opening).await });
    assert!(answers.recv().await.is_some());
    read(&mut channel, 0, "two\n").await;
    write!(file, "{}", line("three")).expect("write");
    read(&mut channel, 0, "three\n").await;
    write!(file, "{}", line("last words")).expect("write");
    one.running.store(false, std::sync::atomic::Ordering::SeqCst);
    drop(file);
    read(&mut channel, 0, "last words\n").await;
    assert_eq!(channel.receiver.recv().await, Ok(None));
    serving.await.expect("task");
}

#[tokio::test]
async fn a_missing_container_is_refused_with_a_status() {
    let (services, _) = services(PathBuf::from("/nowhere"));
    let (mut channel, opening, mut answers) = opening();
    let what = What::Logs(pb::Logs { pod: "p".into(), container: "x".into(), ..pb::Logs::default() });
    services.serve(Some(what), opening).await;
    let Err(ChannelError::Remote(text)) = channel.receiver.recv().await else { panic!("must be refused") };
    let status = Status::from_json(500, text.as_bytes()).expect("a status");
    assert_eq!((status.code, status.message.as_str()), (400, "container x is not in pod p"));
    assert!(answers.try_recv().is_err(), "never opened");
}

/// A runtime's streaming server: echoes the input in capitals, then ends with exit code 3.
async fn streaming_server(wanted: Wanted) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("http://{}/exec/token", listener.local_addr().expect("address"));
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("accept");
        let service = hyper::service::service_fn(move |mut request: Request<hyper::body::Incoming>| async move {
            let accepted = negotiate::remote_command(request.headers()).expect("an upgrade");
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let io = TokioIo::new(upgrade.await.expect("upgraded"));
                let mut session = Session::accept(io, accepted.framing, wanted).await.expect("session");
                while let Ok(Some(Item::Data(Stream::Stdin, bytes))) = session.receiver.next().await {
                    session.sender.send(Stream::Stdout, bytes.to_ascii_uppercase().into()).await.expect("send");
                }
                session.sender.send(Stream::Error, Bytes::from_static(br#"{"exit":3}"#)).await.expect("status");
                session.close().await;
            });
            let mut response = Response::new(http_body_util::Empty::<Bytes>::new());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *response.headers_mut() = accepted.headers;
            Ok::<_, Infallible>(response)
        });
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(tcp), service)
            .with_upgrades()
            .await
            .ok();
    });
    url
}

#[tokio::test]
async fn a_command_runs_through_the_runtimes_streaming_server() {
    let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
    let url = streaming_server(wanted).await;
    let (mut channel, opening, mut answers) = opening();
    let serving = tokio::spawn(async move { command::carry(Ok(url), wanted, opening).await });
    assert!(answers.recv().await.is_some());
    channel.sender.send(0, Bytes::from_static(b"hello")).await.expect("send");
    read(&mut channel, 1, "HELLO").await;
    channel.sender.end(0).expect("end");
    read(&mut channel, 3, r#"{"exit":3}"#).await;
    while channel.receiver.recv().await.expect("orderly").is_some() {}
    serving.await.expect("task");
}

/// The pod is this process: its network namespace is ours.
#[tokio::test]
async fn a_port_is_reached_inside_the_pods_namespace() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = u32::from(listener.local_addr().expect("address").port());
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("accept");
        let mut all = String::new();
        tcp.read_to_string(&mut all).await.expect("read");
        tcp.write_all(format!("got {all}").as_bytes()).await.expect("write");
    });
    let (services, _) = services(PathBuf::new());
    let (mut channel, opening, _answers) = opening();
    let what = What::PortForward(pb::PortForward { port, ..pb::PortForward::default() });
    tokio::spawn(async move { services.serve(Some(what), opening).await });
    channel.sender.send(0, Bytes::from_static(b"ping")).await.expect("send");
    channel.sender.end(0).expect("end");
    read(&mut channel, 0, "got ping").await;
    while channel.receiver.recv().await.expect("orderly").is_some() {}
}

#[tokio::test]
async fn a_closed_port_is_refused_with_its_reason() {
    let (services, _) = services(PathBuf::new());
    let (mut channel, opening, _answers) = opening();
    services.serve(Some(What::Dial(pb::Dial { ip: "127.0.0.1".into(), port: 1 })), opening).await;
    let Err(ChannelError::Remote(text)) = channel.receiver.recv().await else { panic!("must be refused") };
    assert!(text.contains("127.0.0.1:1"), "{text}");
}
