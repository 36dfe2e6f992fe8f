//! Requests over HTTPS, to whichever of several servers answers.

use crate::transport::{List, Resource, Selection, Target, Transport, WatchEvent, Write};
use crate::wire;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt};
use http::{Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, BodyStream, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kybern_api::error::{Reason, Status};
use kybern_api::object::Object;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

mod fetch;
mod tls;
pub use fetch::Fetcher;
pub use tls::{Connector, Stream, any_certificate, tls_config};

/// Objects per page of a list: bounds what one answer holds.
const PAGE: &str = "500";
/// A watch frame larger than this is refused; objects are limited to 1.5 MiB by the server.
const MAX_FRAME: usize = 8 << 20;
/// What may not stand in one path segment.
const SEGMENT: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'/').add(b'<').add(b'>').add(b'?');

/// Why a connection cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PEM without what was expected in it.
    #[error("no usable {0} in the PEM data")]
    Pem(&'static str),
    /// TLS refuses the key or certificate.
    #[error("TLS configuration")]
    Tls(#[from] rustls::Error),
    /// There is no server to talk to.
    #[error("no server address, or a malformed one: {0:?}")]
    Servers(Vec<String>),
}

/// Gives the bearer token of each request, so that it can be renewed meanwhile.
pub type TokenSource = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// How to reach the servers, and as whom.
#[derive(Clone)]
pub struct HttpConfig {
    /// `https://host:port`, tried in order from the one that answered last.
    pub servers: Vec<String>,
    /// Trust and, perhaps, a client certificate ([`tls_config`]).
    pub tls: Arc<rustls::ClientConfig>,
    /// Bearer token.
    pub token: Option<TokenSource>,
    /// User-Agent header.
    pub user_agent: String,
    /// Limit of a whole request, and of the time until a watch begins. Default 30 s.
    pub timeout: Duration,
}

impl HttpConfig {
    /// Without token, with the default timeout.
    pub fn new(servers: Vec<String>, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { servers, tls, token: None, user_agent: "kybern".into(), timeout: Duration::from_secs(30) }
    }
    /// With a fixed bearer token.
    #[must_use]
    pub fn with_token(mut self, token: String) -> Self {
        self.token = Some(Arc::new(move || Some(token.clone())));
        self
    }
}

/// The HTTPS transport. Connections are pooled: one HTTP/2 connection per server carries everything.
pub struct HttpTransport {
    client: Client<tls::Connector, Full<Bytes>>,
    servers: Vec<Uri>,
    /// Index of the server that answered last.
    current: AtomicUsize,
    token: Option<TokenSource>,
    user_agent: String,
    timeout: Duration,
}

/// One request, before it is known which server gets it.
struct Call<'a> {
    method: Method,
    path: &'a str,
    media_type: &'static str,
    body: Bytes,
}

impl HttpTransport {
    /// Connects lazily.
    ///
    /// # Errors
    /// When no server is named or an address is malformed.
    pub fn new(config: HttpConfig) -> Result<Self, Error> {
        let servers: Vec<Uri> = config.servers.iter().filter_map(|s| s.trim_end_matches('/').parse().ok()).collect();
        if servers.is_empty() || servers.len() != config.servers.len() {
            return Err(Error::Servers(config.servers));
        }
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_keep_alive_interval(Duration::from_secs(10))
            .http2_keep_alive_timeout(Duration::from_secs(5))
            .http2_keep_alive_while_idle(true)
            .http2_adaptive_window(true)
            .build(tls::Connector::new(config.tls));
        let HttpConfig { token, user_agent, timeout, .. } = config;
        Ok(Self { client, servers, current: AtomicUsize::new(0), token, user_agent, timeout })
    }

    /// GETs any path, for example `/readyz`, as text.
    ///
    /// # Errors
    /// The server's Status.
    pub async fn get_raw(&self, path: &str) -> Result<Bytes, Status> {
        self.read(path).await
    }

    async fn read(&self, path: &str) -> Result<Bytes, Status> {
        self.complete(Call { method: Method::GET, path, media_type: "", body: Bytes::new() }).await
    }

