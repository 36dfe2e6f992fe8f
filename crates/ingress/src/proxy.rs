//! One request: whose it is, whether it may pass, and what the client is told when it may not.

use crate::body::Lent;
use crate::forward::{Outgoing, Upstream};
use crate::headers;
use crate::metrics::{Metrics, Route};
use crate::rewrite;
use crate::routes::{Found, Table, Target};
use crate::tls::Certificates;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use regex::Regex;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub use crate::headers::Incomer;

/// The body of an answer: a backend's, or a few words.
pub(crate) type Answer = Either<Incoming, Full<Bytes>>;

pub(crate) fn streamed(body: Incoming) -> Answer {
    Either::Left(body)
}

/// What a client is told instead of a backend's answer.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    status: StatusCode,
    text: &'static str,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: &'static str) -> Self {
        Self { status, text }
    }
    pub(crate) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
    }
    pub(crate) fn unsendable(error: &http::Error) -> Self {
        tracing::debug!("a request cannot be passed on: {error}");
        Self::new(StatusCode::BAD_REQUEST, "the request cannot be passed on")
    }
}

impl From<Refusal> for Response<Answer> {
    fn from(refusal: Refusal) -> Self {
        let text = format!("{}: {}\n", refusal.status, refusal.text);
        let mut response = Response::new(Either::Right(Full::from(text)));
        *response.status_mut() = refusal.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

/// The proxy: a table that is exchanged while requests go on.
#[derive(Debug)]
pub struct Proxy {
    table: ArcSwap<Table>,
    metrics: Arc<Metrics>,
    certificates: Arc<Certificates>,
    upstream: Upstream,
    /// The port that redirects to TLS name.
    tls_port: u16,
}

/// Whom a request is for.
struct Addressed {
    /// As it was written, with its port; empty where HTTP/1.0 says nothing.
    whole: String,
    /// In lower case, without port.
    host: String,
}

impl Proxy {
    /// A proxy without routes. Upgraded connections end with `cancel`.
    pub fn new(
        certificates: Arc<Certificates>,
        tls_port: u16,
        metrics: Arc<Metrics>,
        cancel: CancellationToken,
    ) -> Self {
        Self { table: ArcSwap::default(), metrics, certificates, upstream: Upstream::new(cancel), tls_port }
    }
    /// Exchanges the routes.
    pub fn set(&self, table: Table) {
        let old = self.table.swap(Arc::new(table));
        self.metrics.forget(old.routes(), &self.table.load().routes().collect());
    }

    /// Answers one request.
    pub(crate) async fn serve(&self, request: Request<Incoming>, from: Incomer) -> Response<Answer> {
        let started = tokio::time::Instant::now();
        let line = tracing::enabled!(target: "access", tracing::Level::DEBUG).then(|| {
            let host = request.headers().get(HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
            (request.method().clone(), request.uri().clone(), host.to_owned())
        });
        let table = self.table.load_full();
        let mut route = None;
        let response = self.answer(request, from, &table, &mut route).await.unwrap_or_else(Into::into);
        self.metrics.observe(route.unwrap_or(&Route::default()), response.status().as_u16(), started.elapsed());
        if let Some((method, uri, host)) = line {
            let (client, status, took) = (from.client, response.status().as_u16(), started.elapsed());
            tracing::debug!(target: "access", %client, %method, host, %uri, status, ?took);
        }
        response
    }

    /// `route` becomes the one that takes the request, whatever comes of it.
    async fn answer<'a>(
        &self,
        mut request: Request<Incoming>,
        from: Incomer,
        table: &'a Table,
        route: &mut Option<&'a Route>,
    ) -> Result<Response<Answer>, Refusal> {
        let to = addressed(&request)?;
        if request.method() == Method::CONNECT {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this is no forward proxy"));
        }
        let path = request.uri().path();
        if path.split('/').any(is_dots) {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "the path has dot segments"));
        }
        let (target, expression) = match table.find(&to.host, path) {
            Found::Target(target, expression) => (target, expression),
            Found::Nowhere => {
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the backend is no Service"));
            }
            Found::Nothing => return Err(Refusal::new(StatusCode::NOT_FOUND, "nothing is served here")),
        };
        *route = Some(&target.route);
        if !from.tls && target.settings.ssl_redirect && self.certificates.find(&to.host).is_some() {
            return self.redirect(&to, request.uri());
        }
        check_length(&request, target)?;
        let path = passed_on(request.uri(), target, expression)?;
        let upgrade = headers::upgrade(request.version(), request.headers());
        let upgrade = upgrade.map(|protocol| (protocol, hyper::upgrade::on(&mut request)));
        let (head, body) = request.into_parts();
        let body = Lent::new(body, target.settings.body_size);
        self.upstream.send(Outgoing { target, head, host: to.whole, path, body, from, upgrade }).await
    }

    fn redirect(&self, to: &Addressed, uri: &Uri) -> Result<Response<Answer>, Refusal> {
        let port = if self.tls_port == 443 { String::new() } else { format!(":{}", self.tls_port) };
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let location = HeaderValue::try_from(format!("https://{}{port}{path}", to.host));
        let location = location.map_err(|e| Refusal::unsendable(&e.into()))?;
        let mut response: Response<Answer> =
            Refusal::new(StatusCode::PERMANENT_REDIRECT, "this is served over TLS").into();
        response.headers_mut().insert(LOCATION, location);
        Ok(response)
    }
}

/// Whom a request is for: one word, in the target of the request or in its one Host header.
fn addressed(request: &Request<Incoming>) -> Result<Addressed, Refusal> {
    let wrong = |text| Refusal::new(StatusCode::BAD_REQUEST, text);
    let mut named = request.headers().get_all(HOST).into_iter();
    let header = named.next();
    if named.next().is_some() {
        return Err(wrong("the request names several hosts"));
    }
    let authority = match (request.uri().authority(), header) {
        (Some(authority), _) => authority.clone(),
        (None, Some(header)) => {
            Authority::try_from(header.as_bytes()).map_err(|_| wrong("the Host header is malformed"))?
        }
        (None, None) if request.version() == Version::HTTP_10 => {
            return Ok(Addressed { whole: String::new(), host: String::new() });
        }
        (None, None) => return Err(wrong("the request names no host")),
    };
    if authority.as_str().contains('@') {
        return Err(wrong("the Host header is malformed"));
    }
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    Ok(Addressed { whole: authority.as_str().to_owned(), host })
}

/// `.` and `..`, also written with escapes: a backend that resolves them would serve what its path does not
/// name.
fn is_dots(segment: &str) -> bool {
    let plain = segment.replace("%2e", ".").replace("%2E", ".");
    matches!(plain.as_str(), "." | "..")
}

/// A body that says of itself that it is too large is not read.
fn check_length(request: &Request<Incoming>, target: &Target) -> Result<(), Refusal> {
    let said = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    match (said, target.settings.body_size) {
        (Some(said), Some(limit)) if said > limit => Err(Refusal::too_large()),
        _ => Ok(()),
    }
}

/// The path and query as the backend gets them.
fn passed_on(uri: &Uri, target: &Target, expression: Option<&Regex>) -> Result<PathAndQuery, Refusal> {
    let present = || uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let Some(to) = &target.settings.rewrite else { return Ok(present()) };
    let mut path = rewrite::rewritten(to, expression, uri.path());
    if let Some(query) = uri.query() {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(query);
    }
    PathAndQuery::try_from(path).map_err(|e| Refusal::unsendable(&e.into()))
}
