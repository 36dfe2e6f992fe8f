//! Trees to the bytes that are stored, and stored bytes to answers.

use super::head::head;
use super::write;
use crate::error::Status;
use crate::kind::{KindDef, Served};
use crate::object::{Head, Object};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

/// How every stored object begins; the revision goes right after it.
const OPENING: &str = "{\"metadata\":{\"resourceVersion\":\"";

/// A serialised object, ready for the store.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// JSON without `kind`, `apiVersion` and the digits of the revision.
    pub bytes: Bytes,
    /// Offset into `bytes` where the digits of the revision belong.
    pub stamp: u32,
    /// The head.
    pub head: Head,
}

/// Serialises a tree.
pub fn encode(def: &KindDef, tree: &Value) -> Encoded {
    let head = head(def, tree);
    Encoded { bytes: stored(tree, ""), stamp: OPENING.len() as u32, head }
}

/// The bytes with the revision in place.
pub fn stamp(encoded: &Encoded, revision: u64) -> Bytes {
    let digits = revision.to_string();
    let (before, after) = encoded.bytes.split_at(encoded.stamp as usize);
    Bytes::from([before, digits.as_bytes(), after].concat())
}

fn stored(tree: &Value, revision: &str) -> Bytes {
    let none = Map::new();
    let object = tree.as_object().unwrap_or(&none);
    let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&none);
    // A pod with its managed fields takes about 4 KB.
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(OPENING.as_bytes());
    out.extend_from_slice(revision.as_bytes());
    out.push(b'"');
    members(&mut out, metadata.iter().filter(|(k, _)| *k != "resourceVersion"));
    out.push(b'}');
    members(&mut out, object.iter().filter(|(k, _)| !matches!(k.as_str(), "metadata" | "kind" | "apiVersion")));
    out.push(b'}');
    Bytes::from(out)
}

/// Appends `,"key":value` for each member.
fn members<'a>(out: &mut Vec<u8>, members: impl Iterator<Item = (&'a String, &'a Value)>) {
    for (key, value) in members {
        out.push(b',');
        write::string(out, key);
        out.push(b':');
        write::value(out, value);
    }
}

/// The object as clients see it in this version: `kind` and `apiVersion`, then the stored bytes as they
/// are. Only a version that differs from the stored one is decoded and encoded again.
///
/// # Errors
/// 500 when the stored bytes are no JSON, a defect of the store.
pub fn render(def: &KindDef, served: &Served, object: &Object) -> Result<Bytes, Status> {
    let converted;
    let body = match served.from_stored {
        None => &object.bytes,
        Some(convert) => {
            let mut tree = object.tree().map_err(|e| Status::internal(format!("stored {}: {e}", def.kind)))?;
            convert(&mut tree);
            converted = stored(&tree, &object.revision.to_string());
            &converted
        }
    };
    Ok(Bytes::from([served.prefix.as_bytes(), body.get(1..).unwrap_or_default()].concat()))
}

/// A tree in the stored version as a complete object of the served version, for patches, webhooks and
/// other readers of trees.
pub fn served_tree(def: &KindDef, served: &Served, mut tree: Value) -> Value {
    if let Some(convert) = served.from_stored {
        convert(&mut tree);
    }
    if let Some(object) = tree.as_object_mut() {
        object.insert("apiVersion".into(), def.api_version(served).into());
        object.insert("kind".into(), def.kind.as_str().into());
    }
    tree
}

/// The beginning of a list answer, up to and with `"items":[`. Items follow as stored bytes with commas
/// between, then `]}`.
pub fn list_open(def: &KindDef, served: &Served, revision: u64, next: Option<&str>, remaining: Option<u64>) -> String {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), revision.to_string().into());
    if let Some(next) = next {
        metadata.insert("continue".into(), next.into());
    }
    if let Some(remaining) = remaining {
        metadata.insert("remainingItemCount".into(), remaining.into());
    }
    let (kind, version) = (&def.list_kind, def.api_version(served));
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{},\"items\":[", Value::Object(metadata))
}

/// JSON as YAML.
///
/// # Errors
/// 500 when the value cannot be written, which no tree can bring about.
pub fn to_yaml(value: &impl Serialize) -> Result<String, Status> {
    serde_saphyr::to_string(value).map_err(|e| Status::internal(e.to_string()))
}
