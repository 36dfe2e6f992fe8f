//! Answers load balancers that ask whether this node has endpoints of a service (healthCheckNodePort).

use super::model::HealthCheck;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A connection that asks for nothing is closed after this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections one service's port serves at once: whoever reaches the node may ask.
const CONNECTIONS: usize = 64;
/// A port that can't be had is tried again after this long.
const RETRY: Duration = Duration::from_secs(5);
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");
const SNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// The health checks this node answers, by service.
#[derive(Debug, Default)]
pub struct HealthChecks {
    served: BTreeMap<String, Served>,
}

/// One service's port; closed when dropped.
#[derive(Debug)]
struct Served {
    port: u16,
    local: Arc<AtomicUsize>,
    _open: DropGuard,
}

impl HealthChecks {
    /// Takes in what is to be answered for the service `key`; none: its port is closed.
    pub fn set(&mut self, key: &str, check: Option<HealthCheck>) {
        let Some(check) = check else {
            self.served.remove(key);
            return;
        };
        match self.served.get(key) {
            Some(s) if s.port == check.port => s.local.store(check.local_endpoints, Ordering::Relaxed),
            _ => {
                // The old port is closed before the new one opens.
                self.served.remove(key);
                self.served.insert(key.to_owned(), serve(key, &check));
            }
        }
    }
}

fn serve(key: &str, check: &HealthCheck) -> Served {
    let (stop, local) = (CancellationToken::new(), Arc::new(AtomicUsize::new(check.local_endpoints)));
    let (count, port, key) = (Arc::clone(&local), check.port, key.to_owned());
    let stopped = stop.clone();
    tokio::spawn(async move { stopped.run_until_cancelled(listen(port, key, count, &stopped)).await });
    Served { port, local, _open: stop.drop_guard() }
}

async fn listen(port: u16, key: String, local: Arc<AtomicUsize>, stop: &CancellationToken) {
    let listener = loop {
        match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await {
            Ok(listener) => break listener,
            Err(e) => tracing::warn!(service = %key, port, "health checks are not answered: {e}; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::debug!(service = %key, "a health check was not accepted: {e}");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let (key, local, stop) = (key.clone(), Arc::clone(&local), stop.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(converse(stream, key, local)).await;
            drop(permit);
        });
    }
}

async fn converse(stream: TcpStream, key: String, local: Arc<AtomicUsize>) {
    let service = service_fn(|_| {
        let reply = answer(&key, local.load(Ordering::Relaxed));
        async move { Ok::<_, Infallible>(reply) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if let Err(e) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(service = %key, "a health check ended: {e}");
    }
}

/// kube-proxy's answer to the letter.
fn answer(key: &str, local: usize) -> Response<Full<Bytes>> {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    let text = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\
         \"localEndpoints\": {local},\n\t\"serviceProxyHealthy\": true\n}}"
    );
    let mut reply = Response::new(Full::new(Bytes::from(text)));
    *reply.status_mut() = if local > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(SNIFF, HeaderValue::from_static("nosniff"));
    headers.insert(WEIGHT, HeaderValue::from(local));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(port: u16) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[tokio::test]
    async fn a_node_with_endpoints_is_healthy_and_a_service_that_is_gone_is_not_asked() {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
        let mut checks = HealthChecks::default();
        checks.set("d/web", Some(HealthCheck { port, local_endpoints: 2 }));
        let first = loop {
            match ask(port).await {
                Ok(text) => break text,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert!(first.starts_with("HTTP/1.1 200") && first.contains("x-load-balancing-endpoint-weight: 2"), "{first}");
        let body: serde_json::Value = serde_json::from_str(first.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let want = serde_json::json!({"service": {"namespace": "d", "name": "web"}, "localEndpoints": 2,
            "serviceProxyHealthy": true});
        assert_eq!(body, want);
        checks.set("d/web", Some(HealthCheck { port, local_endpoints: 0 }));
        assert!(ask(port).await.unwrap().starts_with("HTTP/1.1 503"));
        checks.set("d/web", None);
        while ask(port).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
