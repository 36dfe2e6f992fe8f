//! JSON as the API serves it, turned into [`Object`]s: lists, items and watch frames.

use bytes::Bytes;
use kybern_api::error::Status;
use kybern_api::object::{EventType, Head, Object, Owner};
use serde::Deserialize;
use serde_json::value::RawValue;
use smol_str::SmolStr;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::http::chain;
use crate::transport::WatchEvent;

/// Why an answer could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JSON of the expected shape.
    #[error("malformed answer")]
    Json(#[from] serde_json::Error),
    /// metadata.resourceVersion is not a revision.
    #[error("malformed resourceVersion {0:?}")]
    Revision(String),
    /// A watch frame of an unknown type.
    #[error("unknown watch event type {0:?}")]
    EventType(String),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::internal(format!("the server's answer cannot be read: {}", chain(&error)))
    }
}

/// The part of `metadata` that becomes a [`Head`].
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: SmolStr,
    namespace: SmolStr,
    uid: SmolStr,
    generation: i64,
    creation_timestamp: Option<jiff::Timestamp>,
    deletion_timestamp: Option<jiff::Timestamp>,
    labels: Option<BTreeMap<SmolStr, SmolStr>>,
    owner_references: Option<Vec<Owner>>,
    finalizers: Option<Vec<SmolStr>>,
    resource_version: String,
}

impl Meta {
    fn into_head(self) -> Head {
        Head {
            name: self.name,
            namespace: self.namespace,
            uid: self.uid,
            generation: self.generation,
            created: self.creation_timestamp.map_or(0, |t| t.as_second()),
            deleting: self.deletion_timestamp.map(|t| t.as_second()),
            labels: self.labels.unwrap_or_default().into_iter().collect(),
            owners: self.owner_references.unwrap_or_default(),
            finalizers: self.finalizers.unwrap_or_default(),
            fields: Vec::new(),
        }
    }
}

/// One object as served (with or without kind and apiVersion) as an [`Object`].
///
/// [`Head::fields`] stays empty: selectable fields are the server's business.
///
/// # Errors
/// When it is no JSON object with a fitting `metadata`.
pub fn object(json: &[u8]) -> Result<Object, Error> {
    let mut members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(json)?;
    members.remove("kind");
    members.remove("apiVersion");
    let metadata = members.remove("metadata").map_or("{}", RawValue::get);
    let meta: Meta = serde_json::from_str(metadata)?;
    let revision = parse_revision(&meta.resource_version)?;
    let mut bytes = Vec::with_capacity(json.len());
    bytes.extend_from_slice(b"{\"metadata\":");
    bytes.extend_from_slice(metadata.as_bytes());
    for (name, value) in members {
        bytes.push(b',');
        serde_json::to_writer(&mut bytes, &name)?;
        bytes.push(b':');
        bytes.extend_from_slice(value.get().as_bytes());
    }
    bytes.push(b'}');
    Ok(Object { head: Arc::new(meta.into_head()), revision, bytes: Bytes::from(bytes) })
}

/// The revision in `metadata.resourceVersion` of any JSON answer; None for one without.
pub fn revision_of(json: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Envelope {
        metadata: Meta,
    }
    let envelope: Envelope = serde_json::from_slice(json).ok()?;
    parse_revision(&envelope.metadata.resource_version).ok().filter(|r| *r > 0)
}

fn parse_revision(text: &str) -> Result<u64, Error> {
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| Error::Revision(text.to_owned())) }
}

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    /// Revision of the snapshot.
    pub revision: u64,
    /// Where the next page begins; empty: this is the last.
    pub next: String,
    /// The objects.
    pub items: Vec<Object>,
}

/// Reads a list answer.
///
/// # Errors
/// When the answer is no list.
pub fn page(json: &[u8]) -> Result<Page, Error> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct ListMeta {
        resource_version: String,
        #[serde(rename = "continue")]
        next: String,
    }
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(default)]
        metadata: ListMeta,
        #[serde(borrow)]
        items: Option<Vec<&'a RawValue>>,
    }
    let body: Body<'_> = serde_json::from_slice(json)?;
    let items = body.items.unwrap_or_default();
    Ok(Page {
        revision: parse_revision(&body.metadata.resource_version)?,
        next: body.metadata.next,
        items: items.into_iter().map(|raw| object(raw.get().as_bytes())).collect::<Result<_, _>>()?,
    })
}

/// Reads one frame of a watch: an event, or the Status with which the server ends the stream.
///
/// # Errors
/// When the line is no watch frame.
pub fn frame(line: &[u8]) -> Result<Result<WatchEvent, Status>, Error> {
    #[derive(Deserialize)]
    struct Frame<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    let frame: Frame<'_> = serde_json::from_slice(line)?;
    let body = frame.object.get().as_bytes();
    let kind = match frame.kind {
        "ADDED" => EventType::Added,
        "MODIFIED" => EventType::Modified,
        "DELETED" => EventType::Deleted,
        "BOOKMARK" => return Ok(Ok(WatchEvent::Bookmark(revision_of(body).unwrap_or(0)))),
        "ERROR" => return Ok(Err(Status::from_json(500, body).unwrap_or_else(|| Status::internal("watch failed")))),
        other => return Err(Error::EventType(other.to_owned())),
    };
    Ok(Ok(WatchEvent::Object(kind, object(body)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kybern_api::error::Reason;

    #[test]
    fn an_item_loses_its_type_and_begins_with_metadata() {
        let json = br#"{"kind":"ConfigMap","apiVersion":"v1","data":{"a":"1"},"metadata":{"name":"c","namespace":"n","resourceVersion":"7","labels":{"b":"2","a":"1"}}}"#;
        let o = object(json).expect("object");
        assert_eq!(o.revision, 7);
        assert!(o.bytes.starts_with(b"{\"metadata\":{"));
        assert_eq!(o.head.labels[0].0, "a");
        let tree = o.tree().expect("tree");
        assert_eq!(tree["data"]["a"], "1");
        assert!(tree.get("kind").is_none());
    }

    #[test]
    fn null_lists_and_missing_metadata_are_empty() {
        let p = page(br#"{"kind":"PodList","metadata":{"resourceVersion":"9","continue":"x"},"items":null}"#)
            .expect("page");
        assert_eq!((p.revision, p.next.as_str(), p.items.len()), (9, "x", 0));
        assert_eq!(object(b"{}").expect("object").revision, 0);
    }

    #[test]
    fn frames_are_events_bookmarks_and_errors() {
        let added = frame(br#"{"type":"ADDED","object":{"metadata":{"name":"x","resourceVersion":"3"}}}"#);
        assert!(matches!(added, Ok(Ok(WatchEvent::Object(EventType::Added, o))) if o.head.name == "x"));
        let mark = frame(br#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"12"}}}"#);
        assert!(matches!(mark, Ok(Ok(WatchEvent::Bookmark(12)))));
        let gone =
            frame(br#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"old"}}"#);
        assert!(matches!(gone, Ok(Err(s)) if s.reason == Reason::Expired));
        assert!(frame(br#"{"type":"WHAT","object":{}}"#).is_err());
    }
}
