//! OpenAPI v2 (JSON and protobuf) and v3 documents: projections of the rows and the schema table.
//!
//! A document is built when it is first asked for and kept compressed; an idle server holds none.

mod definitions;
mod operations;
mod protobuf;

use crate::discovery::{group_version, group_versions};
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use kybern_api::kind::KindDef;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Arc;

/// Content type of the v2 document in protobuf.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The name that clients ask for it by; it is no valid media type, so answers carry [`V2_PROTOBUF`].
const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Does the Accept header ask for v2 in protobuf?
pub fn wants_protobuf(accept: &str) -> bool {
    let media = |part: &str| part.split(';').next().unwrap_or_default().trim().to_owned();
    accept.split(',').map(media).any(|m| m == V2_PROTOBUF || m == V2_PROTOBUF_ASKED)
}

/// The version a document is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    V2,
    V3,
}

impl Style {
    fn reference(self, definition: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{definition}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{definition}")}),
        }
    }
}

/// A document, compressed.
#[derive(Debug)]
pub struct Document {
    /// The body in gzip.
    pub gzip: Bytes,
    /// Content type of the body.
    pub content_type: &'static str,
    /// Quoted, for ETag and If-None-Match.
    pub etag: String,
}

impl Document {
    fn new(body: &[u8], content_type: &'static str, hash: &str) -> Self {
        Self { gzip: gzip(body), content_type, etag: format!("\"{hash}\"") }
    }
    /// The body without compression, for clients that do not accept gzip.
    pub fn plain(&self) -> Bytes {
        let mut body = Vec::new();
        let read = GzDecoder::new(self.gzip.as_ref()).read_to_end(&mut body);
        debug_assert!(read.is_ok(), "the document was compressed here");
        Bytes::from(body)
    }
}

/// The encoder writes into memory, which cannot fail.
fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::default());
    let written = encoder.write_all(body);
    debug_assert!(written.is_ok());
    encoder.finish().map(Bytes::from).unwrap_or_default()
}

/// The documents of a set of rows. When rows change (CustomResourceDefinitions), make a new one.
#[derive(Debug)]
pub struct OpenApi {
    rows: Vec<Arc<KindDef>>,
    built: Mutex<HashMap<String, Arc<Document>>>,
}

impl OpenApi {
    /// Documents of these rows; withheld kinds are left out.
    pub fn new(rows: Vec<Arc<KindDef>>) -> Self {
        Self { rows, built: Mutex::default() }
    }

    /// `/openapi/v2` as JSON or (`protobuf`) as `openapi.v2.Document`.
    pub fn v2(&self, protobuf: bool) -> Arc<Document> {
        let (key, media) = if protobuf { ("v2.pb", V2_PROTOBUF) } else { ("v2.json", "application/json") };
        self.cached(key, || {
            let tree = self.v2_tree();
            let body = if protobuf { protobuf::document(&tree) } else { tree.to_string().into_bytes() };
            Document::new(&body, media, &self.hash(key))
        })
    }

    /// `/openapi/v3`: where the documents are.
    pub fn v3_index(&self) -> Value {
        let paths: Map<String, Value> = group_versions(&self.borrowed())
            .into_iter()
            .map(|(group, version)| {
                let path = path_of(group, version);
                let url = format!("/openapi/v3/{path}?hash={}", self.hash(&path));
                (path, json!({"serverRelativeURL": url}))
            })
            .collect();
        json!({"paths": paths})
    }

    /// `/openapi/v3/PATH` with path `api/v1` or `apis/GROUP/VERSION`; None when it is not served. The hash
    /// in the URL the client came with is right when it equals [`Self::hash`] of the path.
    pub fn v3(&self, path: &str) -> Option<Arc<Document>> {
        let rows = self.borrowed();
        let (group, version) = group_versions(&rows).into_iter().find(|(g, v)| path_of(g, v) == path)?;
        Some(self.cached(path, || {
            let tree = v3_tree(&rows, group, version);
            Document::new(tree.to_string().as_bytes(), "application/json", &self.hash(path))
        }))
    }

    /// The hash of a document: of what it is made from, so that nobody has to build it to know.
    pub fn hash(&self, key: &str) -> String {
        let mut hasher = Sha256::new();
        hasher.update(env!("KYBERN_OPENAPI_BUILD"));
        hasher.update(key);
        for row in &self.rows {
            hasher.update(format!("{}/{}/{:?};", row.group, row.plural, row.support));
        }
        hex::encode_upper(hasher.finalize())
    }

    fn borrowed(&self) -> Vec<&KindDef> {
        self.rows.iter().map(Arc::as_ref).collect()
    }

    fn cached(&self, key: &str, build: impl FnOnce() -> Document) -> Arc<Document> {
        let mut built = self.built.lock();
        match built.get(key) {
            Some(document) => document.clone(),
            None => {
                let document = Arc::new(build());
                built.insert(key.to_owned(), document.clone());
                document
            }
        }
    }

    fn v2_tree(&self) -> Value {
        let rows = self.borrowed();
        let mut paths = Map::new();
        let mut roots = Vec::new();
        for (group, version) in group_versions(&rows) {
            operations::paths(&rows, group, version, Style::V2, &mut paths, &mut roots);
        }
        json!({
            "swagger": "2.0",
            "info": info(),
            "paths": paths,
            "definitions": definitions::closure(roots, Style::V2, &group_versions(&rows)),
            "security": [{"BearerToken": []}],
            "securityDefinitions": {"BearerToken": bearer_token()},
        })
    }
}

fn v3_tree(rows: &[&KindDef], group: &str, version: &str) -> Value {
    let mut paths = Map::new();
    let mut roots = Vec::new();
    operations::paths(rows, group, version, Style::V3, &mut paths, &mut roots);
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": {
            "schemas": definitions::closure(roots, Style::V3, &group_versions(rows)),
            "securitySchemes": {"BearerToken": bearer_token()},
        },
        "security": [{"BearerToken": []}],
    })
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.36.0"})
}

fn bearer_token() -> Value {
    json!({"type": "apiKey", "name": "authorization", "in": "header", "description": "A bearer token"})
}

/// `api/v1`, `apis/apps/v1`.
fn path_of(group: &str, version: &str) -> String {
    let root = if group.is_empty() { "api" } else { "apis" };
    format!("{root}/{}", group_version(group, version))
}

#[cfg(test)]
mod tests;
