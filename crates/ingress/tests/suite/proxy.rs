//! The proxy over real sockets.

use crate::support::{Echo, Site, ask, certificate, certified, dead, get, got, http2, ingress, post, raw, secure};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kybern_ingress::backend::Protocol::{H2c, Http1};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_request_reaches_its_endpoint_with_the_heads_a_proxy_makes() {
    let echo = Echo::start("web").await;
    let site = Site::start(ingress(Value::Null, &[("/", "web")]), &[("web", &[echo.address], Http1)]).await;
    let request = Request::post("/a/b?c=d")
        .header("host", "A.example.com:8080")
        .header("connection", "x-mine")
        .header("x-mine", "1")
        .header("x-forwarded-for", "192.0.2.1");
    let got = ask(site.http, request.body(Full::<Bytes>::from("hello")).unwrap()).await;
    let said = got.said();
    assert_eq!((&said["method"], &said["uri"], &said["body"]), (&json!("POST"), &json!("/a/b?c=d"), &json!("hello")));
    let headers = &said["headers"];
    assert_eq!(headers["host"], "A.example.com:8080");
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["x-forwarded-host"], "A.example.com:8080");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-port"], site.http.port().to_string());
    assert!(headers["x-mine"].is_null() && got.headers.get("x-hop").is_none(), "hop by hop");
}

#[tokio::test]
async fn what_is_not_served_is_said() {
    let echo = Echo::start("web").await;
    let site =
        Site::start(ingress(Value::Null, &[("/", "web"), ("/none", "gone")]), &[("web", &[echo.address], Http1)]).await;
    let status = async |request: Request<Full<Bytes>>| ask(site.http, request).await.status.as_u16();
    let other = Request::get("/").header("host", "b.example.com").body(Full::default()).unwrap();
    assert_eq!(status(other).await, 404);
    assert_eq!(status(get("/none")).await, 503);
    for path in ["/a/../b", "/a/%2e%2E/b", "/."] {
        assert_eq!(status(get(path)).await, 400, "{path}");
    }
    let twice = Request::get("/").header("host", "a.example.com").header("host", "b.example.com");
    assert_eq!(status(twice.body(Full::default()).unwrap()).await, 400);
    assert_eq!(status(Request::get("/").body(Full::default()).unwrap()).await, 400, "no host");
    let odd = Request::get("/").header("host", "x@a.example.com").body(Full::default()).unwrap();
    assert_eq!(status(odd).await, 400);
    assert_eq!(echo.count(), 0);
}

#[tokio::test]
async fn backends_over_tls_are_asked_over_tls() {
    let (one, two, plain) =
        (Echo::over_tls("one", b"http/1.1").await, Echo::over_tls("two", b"h2").await, Echo::start("plain").await);
    for (protocol, echo, answer) in
        [("HTTPS", &one, 200), ("GRPCS", &two, 200), ("GRPCS", &one, 502), ("https", &plain, 502)]
    {
        let annotations = json!({ "nginx.ingress.kubernetes.io/backend-protocol": protocol });
        let site = Site::start(ingress(annotations, &[("/", "web")]), &[("web", &[echo.address], Http1)]).await;
        for _ in 0..2 {
            let got = ask(site.http, get("/a?b=c")).await;
            assert_eq!(got.status, answer, "{protocol}");
            if answer == 200 {
                let uri = got.said()["uri"].as_str().unwrap().to_owned();
                assert!(uri.ends_with("/a?b=c"), "{uri}");
            }
        }
    }
}

