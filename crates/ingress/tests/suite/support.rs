//! A proxy on real sockets, backends behind it, and clients in front.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kybern_api::ingress::Ingress;
use kybern_ingress::backend::{Backend, Endpoints, Protocol};
use kybern_ingress::proxy::Proxy;
use kybern_ingress::routes::Table;
use kybern_ingress::tls::{self, Certificates};
use kybern_ingress::{Config, Listeners, Metrics};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::{CancellationToken, DropGuard};

pub const LOOPBACK: &str = "127.0.0.1:0";

/// A running proxy; it ends with this value.
pub struct Site {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub certificates: Arc<Certificates>,
    pub metrics: Arc<Metrics>,
    pub cancel: CancellationToken,
    pub serving: tokio::task::JoinHandle<()>,
    _guard: DropGuard,
}

/// An Ingress for `a.example.com` with these paths (path, service) and annotations.
pub fn ingress(annotations: Value, paths: &[(&str, &str)]) -> Value {
    let path = |(path, service): &(&str, &str)| {
        json!({ "pathType": "ImplementationSpecific", "path": path,
            "backend": { "service": { "name": service, "port": { "number": 80 } } } })
    };
    let paths: Vec<Value> = paths.iter().map(path).collect();
    let rule = json!({ "host": "a.example.com", "http": { "paths": paths } });
    json!({ "metadata": { "name": "a", "namespace": "n", "annotations": annotations }, "spec": { "rules": [rule] } })
}

pub fn read(tree: &Value) -> Ingress {
    Ingress::of(&kybern_client::wire::object(tree.to_string().as_bytes()).expect("object")).expect("Ingress")
}

impl Site {
    /// Serves an Ingress whose services have these endpoints.
    pub async fn start(tree: Value, services: &[(&str, &[SocketAddr], Protocol)]) -> Self {
        let backends: HashMap<&str, Arc<Backend>> = services
            .iter()
            .map(|(name, addresses, protocol)| {
                let endpoints = Endpoints { addresses: addresses.to_vec(), protocol: *protocol };
                (*name, Arc::new(Backend::new(endpoints)))
            })
            .collect();
        let table =
            Table::new(&[read(&tree)], |_, wanted| backends.get(wanted.service.as_str()).cloned().unwrap_or_default());
        let listen = LOOPBACK.parse().expect("address");
        let listeners = Listeners::bind(&Config { http: listen, https: listen }).await.expect("bind");
        let (http, https) = listeners.addresses().expect("addresses");
        let (certificates, cancel) = (Arc::new(Certificates::default()), CancellationToken::new());
        let metrics = Arc::new(Metrics::default());
        let proxy = Arc::new(Proxy::new(certificates.clone(), https.port(), metrics.clone(), cancel.child_token()));
        proxy.set(table);
        let config = tls::server(certificates.clone(), provider()).expect("TLS");
        let serving = tokio::spawn(listeners.serve(proxy, config, cancel.clone()));
        Self { http, https, certificates, metrics, serving, _guard: cancel.clone().drop_guard(), cancel }
    }
}

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A backend that answers with its name and what it was asked; counts requests.
pub struct Echo {
    pub address: SocketAddr,
    pub asked: Arc<AtomicUsize>,
}

impl Echo {
    pub async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.expect("bind");
        let (address, asked) = (listener.local_addr().expect("address"), Arc::new(AtomicUsize::new(0)));
        let counted = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let asked = counted.clone();
                let service = service_fn(move |request| echo(name, asked.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, asked }
    }
    /// Over TLS, with a certificate of its own; HTTP/2 where `alpn` says so.
    pub async fn over_tls(name: &'static str, alpn: &[u8]) -> Self {
        let resolver = rustls::sign::SingleCertAndKey::from(certified(&certificate("somebody").0));
        let builder = rustls::ServerConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().expect("TLS").with_no_client_auth();
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![alpn.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(LOOPBACK).await.expect("bind");
        let (address, asked) = (listener.local_addr().expect("address"), Arc::new(AtomicUsize::new(0)));
        let counted = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (asked, acceptor) = (counted.clone(), acceptor.clone());
                let service = service_fn(move |request| echo(name, asked.clone(), request));
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.expect("TLS");
                    // Either protocol, as it was agreed on.
                    hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                });
            }
        });
        Self { address, asked }
    }
    pub fn count(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn echo(
    name: &'static str,
    asked: Arc<AtomicUsize>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    asked.fetch_add(1, Ordering::SeqCst);
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let headers: HashMap<&str, &str> =
        head.headers.iter().map(|(k, v)| (k.as_str(), v.to_str().expect("text"))).collect();
    let said = json!({ "name": name, "method": head.method.as_str(), "uri": head.uri.to_string(),
        "headers": headers, "body": String::from_utf8_lossy(&body) });
    let response = Response::builder().header("connection", "x-hop").header("x-hop", "1");
    Ok(response.body(Full::from(said.to_string())).expect("response"))
}

/// An address where nobody listens.
pub async fn dead() -> SocketAddr {
    TcpListener::bind(LOOPBACK).await.and_then(|l| l.local_addr()).expect("address")
}

/// A backend that does something with each connection.
pub async fn raw<F: Future<Output = ()> + Send + 'static>(serve: fn(TcpStream) -> F) -> SocketAddr {
    let listener = TcpListener::bind(LOOPBACK).await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// What came back.
pub struct Got {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Got {
    /// What an [`Echo`] said.
    pub fn said(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{}: {}", self.status, self.text))
    }
}

/// One request on a connection of its own.
pub async fn ask<B>(to: SocketAddr, request: Request<B>) -> Got
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(to).await.expect("connect");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("handshake");
    tokio::spawn(connection);
    got(sender.send_request(request).await.expect("an answer")).await
}

pub async fn got(response: Response<Incoming>) -> Got {
    let (head, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.expect("a body").to_bytes().to_vec()).expect("text");
    Got { status: head.status, headers: head.headers, text }
}

/// `GET` of a path of `a.example.com`.
pub fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "a.example.com").body(Full::default()).expect("request")
}

pub fn post(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post(path).header("host", "a.example.com").body(Full::from(body)).expect("request")
}

/// A certificate that signs itself, as a Secret, and in DER.
pub fn certificate(host: &str) -> (Value, CertificateDer<'static>) {
    let key = KeyPair::generate().expect("key");
    let certificate = CertificateParams::new(vec![host.to_owned()]).expect("names").self_signed(&key).expect("signed");
    let base64 = |text: String| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let data = json!({ "tls.crt": base64(certificate.pem()), "tls.key": base64(key.serialize_pem()) });
    (json!({ "metadata": { "name": "cert", "namespace": "n" }, "data": data }), certificate.der().clone())
}

/// The certificate of a Secret as the proxy shows it.
pub fn certified(secret: &Value) -> Arc<rustls::sign::CertifiedKey> {
    let object = kybern_client::wire::object(secret.to_string().as_bytes()).expect("object");
    Arc::new(tls::certificate(&object, &provider()).expect("a certificate"))
}

/// A TLS connection that trusts only this certificate.
pub async fn secure(
    to: SocketAddr,
    host: &str,
    trusted: &CertificateDer<'static>,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a root");
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().expect("TLS");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(to).await?).await
}

/// An HTTP/2 client over TLS.
pub async fn http2(
    stream: TlsStream<TcpStream>,
) -> hyper::client::conn::http2::SendRequest<http_body_util::combinators::BoxBody<Bytes, Infallible>> {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("handshake");
    tokio::spawn(connection);
    sender
}
