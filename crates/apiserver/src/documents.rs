//! Discovery and OpenAPI over HTTP: which document a path means, in which form, and whether the client
//! has it already.

use crate::discovery::{self, AGGREGATED};
use crate::openapi::{Document, OpenApi, wants_protobuf};
use crate::present::body::Body;
use crate::present::respond::response;
use crate::registry::kinds::Kinds;
use arc_swap::ArcSwapOption;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use kybern_api::error::Status;
use kybern_api::kind::KindDef;
use serde_json::{Value, json};
use std::sync::Arc;

const JSON: &str = "application/json";

/// The documents of the kinds that are served now; made anew when kinds come or go.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    current: ArcSwapOption<Current>,
}

#[derive(Debug)]
struct Current {
    rows: Vec<Arc<KindDef>>,
    openapi: OpenApi,
}

impl Documents {
    fn of(&self, kinds: &Kinds) -> Arc<Current> {
        let rows: Vec<Arc<KindDef>> = kinds.all().iter().map(|kind| kind.def.clone()).collect();
        let same =
            |c: &Arc<Current>| c.rows.len() == rows.len() && c.rows.iter().zip(&rows).all(|(a, b)| Arc::ptr_eq(a, b));
        if let Some(current) = self.current.load_full().filter(same) {
            return current;
        }
        let current = Arc::new(Current { openapi: OpenApi::new(rows.clone()), rows });
        self.current.store(Some(current.clone()));
        current
    }

    /// Answers a path request; None when the path is no document. `address` is where clients outside
    /// pods reach this server.
    pub(crate) async fn serve(
        &self,
        kinds: &Kinds,
        address: &str,
        parts: &Parts,
    ) -> Option<Result<Response<Body>, Status>> {
        let path = parts.uri.path().trim_matches('/');
        let current = self.of(kinds);
        match path {
            "openapi/v2" => return Some(v2(current, parts).await),
            "openapi/v3" => return Some(Ok(json_answer(&current.openapi.v3_index(), JSON, parts))),
            _ => {}
        }
        if let Some(path) = path.strip_prefix("openapi/v3/") {
            return v3(current, path.to_owned(), parts).await;
        }
        let rows: Vec<&KindDef> = current.rows.iter().map(Arc::as_ref).collect();
        let (body, media) = discovery_body(&rows, address, path, &text_of(parts, header::ACCEPT))?;
        Some(Ok(json_answer(&body, media, parts)))
    }
}

fn discovery_body(rows: &[&KindDef], address: &str, path: &str, accept: &str) -> Option<(Value, &'static str)> {
    let aggregated = || discovery::wants_aggregated(accept);
    let segments: Vec<&str> = path.split('/').collect();
    let body = match segments.as_slice() {
        ["api"] if aggregated() => return Some((discovery::aggregated(rows, true), AGGREGATED)),
        ["apis"] if aggregated() => return Some((discovery::aggregated(rows, false), AGGREGATED)),
        [""] => root(rows),
        ["api"] => discovery::core_versions(address),
        ["apis"] => discovery::group_list(rows),
        ["api", version] => discovery::resource_list(rows, "", version)?,
        ["apis", group] => discovery::group(rows, group).filter(|_| !group.is_empty())?,
        ["apis", group, version] => discovery::resource_list(rows, group, version).filter(|_| !group.is_empty())?,
        _ => return None,
    };
    Some((body, JSON))
}

/// `/`: the paths there are.
fn root(rows: &[&KindDef]) -> Value {
    let mut paths: Vec<String> =
        ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
            .map(str::to_owned)
            .into();
    for (group, version) in discovery::group_versions(rows) {
        if group.is_empty() {
            paths.push(format!("/api/{version}"));
        } else {
            paths.extend([format!("/apis/{group}"), format!("/apis/{group}/{version}")]);
        }
    }
    paths.sort_unstable();
    paths.dedup();
    json!({"paths": paths})
}

async fn v2(current: Arc<Current>, parts: &Parts) -> Result<Response<Body>, Status> {
    let protobuf = wants_protobuf(&text_of(parts, header::ACCEPT));
    let document = build(move || current.openapi.v2(protobuf)).await?;
    Ok(document_answer(&document, parts))
}