#[tokio::test]
async fn requests_are_counted_by_their_route() {
    let echo = Echo::start("web").await;
    let annotations = json!({ "kybern.io/proxy-body-size": "1" });
    let site =
        Site::start(ingress(annotations, &[("/a", "web"), ("/b", "gone")]), &[("web", &[echo.address], Http1)]).await;
    for request in [get("/a"), get("/a/x?y=z"), post("/a", "too long"), get("/b"), get("/elsewhere")] {
        ask(site.http, request).await;
    }
    let text = site.metrics.text().unwrap();
    let route = |path: &str, service: &str| {
        format!(
            "kybern_ingress_requests_total{{ingress=\"n/a\",host=\"a.example.com\",path=\"{path}\",service=\"{service}\""
        )
    };
    let nobody = "kybern_ingress_requests_total{ingress=\"\",host=\"\",path=\"\",service=\"\"".to_owned();
    for (labels, code, count) in
        [(route("/a", "web"), 200, 2), (route("/a", "web"), 413, 1), (route("/b", "gone"), 503, 1), (nobody, 404, 1)]
    {
        let line = format!("{labels},code=\"{code}\"}} {count}\n");
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_costs_no_request() {
    let echo = Echo::start("web").await;
    let endpoints = [dead().await, echo.address, dead().await];
    let site = Site::start(ingress(Value::Null, &[("/", "web")]), &[("web", &endpoints, Http1)]).await;
    for _ in 0..6 {
        assert_eq!(ask(site.http, get("/")).await.status, 200);
        assert_eq!(ask(site.http, post("/", "body")).await.said()["body"], "body", "nothing was sent before");
    }
    let nobody = Site::start(ingress(Value::Null, &[("/", "web")]), &[("web", &[dead().await], Http1)]).await;
    assert_eq!(ask(nobody.http, get("/")).await.status, 502);
}

/// Reads a request's head and hangs up.
async fn hang_up(mut stream: TcpStream) {
    _ = stream.read(&mut [0; 1024]).await;
}

#[tokio::test]
async fn only_what_may_be_repeated_is_repeated_after_it_was_sent() {
    let (echo, broken) = (Echo::start("web").await, raw(hang_up).await);
    let site = Site::start(ingress(Value::Null, &[("/", "web")]), &[("web", &[broken, echo.address], Http1)]).await;
    let mut refused = 0;
    for _ in 0..4 {
        assert_eq!(ask(site.http, get("/")).await.status, 200);
        refused += usize::from(ask(site.http, post("/", "")).await.status == 502);
        // so that reads do not always get the same endpoint
        ask(site.http, get("/")).await;
    }
    assert!(refused > 0, "a POST that may have arrived is not repeated");
}

#[tokio::test]
async fn bodies_are_limited() {
    let echo = Echo::start("web").await;
    let annotations = json!({ "nginx.ingress.kubernetes.io/proxy-body-size": "10" });
    let site = Site::start(ingress(annotations, &[("/", "web")]), &[("web", &[echo.address], Http1)]).await;
    assert_eq!(ask(site.http, post("/", "0123456789")).await.status, 200);
    assert_eq!(ask(site.http, post("/", "0123456789a")).await.status, 413);
    assert_eq!(echo.count(), 1, "what says that it is too large is not begun");
    let chunks = || tokio_stream(["01234", "56789", "a"]);
    let request = Request::post("/").header("host", "a.example.com").body(StreamBody::new(chunks())).unwrap();
    assert_eq!(ask(site.http, request).await.status, 413);
}

/// A body in pieces, without a length.
fn tokio_stream<const N: usize>(
    parts: [&'static str; N],
) -> impl futures::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static {
    futures::stream::iter(parts.map(|p| Ok(Frame::data(Bytes::from_static(p.as_bytes())))))
}

#[tokio::test]
async fn a_silent_backend_is_not_waited_for_for_ever() {
    async fn silence(stream: TcpStream) {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    }
    let annotations = json!({ "kybern.io/proxy-timeout": "1s" });
    let site = Site::start(ingress(annotations, &[("/", "web")]), &[("web", &[raw(silence).await], Http1)]).await;
    assert_eq!(ask(site.http, get("/")).await.status, 504);
}

#[tokio::test]
async fn paths_are_rewritten() {
    let echo = Echo::start("web").await;
    let annotations = json!({ "nginx.ingress.kubernetes.io/rewrite-target": "/$2" });
    let site = Site::start(ingress(annotations, &[("/app(/|$)(.*)", "web")]), &[("web", &[echo.address], Http1)]).await;
    assert_eq!(ask(site.http, get("/app/x/y?q=1")).await.said()["uri"], "/x/y?q=1");
    assert_eq!(ask(site.http, get("/app")).await.said()["uri"], "/");
}

#[tokio::test]
async fn a_client_stays_with_its_endpoint_where_it_is_to() {
    let (one, two) = (Echo::start("one").await, Echo::start("two").await);
    let services = [("web", &[one.address, two.address][..], Http1)];
    let site = Site::start(ingress(json!({ "kybern.io/sticky-sessions": "true" }), &[("/", "web")]), &services).await;
    let first = ask(site.http, get("/")).await;
    let cookie = first.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("; Path=/; HttpOnly; SameSite=Lax") && !cookie.contains("127.0.0.1"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    for _ in 0..4 {
        let request = Request::get("/").header("host", "a.example.com").header("cookie", format!("x=y; {cookie}"));
        let again = ask(site.http, request.body(Full::<Bytes>::default()).unwrap()).await;
        assert_eq!(again.said()["name"], first.said()["name"]);
        assert!(again.headers.get("set-cookie").is_none());
    }
    let plain = Site::start(ingress(Value::Null, &[("/", "web")]), &services).await;
    let names: Vec<Value> =
        [ask(plain.http, get("/")).await, ask(plain.http, get("/")).await].map(|g| g.said()["name"].clone()).to_vec();
    assert_ne!(names[0], names[1], "without it they take turns");
}

/// Answers an upgrade, then says everything back.
async fn echo_socket(mut stream: TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).await.unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(answer.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.split();
    tokio::io::copy(&mut read, &mut write).await.unwrap();
}

#[tokio::test]
async fn connections_can_be_upgraded() {
    let backend = raw(echo_socket).await;
    let site = Site::start(ingress(Value::Null, &[("/", "web")]), &[("web", &[backend], Http1)]).await;
    let mut stream = TcpStream::connect(site.http).await.unwrap();
    let head = "GET /chat HTTP/1.1\r\nHost: a.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101") && answer.contains("upgrade: websocket"), "{answer}");
    for word in ["hello", "again"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        let mut back = vec![0; word.len()];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, word.as_bytes());
    }
}

#[tokio::test]
async fn certificates_are_chosen_by_name_and_exchanged_live() {
    let echo = Echo::start("web").await;
    let site = Site::start(ingress(Value::Null, &[("/", "web")]), &[("web", &[echo.address], Http1)]).await;
    let ((old, old_der), (new, new_der), (wild, wild_der)) =
        (certificate("a.example.com"), certificate("a.example.com"), certificate("*.example.org"));
    let with =
        |a: &Value| HashMap::from([("a.example.com".into(), certified(a)), ("*.example.org".into(), certified(&wild))]);
    site.certificates.set(with(&old));
    let stream = secure(site.https, "a.example.com", &old_der, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut open = http2(stream).await;
    let request = || {
        let body = Full::<Bytes>::default().boxed();
        Request::get("https://a.example.com/x").body(body).unwrap()
    };
    assert_eq!(got(open.send_request(request()).await.unwrap()).await.said()["headers"]["x-forwarded-proto"], "https");
    assert!(secure(site.https, "b.example.org", &wild_der, b"http/1.1").await.is_ok());
    assert!(secure(site.https, "x.b.example.org", &wild_der, b"http/1.1").await.is_err(), "one label");
    assert!(secure(site.https, "b.example.com", &old_der, b"http/1.1").await.is_err(), "no certificate");
    site.certificates.set(with(&new));
    assert!(secure(site.https, "a.example.com", &new_der, b"h2").await.is_ok());
    assert!(secure(site.https, "a.example.com", &old_der, b"h2").await.is_err());
    assert_eq!(got(open.send_request(request()).await.unwrap()).await.status, 200, "who is connected stays so");
}

#[tokio::test]
async fn plain_http_is_redirected_where_there_is_a_certificate() {
    let echo = Echo::start("web").await;
    let services = [("web", &[echo.address][..], Http1)];
    let site = Site::start(ingress(Value::Null, &[("/", "web")]), &services).await;
    assert_eq!(ask(site.http, get("/")).await.status, 200);
    let (secret, _) = certificate("a.example.com");
    let certificates = || HashMap::from([("a.example.com".into(), certified(&secret))]);
    site.certificates.set(certificates());
    let got = ask(site.http, get("/x?y=z")).await;
    assert_eq!(got.status, 308);
    assert_eq!(got.headers["location"], format!("https://a.example.com:{}/x?y=z", site.https.port()));
    let off = ingress(json!({ "nginx.ingress.kubernetes.io/ssl-redirect": "false" }), &[("/", "web")]);
    let site = Site::start(off, &services).await;
    site.certificates.set(certificates());
    assert_eq!(ask(site.http, get("/")).await.status, 200);
}

/// A gRPC-like backend: HTTP/2 without TLS, an answer that ends with trailers.
async fn grpc(stream: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| async move {
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.uri().authority().unwrap(), "a.example.com");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        let frames = [Ok::<_, Infallible>(Frame::data(body)), Ok(Frame::trailers(trailers))];
        Ok::<_, Infallible>(Response::new(StreamBody::new(futures::stream::iter(frames))))
    });
    let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    _ = http2.serve_connection(TokioIo::new(stream), service).await;
}

