//! Answers as HTTP responses.

use crate::present::body::Body;
use crate::present::list::{self, ListBody};
use crate::present::negotiate::{Media, Negotiated, Rendition};
use crate::present::watch::{self, Framer};
use crate::present::{Answer, partial, table};
use crate::registry::kinds::Resource;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderValue, Response, StatusCode, header};
use kybern_api::codec;
use kybern_api::error::{Reason, Status};
use kybern_api::object::Object;
use kybern_api::seam::Clock;
use std::io::Write;
use std::sync::Arc;

/// Bodies above this are compressed where the client accepts it.
const GZIP_FROM: usize = 128 << 10;

const WATCH_PROTOBUF: &str = "application/vnd.kubernetes.protobuf;stream=watch";
const NO_PROTOBUF: &str = "only the following media types are accepted: application/json, application/yaml";
const WATCH_ACCEPTED: &str =
    "only the following media types are accepted: application/json, application/json;stream=watch";

/// Renders an answer about `resource` as agreed.
///
/// # Errors
/// 500 when a stored object is no JSON, 406 for a rendition the answer does not have.
pub fn respond(
    answer: Answer,
    resource: &Resource,
    n: &Negotiated,
    clock: &Arc<dyn Clock>,
) -> Result<Response<Body>, Status> {
    match answer {
        Answer::Object(object, created) => {
            let code = if created { StatusCode::CREATED } else { StatusCode::OK };
            document(code, render_object(&object, resource, n, clock)?, n)
        }
        Answer::Tree(tree, code) => {
            if matches!(n.rendition, Rendition::Table(_)) && code < 300 && tree["kind"] != "Status" {
                return Err(table::not_convertible(&resource.def().group, &resource.def().plural));
            }
            let code = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
            document(code, tree.to_string().into(), n)
        }
        Answer::List(listed) => match list::render(resource, listed, n, clock.now())? {
            ListBody::Streamed(body) => Ok(response(StatusCode::OK, Media::Json.as_str(), body)),
            ListBody::Whole(bytes) => document(StatusCode::OK, bytes.into(), n),
        },
        Answer::Watch(_) if n.media == Media::Yaml => Err(Status::new(Reason::NotAcceptable, WATCH_ACCEPTED)),
        Answer::Watch(watcher) => {
            let media = if n.media == Media::Protobuf { WATCH_PROTOBUF } else { Media::Json.as_str() };
            if n.media == Media::Protobuf && !codec::has_protobuf(&resource.served().schema) {
                return Err(Status::new(Reason::NotAcceptable, WATCH_ACCEPTED));
            }
            let framer = Framer::new(resource.clone(), n, clock.clone());
            Ok(response(StatusCode::OK, media, Body::frames(watch::stream(*watcher, framer))))
        }
    }
}

/// Lists whose items take more than this are not rendered once more.
const PLAIN_MAX: usize = 256 << 10;

/// An answer's object as JSON, whatever the client gets it as; None for streams and large lists.
///
/// # Errors
/// 500 when a stored object is no JSON.
pub fn plain(answer: &Answer, resource: &Resource) -> Result<Option<Bytes>, Status> {
    let (def, served) = (resource.def(), resource.served());
    match answer {
        Answer::Object(object, _) => codec::render(def, served, object).map(Some),
        Answer::Tree(tree, _) => Ok(Some(tree.to_string().into())),
        Answer::List(l) if l.items.iter().map(|o| o.bytes.len()).sum::<usize>() <= PLAIN_MAX => {
            let mut text = codec::list_open(def, served, l.revision, l.next.as_deref(), l.remaining).into_bytes();
            for (i, object) in l.items.iter().enumerate() {
                if i > 0 {
                    text.push(b',');
                }
                text.extend_from_slice(&codec::render(def, served, object)?);
            }
            text.extend_from_slice(b"]}");
            Ok(Some(text.into()))
        }
        Answer::List(_) | Answer::Watch(_) => Ok(None),
    }
}

fn render_object(o: &Object, resource: &Resource, n: &Negotiated, clock: &Arc<dyn Clock>) -> Result<Bytes, Status> {
    match n.rendition {
        Rendition::Object => codec::render(resource.def(), resource.served(), o),
        Rendition::Partial => partial::partial(o),
        Rendition::Table(include) => {
            let rows = table::Rows { resource, include, now: clock.now() };
            let metadata = serde_json::json!({"resourceVersion": o.revision.to_string()});
            Ok(rows.table(&metadata, true, std::slice::from_ref(o))?.into())
        }
    }
}

/// A JSON document in the agreed form.
///
/// # Errors
/// 500 when it cannot be translated.
pub fn document(code: StatusCode, json: Bytes, n: &Negotiated) -> Result<Response<Body>, Status> {
    let bytes = translate(json, n)?;
    if !n.gzip || bytes.len() < GZIP_FROM {
        return Ok(response(code, n.media.as_str(), Body::full(bytes)));
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    let packed =
        encoder.write_all(&bytes).and_then(|()| encoder.finish()).map_err(|e| Status::internal(e.to_string()))?;
    let mut r = response(code, n.media.as_str(), Body::full(packed));
    r.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    r.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    Ok(r)
}

fn translate(json: Bytes, n: &Negotiated) -> Result<Bytes, Status> {
    if n.media == Media::Json && !n.pretty {
        return Ok(json);
    }
    let internal = |e: serde_json::Error| Status::internal(e.to_string());
    let tree: serde_json::Value = serde_json::from_slice(&json).map_err(internal)?;
    match n.media {
        Media::Yaml => Ok(codec::to_yaml(&tree)?.into()),
        Media::Protobuf => match codec::to_protobuf(&tree)? {
            Some(bytes) => Ok(bytes.into()),
            None => Err(Status::new(Reason::NotAcceptable, NO_PROTOBUF)),
        },
        Media::Json => {
            let mut text = serde_json::to_vec_pretty(&tree).map_err(internal)?;
            text.push(b'\n');
            Ok(text.into())
        }
    }
}

/// A response with the headers all API answers share.
pub fn response(code: StatusCode, media: &'static str, body: Body) -> Response<Body> {
    let mut r = Response::new(body);
    *r.status_mut() = code;
    let headers = r.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    r
}

/// Plain text.
pub fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut r = response(code, "text/plain; charset=utf-8", Body::full(text));
    r.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    r
}

/// The answer to a failed request.
pub fn failure(status: &Status, n: &Negotiated) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = Bytes::from(status.to_json());
    let mut r =
        document(code, json.clone(), n).unwrap_or_else(|_| response(code, Media::Json.as_str(), Body::full(json)));
    if let Some(seconds) = status.details.as_ref().and_then(|d| d.retry_after_seconds) {
        r.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status.reason == Reason::Forbidden {
        r.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    r
}
