//! HTTP into the corridor and answers out of it.

use crate::audit::{Origin, Record};
use crate::doors::grpc::{PeerAddress, PeerChain};
use crate::error::deadline_exceeded;
use crate::fairness::Flow;
use crate::metrics::Labels;
use crate::paths;
use crate::present::body::{Body, BoxError};
use crate::present::negotiate::{Negotiated, negotiate};
use crate::present::respond;
use crate::request::chain::{Authorized, Caller};
use crate::request::info::RequestInfo;
use crate::server::{ApiServer, PathHandler};
use crate::verbs::Payload;
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use futures::FutureExt;
use http_body_util::{BodyExt, Limited};
use kybern_api::attributes::UserInfo;
use kybern_api::error::{Reason, Status};
use kybern_authn::Credentials;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::time::Instant;

static AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// A longer id of a client's own is not taken.
const MAX_ID: usize = 64;
/// Addresses that are believed to be proxies' words about a request's way.
const MAX_PROXIES: usize = 16;

/// What is known of a request by the time it is answered, well or badly.
#[derive(Default)]
struct Seen {
    negotiated: Negotiated,
    labels: Option<Labels>,
    flow: Flow,
    /// The request's id.
    id: String,
    /// What is written down of it.
    record: Option<Record>,
    long_running: bool,
}