async fn v3(current: Arc<Current>, path: String, parts: &Parts) -> Option<Result<Response<Body>, Status>> {
    let right = current.openapi.hash(&path);
    let asked = parts.uri.query().and_then(|q| form_urlencoded::parse(q.as_bytes()).find(|(k, _)| k == "hash"));
    let (wanted, url) = (path.clone(), format!("/openapi/v3/{path}?hash={right}"));
    let document = match build(move || current.openapi.v3(&wanted)).await {
        Ok(document) => document?,
        Err(status) => return Some(Err(status)),
    };
    Some(Ok(match asked {
        None => document_answer(&document, parts),
        Some((_, hash)) if hash == right => {
            let mut answer = document_answer(&document, parts);
            answer
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable, max-age=31536000"));
            answer
        }
        Some(_) => {
            let mut answer = response(StatusCode::MOVED_PERMANENTLY, JSON, Body::empty());
            if let Ok(location) = HeaderValue::from_str(&url) {
                answer.headers_mut().insert(header::LOCATION, location);
            }
            answer
        }
    }))
}

/// Building a document takes a while, so it is done aside from the connections.
async fn build<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Status::internal(format!("making a document: {e}")))
}

fn document_answer(document: &Document, parts: &Parts) -> Response<Body> {
    if has_already(parts, &document.etag) {
        return with_etag(response(StatusCode::NOT_MODIFIED, document.content_type, Body::empty()), &document.etag);
    }
    if !text_of(parts, header::ACCEPT_ENCODING).contains("gzip") {
        let answer = response(StatusCode::OK, document.content_type, Body::full(document.plain()));
        return with_etag(answer, &document.etag);
    }
    let mut answer = response(StatusCode::OK, document.content_type, Body::full(document.gzip.clone()));
    answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    with_etag(answer, &document.etag)
}

fn json_answer(body: &Value, media: &'static str, parts: &Parts) -> Response<Body> {
    let body = body.to_string();
    let etag = discovery::etag(body.as_bytes());
    let answer = if has_already(parts, &etag) {
        response(StatusCode::NOT_MODIFIED, media, Body::empty())
    } else {
        response(StatusCode::OK, media, Body::full(body))
    };
    with_etag(answer, &etag)
}

fn with_etag(mut answer: Response<Body>, etag: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(etag) {
        answer.headers_mut().insert(header::ETAG, value);
    }
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    answer
}

fn has_already(parts: &Parts, etag: &str) -> bool {
    text_of(parts, header::IF_NONE_MATCH).split(',').any(|given| matches!(given.trim(), "*") || given.trim() == etag)
}

/// All values of a header, joined.
fn text_of(parts: &Parts, name: header::HeaderName) -> String {
    parts.headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<&'static KindDef> {
        kybern_api::kinds::table().iter().collect()
    }

    #[test]
    fn paths_mean_documents() {
        let kind = |path: &str, accept: &str| {
            let (body, media) = discovery_body(&rows(), "127.0.0.1:6443", path, accept)?;
            Some((body["kind"].as_str().unwrap_or_default().to_owned(), media))
        };
        let named = |kind: &str, media| Some((kind.to_owned(), media));
        assert_eq!(kind("api", ""), named("APIVersions", JSON));
        assert_eq!(kind("api", AGGREGATED), named("APIGroupDiscoveryList", AGGREGATED));
        assert_eq!(kind("apis/apps", ""), named("APIGroup", JSON));
        assert_eq!(kind("apis/apps/v1", AGGREGATED), named("APIResourceList", JSON));
        assert_eq!(kind("api/v1", ""), named("APIResourceList", JSON));
        assert_eq!(kind("apis/apps/v7", ""), None);
        assert_eq!(kind("nonsense", ""), None);
        assert_eq!(kind("apis//v1", ""), None);
    }

    #[tokio::test]
    async fn a_document_is_sent_once_and_a_wrong_hash_is_redirected() {
        let rows = rows().into_iter().cloned().map(Arc::new).collect::<Vec<_>>();
        let current = Arc::new(Current { openapi: OpenApi::new(rows.clone()), rows });
        let request = |uri: &str, etag: &str| {
            let request =
                http::Request::get(uri).header(header::ACCEPT_ENCODING, "gzip").header(header::IF_NONE_MATCH, etag);
            request.body(()).unwrap().into_parts().0
        };
        let ask = async |uri: &str, etag: &str| {
            v3(current.clone(), "apis/node.k8s.io/v1".into(), &request(uri, etag)).await.unwrap().unwrap()
        };
        let first = ask("/x", "").await;
        assert_eq!(
            (first.status(), &first.headers()[header::CONTENT_ENCODING]),
            (StatusCode::OK, &"gzip".parse().unwrap())
        );
        let etag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!(ask("/x", &etag).await.status(), StatusCode::NOT_MODIFIED);
        let moved = ask("/x?hash=old", "").await;
        assert_eq!(moved.status(), StatusCode::MOVED_PERMANENTLY);
        let right = moved.headers()[header::LOCATION].to_str().unwrap().to_owned();
        assert_eq!(ask(&right, "").await.status(), StatusCode::OK);
        assert!(v3(current.clone(), "apis/none/v1".into(), &request("/x", "")).await.is_none());
    }
}
