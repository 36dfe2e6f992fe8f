//! A request to one of its target's endpoints, and again to another where that is safe.

use crate::backend::{Protocol, mark};
use crate::body::Lent;
use crate::headers::{self, Incomer};
use crate::http2::Http2;
use crate::proxy::{Answer, Refusal, streamed};
use crate::routes::Target;
use http::header::{HOST, SET_COOKIE};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, request};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kybern_client::http::{Connector, any_certificate};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a connection to an endpoint may take: pods are near.
const CONNECT: Duration = Duration::from_secs(2);
/// An unused connection to an endpoint is kept so long.
const IDLE: Duration = Duration::from_secs(30);
/// And so many of them for each endpoint.
const IDLE_CONNECTIONS: usize = 32;
/// How often a request is tried: at a single endpoint because a kept connection may just have ended.
const ATTEMPTS: std::ops::RangeInclusive<usize> = 2..=3;

/// Connections to endpoints.
#[derive(Debug)]
pub(crate) struct Upstream {
    http1: Client<HttpConnector, Lent>,
    https: Client<Connector, Lent>,
    http2: Http2,
    tunnels: TaskTracker,
    cancel: CancellationToken,
}

/// A request, ready to be sent to whichever endpoint.
pub(crate) struct Outgoing<'a> {
    pub(crate) target: &'a Target,
    pub(crate) head: request::Parts,
    /// As the client wrote it, for the headers.
    pub(crate) host: String,
    pub(crate) path: PathAndQuery,
    pub(crate) body: Lent,
    pub(crate) from: Incomer,
    /// The client's side of an upgrade.
    pub(crate) upgrade: Option<(HeaderValue, hyper::upgrade::OnUpgrade)>,
}

impl Upstream {
    /// Upgraded connections end with `cancel`.
    pub(crate) fn new(cancel: CancellationToken) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(IDLE_CONNECTIONS);
        let https = client.build(Connector::new(any_certificate(&[b"http/1.1"])));
        let (http1, http2) = (client.build(connector), Http2::new(CONNECT, cancel.clone()));
        Self { http1, https, http2, tunnels: TaskTracker::new(), cancel }
    }

    /// The backend's answer.
    ///
    /// # Errors
    /// What the client is told instead.
    pub(crate) async fn send(&self, mut outgoing: Outgoing<'_>) -> Result<Response<Answer>, Refusal> {
        let target = outgoing.target;
        let endpoints = target.backend.endpoints();
        let count = endpoints.addresses.len();
        let cookie = target.settings.sticky.then(|| cookie_name(target));
        let known = cookie.as_ref().and_then(|name| headers::cookie(&outgoing.head.headers, name));
        let known = known.and_then(|mark| endpoints.addresses.iter().position(|a| self::mark(a) == mark));
        let first = known.unwrap_or_else(|| target.backend.next(count));
        let protocol = target.settings.protocol.unwrap_or(endpoints.protocol);
        let wanted = outgoing.upgrade.as_ref().map(|(protocol, _)| protocol.clone());
        headers::forward(&mut outgoing.head, &outgoing.host, &outgoing.from, wanted.as_ref());
        let mut refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no endpoint is ready");
        let attempts = if count == 0 { 0 } else { count.clamp(*ATTEMPTS.start(), *ATTEMPTS.end()) };
        for attempt in 0..attempts {
            let endpoint = endpoints.addresses[(first + attempt) % count];
            match self.attempt(&outgoing, endpoint, protocol).await {
                Ok(mut response) => {
                    let is_known = known.is_some() && attempt == 0;
                    if let Some(name) = cookie.filter(|_| !is_known) {
                        stick(&mut response, &name, &endpoint, outgoing.from.tls);
                    }
                    return Ok(self.finish(response, outgoing.upgrade));
                }
                Err(failure) => {
                    let again = failure.unsent || outgoing.head.method.is_idempotent();
                    refusal = failure.refusal;
                    if failure.is_final || !again || !outgoing.body.is_whole() {
                        break;
                    }
                }
            }
        }
        Err(refusal)
    }

    async fn attempt(
        &self,
        outgoing: &Outgoing<'_>,
        endpoint: SocketAddr,
        protocol: Protocol,
    ) -> Result<Response<Incoming>, Failure> {
        let request = outgoing.request(endpoint, protocol).map_err(|e| Failure::last(Refusal::unsendable(&e)))?;
        let sending = async {
            match protocol {
                Protocol::Http1 => self.http1.request(request).await.map_err(|e| Failure::of(&e, e.is_connect())),
                Protocol::Https => self.https.request(request).await.map_err(|e| Failure::of(&e, e.is_connect())),
                Protocol::H2c | Protocol::H2 => {
                    let sent = self.http2.send(endpoint, protocol.is_tls(), request).await;
                    sent.map_err(|e| Failure::of(&e, e.is_unsent()))
                }
            }
        };
        match patiently(sending, outgoing.target.settings.timeout, &outgoing.body).await {
            Some(Err(_)) if outgoing.body.is_too_large() => Err(Failure::last(Refusal::too_large())),
            Some(done) => done,
            None => Err(Failure::last(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "the backend did not answer in time"))),
        }
    }

    /// The answer as the client gets it; after an upgrade the two connections are joined.
    fn finish(
        &self,
        mut response: Response<Incoming>,
        upgrade: Option<(HeaderValue, hyper::upgrade::OnUpgrade)>,
    ) -> Response<Answer> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            headers::strip(response.headers_mut());
            *response.version_mut() = Version::default();
            return response.map(streamed);
        }
        let Some((_, client)) = upgrade else {
            return Refusal::new(StatusCode::BAD_GATEWAY, "the backend changed the protocol unasked").into();
        };
        let backend = hyper::upgrade::on(&mut response);
        let joined = async move {
            let (client, backend) = tokio::try_join!(client, backend)?;
            let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
            tokio::io::copy_bidirectional(&mut client, &mut backend).await.map_err(Into::into)
        };
        let cancel = self.cancel.clone();
        self.tunnels.spawn(async move {
            let done: Option<Result<_, Box<dyn std::error::Error + Send + Sync>>> =
                cancel.run_until_cancelled(joined).await;
            if let Some(Err(e)) = done {
                tracing::debug!("an upgraded connection broke: {e}");
            }
        });
        response.map(streamed)
    }
}