impl ApiServer {
    /// Serves one request. Never fails: whatever goes wrong is a Status.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let started = Instant::now();
        let label = self.0.metrics.begin();
        let (method, head_only) = (request.method().clone(), request.method() == Method::HEAD);
        let id = self.request_id(request.headers());
        let served = AssertUnwindSafe(self.corridor(request, id.clone())).catch_unwind().await;
        let mut response = served.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
            tracing::error!(panic = text.unwrap_or("?"), "a request handler panicked");
            respond::failure(&Status::internal("the request could not be served"), &Negotiated::default())
        });
        if let Some(labels) = response.extensions_mut().remove::<Labels>() {
            self.0.metrics.observe(labels, response.status().as_u16(), started.elapsed());
        }
        drop(label);
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(AUDIT_ID.clone(), id);
        }
        tracing::debug!(%method, code = response.status().as_u16(), "request served");
        if head_only { response.map(|_| Body::empty()) } else { response }
    }

    /// The client's own id of the request, when it may be one; otherwise a new one.
    fn request_id(&self, headers: &HeaderMap) -> String {
        let own = headers.get(&AUDIT_ID).and_then(|v| v.to_str().ok());
        own.filter(|id| (1..=MAX_ID).contains(&id.len())).map_or_else(|| self.0.auditor.id(), str::to_owned)
    }

    async fn corridor<B>(&self, request: Request<B>, id: String) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut seen = Seen { id, ..Seen::default() };
        let mut response = match self.steps(request, &mut seen).await {
            Ok(response) => response,
            Err(status) => {
                if let Some(record) = &mut seen.record {
                    record.failed(&status);
                }
                respond::failure(&status, &Negotiated { gzip: false, ..seen.negotiated })
            }
        };
        seen.flow.tell(response.headers_mut());
        if let Some(mut record) = seen.record.take() {
            let (code, begun) = (response.status().as_u16(), !response.status().is_client_error());
            if seen.long_running && begun && !response.status().is_server_error() {
                record.started(code);
                response = response.map(|body| body.recorded(record));
            } else {
                record.answered(code);
            }
        }
        if let Some(labels) = seen.labels {
            response.extensions_mut().insert(labels);
        }
        response
    }

    /// The corridor's steps in order.
    async fn steps<B>(&self, request: Request<B>, seen: &mut Seen) -> Result<Response<Body>, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let info = RequestInfo::parse(&parts.method, parts.uri.path(), parts.uri.query())?;
        let limit = self.time_limit(&info);
        seen.long_running = limit.is_none();
        let work = async {
            let labels = Labels::of(&info);
            let caller = self.caller(&parts, &info, seen).await?;
            let _seat = match limit {
                Some(_) => {
                    let kinds = self.0.kinds.as_ref();
                    self.0.fairness.admit(kinds, &caller.user, &info.attributes, &mut seen.flow).await?
                }
                None => None,
            };
            let auth = self.0.authorize(info, caller).await;
            if let Some(record) = &mut seen.record {
                match &auth {
                    Ok(auth) => record.decided(true, &auth.allowed_by),
                    Err(status) if status.reason == Reason::Forbidden => record.decided(false, ""),
                    Err(_) => {}
                }
            }
            let auth = auth?;
            if !auth.attributes.is_resource() {
                return match self.own_path(&parts) {
                    Some(handler) => self.post(handler.as_ref(), &auth, body).await,
                    None => paths::serve(self, auth, &parts).await,
                };
            }
            let resource = self.0.resolve(&auth)?;
            // Counted only now: the names of what is not served would be labels without end.
            seen.labels = Some(labels);
            if crate::subresource::is_connection(&auth.attributes.subresource) {
                let request = Request::from_parts(parts, Body::foreign(body));
                return crate::subresource::connect(self, &resource, auth, request).await;
            }
            seen.negotiated = negotiate(&parts.headers, &auth.query)?;
            let payload = self.payload(&parts.headers, &auth, body).await?;
            if let Some(record) = seen.record.as_mut().filter(|r| r.wants_request()) {
                record_request(record, &resource, &payload);
            }
            self.answer(&resource, auth, payload, &seen.negotiated, seen.record.as_mut()).await
        };
        match limit {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work).await.map_err(|_| deadline_exceeded())?,
        }
    }

    /// The binary's own handler for a POST to this path.
    fn own_path(&self, parts: &::http::request::Parts) -> Option<Arc<dyn PathHandler>> {
        let own = self.0.paths.iter().find(|(path, _)| parts.method == Method::POST && path == parts.uri.path());
        own.map(|(_, handler)| Arc::clone(handler))
    }

    async fn post<B>(&self, handler: &dyn PathHandler, auth: &Authorized, body: B) -> Result<Response<Body>, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let max = self.0.config.max_body;
        let read = Limited::new(body, max).collect().await;
        let body = read.map_err(|e| body_error(e, max))?.to_bytes();
        let answer = handler.post(&auth.attributes.user, body).await?;
        respond::document(StatusCode::OK, answer, &Negotiated::default())
    }

    async fn answer(
        &self,
        resource: &crate::registry::kinds::Resource,
        auth: Authorized,
        payload: Payload,
        negotiated: &Negotiated,
        record: Option<&mut Record>,
    ) -> Result<Response<Body>, Status> {
        // Verbs take the request; what they warn of is read afterwards.
        let warnings = auth.warnings();
        let answer = self.0.run(resource, auth, payload).await?;
        if let Some(record) = record.filter(|r| r.wants_response())
            && let Some(json) = respond::plain(&answer, resource)?
        {
            record.response(json);
        }
        let mut response = respond::respond(answer, resource, negotiated, &self.0.clock)?;
        add_warnings(response.headers_mut(), &warnings.take());
        Ok(response)
    }

    /// How long a request may take; None where the client decides.
    fn time_limit(&self, info: &RequestInfo) -> Option<std::time::Duration> {
        if info.attributes.is_resource() && info.long_running() {
            return None;
        }
        let config = &self.0.config;
        let most = if info.verb.mutates() { config.write_timeout } else { config.request_timeout };
        let asked = info.query.get("timeout").and_then(parse_duration);
        Some(asked.map_or(most, |a| a.min(most)))
    }

    async fn caller(
        &self,
        parts: &::http::request::Parts,
        info: &RequestInfo,
        seen: &mut Seen,
    ) -> Result<Caller, Status> {
        let chain = parts.extensions.get::<PeerChain>();
        let credentials = Credentials {
            chain: chain.map_or(&[], |c| c.0.as_slice()),
            bearer: bearer(&parts.headers),
            audiences: &[],
            path: parts.uri.path(),
            now: self.0.clock.now().as_second(),
        };
        let agent = parts.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let known = self.0.authenticate(credentials).await;
        if self.0.auditor.is_on() {
            let origin = Origin {
                id: seen.id.clone(),
                uri: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
                sources: sources(parts),
                agent: agent.to_owned(),
            };
            let nobody = UserInfo::default();
            seen.record = self.0.auditor.open(origin, &info.attributes, known.as_ref().unwrap_or(&nobody));
        }
        let user = self.0.impersonate(known?, &parts.headers).await?;
        if let Some(record) = &mut seen.record {
            record.acting(&user);
        }
        Ok(Caller { user, agent: agent.to_owned(), term: 0 })
    }

    async fn payload<B>(&self, headers: &HeaderMap, auth: &Authorized, body: B) -> Result<Payload, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if !auth.verb.mutates() {
            return Ok(Payload::default());
        }
        let max = self.0.config.max_body;
        let media = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim().to_owned();
        let read = Limited::new(body, max).collect().await;
        let bytes = read.map_err(|e| body_error(e, max))?.to_bytes();
        Ok(Payload { media, bytes })
    }
}

