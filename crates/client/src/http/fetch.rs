//! Documents of parties that are no API server: one request, bounded in time and size, no redirect followed.

use super::tls::Connector;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::sync::Arc;
use std::time::Duration;

/// A request takes no longer, from the first byte to the last.
const TIMEOUT: Duration = Duration::from_secs(5);
/// No answer is larger, in bytes.
const MOST: usize = 1 << 20;

/// Sends requests to whoever shows a certificate that it trusts.
pub struct Fetcher {
    client: Client<Connector, Full<Bytes>>,
    token: Option<String>,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fetcher { .. }")
    }
}

impl Fetcher {
    /// With this trust and identity ([`super::tls_config`]), and a bearer token where there is one.
    pub fn new(tls: Arc<rustls::ClientConfig>, token: Option<String>) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build(Connector::new(tls)), token }
    }

    /// GETs a document.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(&self, url: &str) -> Result<Bytes, String> {
        self.send(Method::GET, url, Bytes::new()).await
    }

    /// POSTs a JSON document; the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn post(&self, url: &str, body: Bytes) -> Result<Bytes, String> {
        self.send(Method::POST, url, body).await
    }

    async fn send(&self, method: Method, url: &str, body: Bytes) -> Result<Bytes, String> {
        let mut request = Request::builder().method(method).uri(url).header(header::ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body)).map_err(|e| format!("{url}: {e}"))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|e| super::chain(&e))?;
            if !response.status().is_success() {
                return Err(format!("HTTP {}", response.status()));
            }
            let body = Limited::new(response.into_body(), MOST).collect().await.map_err(|e| e.to_string())?;
            Ok(body.to_bytes())
        };
        let answer = tokio::time::timeout(TIMEOUT, exchange).await;
        answer
            .unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))
            .map_err(|e| format!("{url}: {e}"))
    }
}