impl Outgoing<'_> {
    fn request(&self, endpoint: SocketAddr, protocol: Protocol) -> Result<Request<Lent>, http::Error> {
        let (http2, scheme) = (protocol.is_http2(), if protocol.is_tls() { Scheme::HTTPS } else { Scheme::HTTP });
        // HTTP/2 has the host that the client asked for in the place of the endpoint.
        let authority = if http2 && !self.host.is_empty() { self.host.clone() } else { endpoint.to_string() };
        let version = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(self.path.clone()).build()?;
        let mut request =
            Request::builder().method(self.head.method.clone()).uri(uri).version(version).body(self.body.clone())?;
        *request.headers_mut() = self.head.headers.clone();
        if http2 {
            request.headers_mut().remove(HOST);
        }
        Ok(request)
    }
}

/// Why an attempt failed, and what may be done about it.
struct Failure {
    refusal: Refusal,
    /// Nothing reached the backend.
    unsent: bool,
    /// Another endpoint would not do better.
    is_final: bool,
}

impl Failure {
    fn last(refusal: Refusal) -> Self {
        Self { refusal, unsent: false, is_final: true }
    }
    fn of(error: &(dyn std::error::Error + 'static), unsent: bool) -> Self {
        tracing::debug!(unsent, error, "a request failed");
        let refusal = Refusal::new(StatusCode::BAD_GATEWAY, "the backend could not be reached");
        Self { refusal, unsent, is_final: false }
    }
}

/// Waits until nothing has happened for `patience`: a body that is still on its way counts.
async fn patiently<T>(sending: impl Future<Output = T>, patience: Duration, body: &Lent) -> Option<T> {
    let mut sending = pin!(sending);
    loop {
        tokio::select! {
            done = &mut sending => return Some(done),
            () = tokio::time::sleep(patience) => if !body.take_progress() {
                return None;
            },
        }
    }
}

/// The cookie of a target: services under one host do not take each other's.
fn cookie_name(target: &Target) -> String {
    let whole = format!("{} {:?}", target.route.ingress, target.service);
    format!("kybern-{}", hex::encode(&Sha256::digest(whole)[..4]))
}

fn stick(response: &mut Response<Incoming>, name: &str, endpoint: &SocketAddr, tls: bool) {
    let secure = if tls { "; Secure" } else { "" };
    let text = format!("{name}={}; Path=/; HttpOnly; SameSite=Lax{secure}", mark(endpoint));
    // Hexadecimal digits are always legal.
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().append(SET_COOKIE, value);
    }
}
