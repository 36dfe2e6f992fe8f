//! One attempt at what probes and hooks do: run a command, ask a URL, open a connection.

use crate::runtime::Runtime;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::time::Duration;
use tokio::net::TcpStream;

/// Where a container is reached.
#[derive(Debug, Clone)]
pub struct Target {
    /// Runtime id.
    pub id: String,
    /// Its pod's address.
    pub ip: String,
    /// Its spec, for named ports.
    pub container: Container,
}

impl Target {
    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(n) => Some(*n),
            IntOrString::String(name) => self
                .container
                .ports
                .iter()
                .flatten()
                .find(|p| p.name.as_deref() == Some(name))
                .map(|p| p.container_port)
                .or_else(|| name.parse().ok()),
        };
        number.and_then(|n| u16::try_from(n).ok()).ok_or_else(|| format!("couldn't find port: {port:?}"))
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err("context deadline exceeded".into()))
}

/// Runs a command in the container.
///
/// # Errors
/// Its output, when it ends with another code than 0 or not in time.
pub async fn exec(runtime: &dyn Runtime, target: &Target, action: &ExecAction, limit: Duration) -> Result<(), String> {
    let command = action.command.clone().unwrap_or_default();
    within(limit, async {
        let answer = runtime.exec_sync(&target.id, &command, limit).await.map_err(|e| e.to_string())?;
        if answer.exit_code == 0 {
            return Ok(());
        }
        let output = [&answer.stdout[..], &answer.stderr[..]].concat();
        Err(String::from_utf8_lossy(&output).chars().take(1024).collect::<String>())
    })
    .await
}

/// GETs a URL of the container; 200 to 399 is success.
///
/// # Errors
/// What went wrong.
pub async fn http(target: &Target, action: &HTTPGetAction, limit: Duration) -> Result<(), String> {
    if action.scheme.as_deref() == Some("HTTPS") {
        return Err("HTTPS is not supported here yet".into());
    }
    let port = target.port(&action.port)?;
    let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&target.ip);
    let path = action.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let mut request = http::Request::get(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") });
    let mut named = false;
    for h in action.http_headers.iter().flatten() {
        named |= h.name.eq_ignore_ascii_case("host");
        request = request.header(&h.name, &h.value);
    }
    if !named {
        request = request.header("Host", format!("{host}:{port}"));
    }
    let request = request.header("User-Agent", "kube-probe/1.36").body(Empty::<bytes::Bytes>::new());
    let request = request.map_err(|e| e.to_string())?;
    within(limit, async {
        let stream = TcpStream::connect((host, port)).await.map_err(|e| e.to_string())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let driver = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|e| e.to_string());
        let status = match answer {
            Ok(answer) => {
                let status = answer.status().as_u16();
                // Read a little, so that the server does not see its answer refused.
                let _ = answer.into_body().frame().await;
                status
            }
            Err(e) => {
                driver.abort();
                return Err(e);
            }
        };
        driver.abort();
        if (200..400).contains(&status) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {status}")) }
    })
    .await
}

/// Opens a connection to the container.
///
/// # Errors
/// What went wrong.
pub async fn tcp(target: &Target, action: &TCPSocketAction, limit: Duration) -> Result<(), String> {
    let port = target.port(&action.port)?;
    let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&target.ip);
    within(limit, async { TcpStream::connect((host, port)).await.map(drop).map_err(|e| e.to_string()) }).await
}