#[tokio::test]
async fn grpc_passes_with_its_trailers() {
    let backend = raw(grpc).await;
    let site = Site::start(ingress(Value::Null, &[("/", "rpc")]), &[("rpc", &[backend], H2c)]).await;
    let (secret, der) = certificate("a.example.com");
    site.certificates.set(HashMap::from([("a.example.com".into(), certified(&secret))]));
    let mut client = http2(secure(site.https, "a.example.com", &der, b"h2").await.unwrap()).await;
    let body = Full::<Bytes>::from("message").boxed();
    let request =
        Request::post("https://a.example.com/pkg.Service/Method").header("te", "trailers").body(body).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), "message");
}

#[tokio::test]
async fn requests_that_have_begun_come_to_their_end() {
    async fn slow(mut stream: TcpStream) {
        _ = stream.read(&mut [0; 1024]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await;
    }
    let site = Site::start(ingress(Value::Null, &[("/", "web")]), &[("web", &[raw(slow).await], Http1)]).await;
    let asking = tokio::spawn(ask(site.http, get("/")));
    tokio::time::sleep(Duration::from_millis(100)).await;
    site.cancel.cancel();
    let got = asking.await.unwrap();
    assert_eq!((got.status.as_u16(), got.text.as_str()), (200, "done"));
    site.serving.await.unwrap();
    assert!(TcpStream::connect(site.http).await.is_err(), "nobody listens any more");
}
