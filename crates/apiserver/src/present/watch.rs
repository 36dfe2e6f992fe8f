//! Watch streams: one JSON line or protobuf frame per event, built once and shared.

use crate::cache::window::FrameKey;
use crate::cache::{Change, Item, Watcher};
use crate::present::negotiate::{Media, Negotiated, Rendition};
use crate::present::partial;
use crate::present::table::Rows;
use crate::registry::kinds::Resource;
use crate::registry::seal::restamp;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt};
use kybern_api::codec;
use kybern_api::error::Status;
use kybern_api::object::{EventType, Object};
use kybern_api::seam::Clock;
use serde_json::json;
use std::sync::Arc;

/// The number of protobuf frames among [`FrameKey::rendition`]s; JSON has those of [`Rendition::code`].
const PROTOBUF_CODE: u8 = 5;

/// Renders the items of one watch.
pub struct Framer {
    resource: Resource,
    rendition: Rendition,
    media: Media,
    clock: Arc<dyn Clock>,
    columns_due: bool,
}

impl std::fmt::Debug for Framer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Framer").field("resource", &self.resource).finish_non_exhaustive()
    }
}

/// The object of a change as a watch sees it: what stopped matching, or is gone, is the state before,
/// stamped with the revision of the change.
pub fn object_of(kind: EventType, change: &Change) -> Option<Object> {
    match (kind, &change.current, &change.previous) {
        (EventType::Deleted, _, Some(previous)) => Some(restamp(previous, change.revision)),
        (_, Some(current), _) => Some(current.clone()),
        _ => None,
    }
}

impl Framer {
    /// For a watch of `resource`.
    pub fn new(resource: Resource, negotiated: &Negotiated, clock: Arc<dyn Clock>) -> Self {
        let rendition = negotiated.rendition;
        let columns_due = matches!(rendition, Rendition::Table(_));
        Self { resource, rendition, media: negotiated.media, clock, columns_due }
    }

    fn frame(&mut self, item: &Item) -> Bytes {
        let frame = match item {
            Item::Initial(object) => self.object(EventType::Added, object),
            Item::Change(kind, change) if self.columns_due => self.change(*kind, change),
            Item::Change(kind, change) => {
                Ok(change.frame(self.key(*kind), || self.change(*kind, change).unwrap_or_else(|s| self.error(&s))))
            }
            Item::Bookmark(revision, initial) => self.bookmark(*revision, *initial),
        };
        // Only the first table of a stream describes its columns.
        self.columns_due &= matches!(item, Item::Bookmark(..));
        frame.unwrap_or_else(|s| self.error(&s))
    }

    fn key(&self, kind: EventType) -> FrameKey {
        let version = u8::try_from(self.resource.version).unwrap_or(u8::MAX);
        let rendition = if self.media == Media::Protobuf { PROTOBUF_CODE } else { self.rendition.code() };
        FrameKey { kind, resource: self.resource.kind.number, version, rendition }
    }

    fn change(&self, kind: EventType, change: &Change) -> Result<Bytes, Status> {
        match object_of(kind, change) {
            Some(object) => self.object(kind, &object),
            None => Err(Status::internal("a change without an object")),
        }
    }

    fn object(&self, kind: EventType, object: &Object) -> Result<Bytes, Status> {
        let body = match self.rendition {
            Rendition::Object if self.resource.is_stored_form() => {
                // The common case: pieces that exist already, joined once.
                let prefix = self.resource.served().prefix.as_bytes();
                let rest = object.bytes.get(1..).unwrap_or_default();
                return self.event(kind.as_str(), &[prefix, rest]);
            }
            Rendition::Object => codec::render(self.resource.def(), self.resource.served(), object)?,
            Rendition::Partial => partial::partial(object)?,
            Rendition::Table(include) => {
                let rows = Rows { resource: &self.resource, include, now: self.clock.now() };
                let metadata = json!({"resourceVersion": object.revision.to_string()});
                rows.table(&metadata, self.columns_due, std::slice::from_ref(object))?.into()
            }
        };
        self.event(kind.as_str(), &[&body])
    }

    fn bookmark(&self, revision: u64, initial: bool) -> Result<Bytes, Status> {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, version) = match self.rendition {
            Rendition::Object => {
                let def = self.resource.def();
                (def.kind.to_string(), def.api_version(self.resource.served()))
            }
            Rendition::Partial => ("PartialObjectMetadata".into(), "meta.k8s.io/v1".into()),
            Rendition::Table(_) => ("Table".into(), "meta.k8s.io/v1".into()),
        };
        let body = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
        self.event("BOOKMARK", &[body.to_string().as_bytes()])
    }

    /// The last event of a stream that ends badly.
    fn error(&self, status: &Status) -> Bytes {
        self.event("ERROR", &[&status.to_json()]).unwrap_or_default()
    }

    /// An event with an object in pieces of JSON.
    fn event(&self, kind: &str, object: &[&[u8]]) -> Result<Bytes, Status> {
        match self.media {
            Media::Protobuf => frame(kind, &object.concat()),
            Media::Json | Media::Yaml => Ok(line(kind, object)),
        }
    }
}

fn line(kind: &str, object: &[&[u8]]) -> Bytes {
    let len = object.iter().map(|p| p.len()).sum::<usize>() + kind.len() + 24;
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object.iter().for_each(|p| out.extend_from_slice(p));
    out.extend_from_slice(b"}\n");
    out.into()
}

fn frame(kind: &str, object: &[u8]) -> Result<Bytes, Status> {
    let tree = serde_json::from_slice(object).map_err(|e| Status::internal(e.to_string()))?;
    let body = codec::to_protobuf(&tree)?.ok_or_else(|| Status::internal("an object without a protobuf message"))?;
    Ok(codec::watch_frame(kind, &body).into())
}

struct State {
    watcher: Watcher,
    framer: Framer,
    items: Vec<Item>,
    over: bool,
}

/// The stream of a watch. All frames that are ready go out in one piece.
pub fn stream(watcher: Watcher, framer: Framer) -> BoxStream<'static, Bytes> {
    let state = State { watcher, framer, items: Vec::new(), over: false };
    futures::stream::unfold(state, |mut s| async move {
        while !s.over {
            match s.watcher.next(&mut s.items).await {
                Ok(false) => return None,
                Err(status) => {
                    s.over = true;
                    return Some((s.framer.error(&status), s));
                }
                // A batch of initial objects may select none.
                Ok(true) if s.items.is_empty() => {}
                Ok(true) => {
                    let bytes = s.frames();
                    return Some((bytes, s));
                }
            }
        }
        None
    })
    .boxed()
}

impl State {
    fn frames(&mut self) -> Bytes {
        let mut items = std::mem::take(&mut self.items);
        let bytes = if let [only] = items.as_slice() {
            self.framer.frame(only)
        } else {
            let mut out = BytesMut::new();
            items.iter().for_each(|item| out.extend_from_slice(&self.framer.frame(item)));
            out.freeze()
        };
        items.clear();
        self.items = items;
        bytes
    }
}