    /// Sends the call and collects the answer, all within the timeout.
    async fn complete(&self, call: Call<'_>) -> Result<Bytes, Status> {
        let exchange = async {
            let response = self.send(&call).await?;
            let code = response.status();
            let body = response.into_body().collect().await.map_err(|e| lost(&e))?.to_bytes();
            if code.is_success() { Ok(body) } else { Err(refused(code, &body)) }
        };
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Tries the servers in turn. A call that changes something goes to the next one only if it
    /// certainly did not reach this one.
    async fn send(&self, call: &Call<'_>) -> Result<Response<Incoming>, Status> {
        let first = self.current.load(Ordering::Relaxed);
        let mut failure = None;
        for step in 0..self.servers.len() {
            let index = (first + step) % self.servers.len();
            match self.client.request(self.request(&self.servers[index], call)?).await {
                Ok(response) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(response);
                }
                Err(e) if e.is_connect() || call.method == Method::GET => failure = Some(e),
                Err(e) => return Err(lost(&e)),
            }
        }
        let why = failure.map_or_else(String::new, |e| chain(&e));
        Err(Status::new(Reason::ServiceUnavailable, format!("no server can be reached: {why}")))
    }

    fn request(&self, server: &Uri, call: &Call<'_>) -> Result<Request<Full<Bytes>>, Status> {
        let authority = server.authority().map_or("", |a| a.as_str());
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("https://{authority}{}", call.path))
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, &self.user_agent);
        if !call.media_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, call.media_type);
        }
        if let Some(token) = self.token.as_ref().and_then(|source| source()) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.body(Full::new(call.body.clone())).map_err(|e| Status::bad_request(e.to_string()))
    }
}

#[async_trait::async_trait]
impl Transport for HttpTransport {
    async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Object, Status> {
        let path = object_path(resource, namespace, name, "");
        Ok(wire::object(&self.read(&path).await?)?)
    }

    async fn list(&self, resource: &Resource, selection: &Selection) -> Result<List, Status> {
        list_pages(resource, selection, |path| async move { self.read(&path).await }).await
    }

    async fn watch(
        &self,
        resource: &Resource,
        selection: &Selection,
        revision: u64,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status> {
        let from = revision.to_string();
        let query = [("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", from.as_str())];
        let path = collection(resource, selection, &query);
        let call = Call { method: Method::GET, path: &path, media_type: "", body: Bytes::new() };
        let response =
            tokio::time::timeout(self.timeout, self.send(&call)).await.unwrap_or_else(|_| Err(timed_out()))?;
        let code = response.status();
        if !code.is_success() {
            let body = response.into_body().collect().await.map_err(|e| lost(&e))?.to_bytes();
            return Err(refused(code, &body));
        }
        Ok(frames(response.into_body()))
    }

    async fn write(&self, target: &Target, write: Write) -> Result<Bytes, Status> {
        let (method, media_type, body) = match write {
            Write::Create(body) => (Method::POST, "application/json", body),
            Write::Update(body) => (Method::PUT, "application/json", body),
            Write::Patch(media_type, body) => (Method::PATCH, media_type, body),
            Write::Delete(body) => (Method::DELETE, "application/json", body),
        };
        let mut path = object_path(&target.resource, &target.namespace, &target.name, &target.subresource);
        push_query(&mut path, target.query.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        self.complete(Call { method, path: &path, media_type, body }).await
    }
}

/// Cuts a body into lines and reads each as a watch frame.
fn frames(body: Incoming) -> BoxStream<'static, Result<WatchEvent, Status>> {
    struct State {
        body: BodyStream<Incoming>,
        buffer: BytesMut,
        scanned: usize,
    }
    let state = State { body: BodyStream::new(body), buffer: BytesMut::new(), scanned: 0 };
    futures::stream::try_unfold(state, |mut s| async move {
        loop {
            if let Some(at) = s.buffer[s.scanned..].iter().position(|b| *b == b'\n') {
                let line = s.buffer.split_to(s.scanned + at + 1);
                s.scanned = 0;
                let event = wire::frame(&line)??;
                return Ok(Some((event, s)));
            }
            s.scanned = s.buffer.len();
            if s.scanned > MAX_FRAME {
                return Err(Status::internal("a watch frame is too large"));
            }
            match s.body.next().await {
                None => return Ok(None),
                Some(Err(e)) => return Err(lost(&e)),
                Some(Ok(part)) => s.buffer.extend(part.into_data().ok()),
            }
        }
    })
    .boxed()
}

/// Lists a collection page by page; `read` GETs a path.
///
/// # Errors
/// What `read` fails with. Expired when the snapshot is gone before the last page: list again.
pub async fn list_pages<F>(
    resource: &Resource,
    selection: &Selection,
    mut read: impl FnMut(String) -> F,
) -> Result<List, Status>
where
    F: Future<Output = Result<Bytes, Status>>,
{
    let mut list = List { revision: 0, items: Vec::new() };
    let mut next = String::new();
    loop {
        let path = collection(resource, selection, &[("limit", PAGE), ("continue", &next)]);
        let page = wire::page(&read(path).await?)?;
        list.revision = page.revision;
        list.items.extend(page.items);
        if page.next.is_empty() {
            return Ok(list);
        }
        next = page.next;
    }
}

/// The URL path of one object or of its subresource, escaped.
pub fn object_path(resource: &Resource, namespace: &str, name: &str, subresource: &str) -> String {
    let mut path = resource.path(namespace);
    for segment in [name, subresource].into_iter().filter(|s| !s.is_empty()) {
        path.push('/');
        path.extend(utf8_percent_encode(segment, SEGMENT));
    }
    path
}

/// The URL path and query of a collection: the selection's selectors, then `query`.
pub fn collection(resource: &Resource, selection: &Selection, query: &[(&str, &str)]) -> String {
    let mut path = resource.path(&selection.namespace);
    let selectors = [("labelSelector", selection.labels.as_str()), ("fieldSelector", selection.fields.as_str())];
    push_query(&mut path, selectors.into_iter().chain(query.iter().copied()));
    path
}

/// Appends `?k=v&...`; pairs with an empty value are left out.
pub fn push_query<'a>(path: &mut String, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs.filter(|(_, v)| !v.is_empty()));
    let query = query.finish();
    if !query.is_empty() {
        path.push('?');
        path.push_str(&query);
    }
}

