//! Requests passed on to pods, services and nodes (`.../proxy/PATH`), with links in pages and redirects
//! turned so that they come back through the proxy.

mod links;
mod place;
mod wire;

use crate::present::body::Body;
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::server::ApiServer;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use kybern_api::error::{Reason, Status};
use kybern_wire::node as pb;
use kybern_wire::node::open::What;
use place::{Address, Place};

/// Headers of one connection (RFC 9110, 7.6.1); they are not passed on.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
];
/// Credentials are for this server alone.
const OWN: [&str; 1] = ["authorization"];
const IMPERSONATION: &str = "impersonate-";

/// Passes a request on, and the answer back.
pub(crate) async fn run(
    server: &ApiServer,
    resource: &Resource,
    auth: &Authorized,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    if auth.tail.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
        return redirect(request.uri());
    }
    let base = request.uri().path().strip_suffix(&auth.tail).unwrap_or_default().to_owned();
    match place::of(server, resource, auth).await? {
        Place::Kubelet(node) => kubelet(server, &node, auth, request).await,
        Place::Address(address) => Passing { server, base, tail: &auth.tail, address }.run(request).await,
    }
}

/// Relative links only work below a path that ends with a slash.
fn redirect(uri: &Uri) -> Result<Response<Body>, Status> {
    let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let location = HeaderValue::try_from(format!("{}/{query}", uri.path()));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(header::LOCATION, location.map_err(|e| Status::bad_request(e.to_string()))?);
    Ok(response)
}

/// The paths that the agent itself serves.
async fn kubelet(
    server: &ApiServer,
    node: &str,
    auth: &Authorized,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    let asked = pb::Http {
        method: request.method().to_string(),
        path: format!("{}{query}", auth.tail),
        body: bytes::Bytes::new(),
    };
    let opened = server.0.nodes.open(node, What::Http(asked)).await?;
    let code = u16::try_from(opened.opened.code).ok().and_then(|c| StatusCode::from_u16(c).ok());
    let mut response = Response::new(Body::frames(wire::chunks(opened.channel)));
    *response.status_mut() = code.unwrap_or(StatusCode::BAD_GATEWAY);
    if let Ok(kind) = HeaderValue::try_from(opened.opened.content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    Ok(response)
}

/// One request on its way to an address.
struct Passing<'a> {
    server: &'a ApiServer,
    /// The path of the proxy itself.
    base: String,
    /// The path at the address.
    tail: &'a str,
    address: Address,
}

impl Passing<'_> {
    async fn run(self, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        let io = wire::connect(self.server, &self.address).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(unreachable)?;
        let drain = self.server.0.drain.clone();
        self.server.0.tasks.spawn(async move {
            tokio::select! {
                ended = connection.with_upgrades() => if let Err(error) = ended {
                    tracing::debug!(%error, "a proxied connection broke off");
                },
                () = drain.cancelled() => {}
            }
        });
        let upgrade = request.headers().get(header::UPGRADE).cloned();
        let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        self.prepare(&mut request, upgrade)?;
        let mut response = sender.send_request(request).await.map_err(unreachable)?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = client else { return Err(unreachable("it switches protocols unasked")) };
            let far = hyper::upgrade::on(&mut response);
            let drain = self.server.0.drain.clone();
            self.server.0.tasks.spawn(wire::join(client, far, drain));
            return Ok(response.map(|_| Body::empty()));
        }
        strip(response.headers_mut());
        self.back(response).await
    }

    /// Turns the request into one for the address.
    fn prepare(&self, request: &mut Request<Body>, upgrade: Option<HeaderValue>) -> Result<(), Status> {
        let bad = |e: &dyn std::fmt::Display| Status::bad_request(e.to_string());
        let (path, query) = (request.uri().path().to_owned(), request.uri().query().map(str::to_owned));
        let host = request.headers().get(header::HOST).cloned();
        let host = host.or_else(|| request.uri().authority().and_then(|a| HeaderValue::try_from(a.as_str()).ok()));
        let target = if self.tail.is_empty() { "/" } else { self.tail };
        let target = query.map_or_else(|| target.to_owned(), |q| format!("{target}?{q}"));
        *request.uri_mut() = target.parse().map_err(|e| bad(&e))?;
        *request.version_mut() = http::Version::HTTP_11;
        let headers = request.headers_mut();
        strip(headers);
        for name in OWN {
            headers.remove(name);
        }
        let impersonating = |n: &&HeaderName| n.as_str().starts_with(IMPERSONATION);
        for name in headers.keys().filter(impersonating).cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
        // Pages are read here, so they must come as they are.
        headers.remove(header::ACCEPT_ENCODING);
        headers.insert(header::HOST, HeaderValue::try_from(self.address.authority()).map_err(|e| bad(&e))?);
        headers.insert("x-forwarded-uri", HeaderValue::try_from(path).map_err(|e| bad(&e))?);
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        if let Some(host) = host {
            headers.insert("x-forwarded-host", host);
        }
        if let Some(protocol) = upgrade {
            headers.insert(header::UPGRADE, protocol);
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        } else {
            headers.remove(header::UPGRADE);
        }
        Ok(())
    }

    /// Redirects and pages lead back through the proxy.
    async fn back(&self, mut response: Response<hyper::body::Incoming>) -> Result<Response<Body>, Status> {
        if let Some(location) = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok()) {
            let here = links::back(location, &self.base, &self.address.authority());
            if let Some(Ok(here)) = here.map(HeaderValue::try_from) {
                response.headers_mut().insert(header::LOCATION, here);
            }
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|k| k.to_str().ok()).unwrap_or_default();
        let encoded = response.headers().contains_key(header::CONTENT_ENCODING);
        let length = response.headers().get(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse().ok());
        let page = kind.starts_with("text/html") && !encoded;
        if !page || length.is_some_and(|l: usize| l > links::MAX_PAGE) {
            return Ok(response.map(Body::foreign));
        }
        let (mut parts, body) = response.into_parts();
        let (read, rest) = wire::read(body, links::MAX_PAGE).await.map_err(unreachable)?;
        // What is longer than a page can be passes as it is.
        let body = match rest {
            Some(rest) => wire::again(read, rest),
            None => Body::full(links::rewrite(&read, &self.base, &self.address.authority())),
        };
        parts.headers.remove(header::CONTENT_LENGTH);
        Ok(Response::from_parts(parts, body))
    }
}

/// Removes what concerns one connection only, also what `Connection` names.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|n| n.trim().to_ascii_lowercase())
        .collect();
    for name in HOP_BY_HOP.into_iter().chain(named.iter().map(String::as_str)) {
        headers.remove(name);
    }
}

/// 503 in Kubernetes' words.
fn unreachable(why: impl std::fmt::Display) -> Status {
    Status::new(Reason::ServiceUnavailable, format!("error trying to reach service: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_connection_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("connection", "close, X-Mine"), ("te", "trailers"), ("x-mine", "1"), ("accept", "*/*")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        strip(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn a_path_without_its_slash_is_redirected() {
        let response = redirect(&"/api/v1/namespaces/a/pods/b/proxy?x=1".parse().expect("uri")).expect("redirect");
        assert_eq!(response.status(), 301);
        assert_eq!(response.headers()["location"], "/api/v1/namespaces/a/pods/b/proxy/?x=1");
    }
}
