//! A plain HTTPS client: one kept-alive HTTP/1.1 connection per client, certificates from the kubeconfig.

use super::cluster::Cluster;
use anyhow::{Context, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How to reach the cluster.
#[derive(Clone)]
pub(crate) struct Api {
    tls: Arc<rustls::ClientConfig>,
    servers: Vec<String>,
}

/// One connection.
pub(crate) struct Connection {
    send: SendRequest<Full<Bytes>>,
    host: String,
}

impl Api {
    /// Reads the cluster's kubeconfig.
    pub(crate) fn connect(cluster: &Cluster) -> Result<Self> {
        let text = std::fs::read_to_string(&cluster.kubeconfig)?;
        let data = |key: &str| -> Result<Vec<u8>> {
            let line = text
                .lines()
                .find_map(|l| l.trim().strip_prefix(&format!("{key}: ")))
                .with_context(|| format!("{key} in the kubeconfig"))?;
            Ok(STANDARD.decode(line.trim_matches('"'))?)
        };
        let mut roots = rustls::RootCertStore::empty();
        for ca in CertificateDer::pem_slice_iter(&data("certificate-authority-data")?) {
            roots.add(ca?)?;
        }
        let certificate = data("client-certificate-data")?;
        let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&data("client-key-data")?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(Self { tls: Arc::new(tls), servers: cluster.servers.clone() })
    }

    /// A connection to the `i`-th server, in turn.
    pub(crate) async fn open(&self, i: usize) -> Result<Connection> {
        let host = &self.servers[i % self.servers.len()];
        let stream = TcpStream::connect((host.as_str(), 6443)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.clone())?;
        let tls = TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
        let (send, connection) = handshake(TokioIo::new(tls)).await?;
        tokio::spawn(connection);
        Ok(Connection { send, host: host.clone() })
    }
}

impl Connection {
    /// One request; the whole answer.
    pub(crate) async fn call(&mut self, method: &str, path: &str, kind: &str, body: Bytes) -> Result<Bytes> {
        Ok(self.begin(method, path, kind, body).await?.collect().await?.to_bytes())
    }

    /// One request; the answer's body as it comes.
    pub(crate) async fn begin(&mut self, method: &str, path: &str, kind: &str, body: Bytes) -> Result<Incoming> {
        self.send.ready().await?;
        let mut request = http::Request::builder().method(method).uri(path).header("host", &self.host);
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let answer = self.send.send_request(request.body(Full::new(body))?).await?;
        let code = answer.status();
        let body = answer.into_body();
        if !code.is_success() {
            let text = body.collect().await?.to_bytes();
            bail!("{method} {path}: {code}: {}", String::from_utf8_lossy(&text[..text.len().min(300)]));
        }
        Ok(body)
    }
}

/// The events of a watch.
pub(crate) struct Watch {
    // Dropped, it would end the stream.
    _connection: Connection,
    body: Incoming,
    buffer: BytesMut,
}

impl Watch {
    /// Opens a watch; `path` says `watch=1`.
    pub(crate) async fn open(api: &Api, path: &str) -> Result<Self> {
        let mut connection = api.open(0).await?;
        let body = connection.begin("GET", path, "", Bytes::new()).await?;
        Ok(Self { _connection: connection, body, buffer: BytesMut::new() })
    }

    /// The next event; an error when the stream ends.
    pub(crate) async fn next(&mut self) -> Result<serde_json::Value> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer) {
                return Ok(serde_json::from_slice(&self.buffer.split_to(at + 1))?);
            }
            let frame = self.body.frame().await.context("the watch has ended")??;
            self.buffer.extend(frame.into_data().ok());
        }
    }
}