fn refused(code: http::StatusCode, body: &[u8]) -> Status {
    Status::from_json(code.as_u16(), body).unwrap_or_else(|| {
        let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
        Status { code: code.as_u16(), ..Status::new(Reason::Unknown, format!("the server answered {code}: {text}")) }
    })
}

/// The exchange broke after the request may have arrived: the outcome of a write is unknown.
fn lost(error: &(dyn std::error::Error + 'static)) -> Status {
    Status::new(Reason::Timeout, format!("the connection broke: {}", chain(error)))
}

fn timed_out() -> Status {
    Status::new(Reason::Timeout, "the server did not answer in time")
}

/// An error with its sources, on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text.push_str(": ");
        text.push_str(&e.to_string());
        source = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_list_is_read_to_its_last_page() {
        let pods = Resource::new("", "v1", "pods");
        let pages = [
            r#"{"metadata":{"resourceVersion":"7","continue":"more"},"items":[{"metadata":{"name":"a","resourceVersion":"3"}}]}"#,
            r#"{"metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"b","resourceVersion":"5"}}]}"#,
        ];
        let (all, mut asked) = (Selection::default(), Vec::new());
        let list = list_pages(&pods, &all, |path| {
            asked.push(path);
            std::future::ready(Ok(Bytes::from_static(pages[asked.len() - 1].as_bytes())))
        });
        let list = list.await.expect("both pages");
        let names: Vec<&str> = list.items.iter().map(|o| o.head.name.as_str()).collect();
        assert_eq!((list.revision, names), (7, vec!["a", "b"]));
        assert_eq!(asked, ["/api/v1/pods?limit=500", "/api/v1/pods?limit=500&continue=more"]);
    }

    #[test]
    fn paths_and_queries_are_escaped() {
        let roles = Resource::new("rbac.authorization.k8s.io", "v1", "clusterroles");
        assert_eq!(
            object_path(&roles, "", "a/b:c%", "status"),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/a%2Fb:c%25/status"
        );
        let pods = Resource::new("", "v1", "pods");
        let s = Selection { namespace: "n".into(), labels: "a in (b,c)".into(), fields: String::new() };
        assert_eq!(
            collection(&pods, &s, &[("limit", "5"), ("continue", "")]),
            "/api/v1/namespaces/n/pods?labelSelector=a+in+%28b%2Cc%29&limit=5"
        );
    }
}