fn body_error(error: BoxError, max: usize) -> Status {
    if error.is::<http_body_util::LengthLimitError>() {
        return crate::error::too_large(max);
    }
    Status::bad_request(format!("cannot read the body: {error}"))
}

/// The request's object as JSON, where it is one or can be made one.
fn record_request(record: &mut Record, resource: &crate::registry::kinds::Resource, payload: &Payload) {
    let bytes = &payload.bytes;
    if matches!(bytes.iter().find(|b| !b.is_ascii_whitespace()), Some(b'{' | b'[')) {
        return record.request(bytes.clone());
    }
    let Ok(media) = payload.body_type() else { return };
    let ignore = kybern_api::codec::FieldValidation::Ignore;
    if let Ok(decoded) = kybern_api::codec::decode_body(media, bytes, resource.def(), resource.served(), ignore) {
        record.request(decoded.tree.to_string().into());
    }
}

/// Where a request came from: as proxies say, then as the connection shows.
fn sources(parts: &::http::request::Parts) -> Vec<IpAddr> {
    let said = parts.headers.get(&FORWARDED_FOR).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let said = said.split(',').filter_map(|a| a.trim().parse().ok()).take(MAX_PROXIES);
    said.chain(parts.extensions.get::<PeerAddress>().map(|a| a.0)).collect()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}

/// `30s`, `500ms`, `2m`, `1h`.
fn parse_duration(text: &str) -> Option<std::time::Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(std::time::Duration::from_millis(number.checked_mul(millis)?)).filter(|d| !d.is_zero())
}

/// All warnings together take at most so many bytes before each is cut.
const WARNINGS_MAX: usize = 4096;
/// A cut warning's length.
const WARNING_CUT: usize = 256;

fn add_warnings(headers: &mut HeaderMap, warnings: &[String]) {
    let total: usize = warnings.iter().map(String::len).sum();
    for warning in warnings {
        let text: String = warning
            .chars()
            .filter(|c| !c.is_control())
            .take(if total > WARNINGS_MAX { WARNING_CUT } else { usize::MAX })
            .flat_map(|c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] })
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            headers.append(header::WARNING, value);
        }
    }
}

/// Plain 404 for a path that nothing serves.
pub fn page_not_found() -> Response<Body> {
    respond::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn durations() {
        let cases = [
            ("30s", Some(30_000)),
            ("500ms", Some(500)),
            ("2m", Some(120_000)),
            ("7", Some(7_000)),
            ("x", None),
            ("0s", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_duration(text), want.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn warnings_are_quoted_and_cut() {
        let mut headers = HeaderMap::new();
        add_warnings(&mut headers, &["a \"b\"\n".into()]);
        assert_eq!(headers[header::WARNING], "299 - \"a \\\"b\\\"\"");
        let mut headers = HeaderMap::new();
        add_warnings(&mut headers, &["x".repeat(5000)]);
        assert_eq!(headers[header::WARNING].len(), WARNING_CUT + 8);
    }
}
