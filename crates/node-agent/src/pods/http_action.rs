//! HTTP and HTTPS GETs of probes and hooks. Certificates are not checked, as Kubernetes does not.

use super::handlers::{Target, within};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use kybern_client::http::any_certificate;
use rustls::pki_types::ServerName;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Redirections within one host that are followed.
const REDIRECTS: usize = 10;
const AGENT: &str = "kube-probe/1.36";

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

/// What an answer comes to.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Good,
    Bad(u16),
    Elsewhere(Address),
}

/// GETs a URL of the container; 200 to 399 is success. A redirection to another host is success too.
///
/// # Errors
/// What went wrong.
pub async fn get(target: &Target, action: &HTTPGetAction, limit: Duration) -> Result<(), String> {
    let mut address = Address {
        tls: action.scheme.as_deref() == Some("HTTPS"),
        host: action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&target.ip).to_owned(),
        port: target.port(&action.port)?,
        path: path(action.path.as_deref().unwrap_or_default()),
    };
    within(limit, async {
        for _ in 0..=REDIRECTS {
            match ask(&address, action).await? {
                Answer::Good => return Ok(()),
                Answer::Bad(status) => return Err(format!("HTTP probe failed with statuscode: {status}")),
                Answer::Elsewhere(next) if next.host != address.host => return Ok(()),
                Answer::Elsewhere(next) => address = next,
            }
        }
        Err(format!("stopped after {REDIRECTS} redirects"))
    })
    .await
}

fn path(text: &str) -> String {
    if text.starts_with('/') { text.to_owned() } else { format!("/{text}") }
}

fn request(address: &Address, action: &HTTPGetAction) -> Result<http::Request<Empty<bytes::Bytes>>, String> {
    let mut request = http::Request::get(&address.path);
    let headers = || action.http_headers.iter().flatten();
    for h in headers() {
        request = request.header(&h.name, &h.value);
    }
    let named = |name: &str| headers().any(|h| h.name.eq_ignore_ascii_case(name));
    if !named("host") {
        request = request.header("Host", format!("{}:{}", address.host, address.port));
    }
    if !named("user-agent") {
        request = request.header("User-Agent", AGENT);
    }
    if !named("accept") {
        request = request.header("Accept", "*/*");
    }
    request.header("Connection", "close").body(Empty::new()).map_err(|e| e.to_string())
}

async fn ask(address: &Address, action: &HTTPGetAction) -> Result<Answer, String> {
    let request = request(address, action)?;
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(|e| e.to_string())?;
    if !address.tls {
        return exchange(tcp, request, address).await;
    }
    let name = ServerName::try_from(address.host.clone()).map_err(|e| e.to_string())?;
    let tls = TlsConnector::from(ANY_CERTIFICATE.clone()).connect(name, tcp).await.map_err(|e| e.to_string())?;
    exchange(tls, request, address).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: http::Request<Empty<bytes::Bytes>>,
    address: &Address,
) -> Result<Answer, String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| e.to_string())?;
    // Aborted on drop, also when the probe's time is over.
    let _driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let verdict = judge(answer.status().as_u16(), answer.headers().get(http::header::LOCATION), address);
    // Read a little, so that the server does not see its answer refused.
    let _ = answer.into_body().frame().await;
    Ok(verdict)
}

fn judge(status: u16, location: Option<&http::HeaderValue>, address: &Address) -> Answer {
    if !(200..400).contains(&status) {
        return Answer::Bad(status);
    }
    let redirected = matches!(status, 301 | 302 | 303 | 307 | 308);
    let location = location.filter(|_| redirected).and_then(|l| l.to_str().ok());
    match location.and_then(|l| follow(l, address)) {
        Some(next) => Answer::Elsewhere(next),
        None => Answer::Good,
    }
}

/// Where a Location leads to; None when it cannot be read.
fn follow(location: &str, from: &Address) -> Option<Address> {
    let uri: http::Uri = location.parse().ok()?;
    let path = path(uri.path_and_query().map_or("/", |p| p.as_str()));
    let Some(authority) = uri.authority() else { return Some(Address { path, ..from.clone() }) };
    let tls = uri.scheme_str() == Some("https");
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Some(Address { tls, host: authority.host().to_owned(), port, path })
}

/// A probe asks whether something answers, not who.
static ANY_CERTIFICATE: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| any_certificate(&[]));

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn address() -> Address {
        Address { tls: false, host: "10.0.0.1".into(), port: 80, path: "/".into() }
    }

    #[test]
    fn answers_are_judged() {
        let at = |l: &'static str| Some(http::HeaderValue::from_static(l));
        for (status, location, expected) in [
            (200, None, Answer::Good),
            (399, None, Answer::Good),
            (400, None, Answer::Bad(400)),
            (503, at("/x"), Answer::Bad(503)),
            (302, None, Answer::Good),
            (302, at("/next?a=b"), Answer::Elsewhere(Address { path: "/next?a=b".into(), ..address() })),
            (
                301,
                at("https://other/"),
                Answer::Elsewhere(Address { tls: true, host: "other".into(), port: 443, path: "/".into() }),
            ),
        ] {
            assert_eq!(judge(status, location.as_ref(), &address()), expected, "{status} {location:?}");
        }
    }

    /// Answers each connection with the next of these texts; what it was asked comes back.
    async fn server(answers: Vec<&'static str>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 2048];
                let n = stream.read(&mut buffer).await.unwrap();
                asked.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
                stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
            }
            asked
        });
        (port, task)
    }

    fn target(port: u16) -> (Target, HTTPGetAction) {
        let container = serde_json::from_value(json!({"name": "c"})).unwrap();
        let action = json!({"port": port, "path": "p", "httpHeaders": [{"name": "X-A", "value": "b"}]});
        (Target { id: "c".into(), ip: "127.0.0.1".into(), container }, serde_json::from_value(action).unwrap())
    }

    #[tokio::test]
    async fn a_redirection_on_the_same_host_is_followed() {
        let (port, asked) = server(vec!["302 Found\r\nLocation: /next", "500 Sorry"]).await;
        let (target, action) = target(port);
        let failed = get(&target, &action, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(failed, "HTTP probe failed with statuscode: 500");
        let asked = asked.await.unwrap();
        assert!(asked[0].starts_with("GET /p HTTP/1.1\r\n") && asked[1].starts_with("GET /next HTTP/1.1\r\n"));
        let first = asked[0].to_ascii_lowercase();
        assert!(first.contains("x-a: b\r\n") && first.contains("user-agent: kube-probe/1.36\r\n"), "{first}");
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (target, action) = target(listener.local_addr().unwrap().port());
        let failed = get(&target, &action, Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(failed, "context deadline exceeded");
    }
}
