//! Connections that stall or say too much: each ends by itself, and nobody else waits for it.

use crate::cases::MAPS;
use crate::sockets::{Served, serve};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kybern_authn::pki::ClusterKeys;
use kybern_authn::tls::{self, Identity, Trust};
use kybern_testkit::{Builder, World};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// Stalled connections held open at once.
const STALLED: usize = 300;

/// A world that gives a client this long for its handshake and for its headers.
async fn impatient() -> World {
    let soon = Duration::from_millis(300);
    Builder::default()
        .configure(|c| {
            c.handshake_timeout = soon;
            c.header_timeout = soon;
        })
        .start()
        .await
}

/// What the server says until it ends the connection.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut said = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut said).await;
    String::from_utf8_lossy(&said).into_owned()
}

/// `GET /healthz` on an open connection; the answer.
async fn health(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nauthorization: Bearer admin\r\nconnection: close\r\n\r\n")
        .await
        .expect("sent");
    until_closed(&mut stream).await
}

#[tokio::test]
async fn headers_that_never_end_close_the_connection_and_delay_nobody() {
    let served = serve(&impatient().await).await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut stream = TcpStream::connect(served.address).await.expect("connected");
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: ").await.expect("sent");
        stalled.push(stream);
    }
    let answer = health(TcpStream::connect(served.address).await.expect("connected")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok"), "{answer}");
    for mut stream in stalled {
        let said = until_closed(&mut stream).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    }
    served.end().await;
}

#[tokio::test]
async fn headers_without_bound_are_refused() {
    let served = serve(&World::start().await).await;
    let mut stream = TcpStream::connect(served.address).await.expect("connected");
    let long = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(2 << 20));
    // The server may close before it has read all of it.
    let _ = stream.write_all(long.as_bytes()).await;
    let said = until_closed(&mut stream).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    served.end().await;
}

/// A TLS server, its address, and how a client connects to it.
async fn serve_tls() -> (SocketAddr, TlsConnector, CancellationToken) {
    #[expect(clippy::disallowed_methods, reason = "rustls reads the same clock")]
    let now = jiff::Timestamp::now();
    let keys = ClusterKeys::create(now).expect("keys");
    let issued = keys.serving_certificate("s1", &[], "cluster.local", now).expect("issued");
    let config = tls::api_server(Identity::new(&issued).expect("identity")).expect("server");
    let client = tls::client(Trust::new(keys.server_ca.trusted()).expect("trust"), None).expect("client");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, stop) = (listener.local_addr().expect("an address"), CancellationToken::new());
    let (server, shutdown) = (impatient().await.server, stop.clone());
    tokio::spawn(async move { server.serve(listener, Some(Arc::new(config)), shutdown).await });
    (address, TlsConnector::from(Arc::new(client)), stop)
}

#[tokio::test]
async fn half_open_handshakes_end_and_delay_nobody() {
    let (address, connector, stop) = serve_tls().await;
    let mut stalled = Vec::new();
    for at in 0..STALLED {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        if at % 2 == 1 {
            // The beginning of a ClientHello: a record that never comes to its end.
            stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.expect("sent");
        }
        stalled.push(stream);
    }
    let tcp = TcpStream::connect(address).await.expect("connected");
    let tls = connector.connect(ServerName::try_from("localhost").expect("a name"), tcp).await.expect("a handshake");
    let answer = health(tls).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    for mut stream in stalled {
        until_closed(&mut stream).await;
    }
    stop.cancel();
}

/// An HTTP/2 connection, and its end.
async fn h2(served: &Served) -> (SendRequest<Empty<Bytes>>, tokio::task::JoinHandle<()>) {
    let stream = TcpStream::connect(served.address).await.expect("a connection");
    let opened = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = opened.expect("HTTP/2");
    // How it ends is the server's choice: with or without an error.
    let end = tokio::spawn(async move { drop(connection.await) });
    (sender, end)
}

fn request(served: &Served, token: Option<&str>, query: &str) -> http::Request<Empty<Bytes>> {
    let request = http::Request::get(format!("http://{}{MAPS}{query}", served.address));
    let request = token.into_iter().fold(request, |r, t| r.header("authorization", format!("Bearer {t}")));
    request.body(Empty::new()).expect("a request")
}

#[tokio::test]
async fn strangers_get_one_request_on_a_connection_of_many_streams() {
    let world = World::start().await;
    let served = serve(&world).await;
    let (mut stranger, end) = h2(&served).await;
    let refused = stranger.send_request(request(&served, None, "")).await.expect("an answer");
    assert_eq!(refused.status(), 401);
    tokio::time::timeout(Duration::from_secs(5), end).await.expect("the server ends it").expect("no panic");
    let (mut known, end) = h2(&served).await;
    for _ in 0..3 {
        let answer = known.send_request(request(&served, Some("admin"), "")).await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }
    drop(known);
    end.await.expect("no panic");
    served.end().await;
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_at_once_cost_nobody_else_anything() {
    const RESETS: usize = 3_000;
    let world = World::start().await;
    let served = serve(&world).await;
    let (mut hasty, end) = h2(&served).await;
    for _ in 0..RESETS {
        if hasty.ready().await.is_err() {
            break;
        }
        let answer = tokio::spawn(hasty.send_request(request(&served, Some("admin"), "?watch=1")));
        tokio::task::yield_now().await;
        answer.abort();
    }
    let began = tokio::time::Instant::now();
    let said = health(TcpStream::connect(served.address).await.expect("a connection")).await;
    assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("ok"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    drop(hasty);
    drop(end);
    served.end().await;
}
