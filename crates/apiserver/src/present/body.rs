//! Response bodies. Large answers are streams of chunks built from shared bytes as the client takes them.

use crate::audit::Record;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use http_body::{Frame, SizeHint};
use kybern_api::object::Object;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Lists are written in chunks of about this size: fewer, larger writes cost half as much over h2.
pub const CHUNK: usize = 192 << 10;

/// Errors of foreign bodies.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A response body.
pub struct Body {
    kind: Kind,
    /// Says when it is dropped that the answer is complete.
    _record: Option<Box<Record>>,
}

enum Kind {
    Full(Option<Bytes>),
    Items(Box<Items>),
    Frames(BoxStream<'static, Bytes>),
    Foreign(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.kind {
            Kind::Full(_) => "Body::Full",
            Kind::Items(_) => "Body::Items",
            Kind::Frames(_) => "Body::Frames",
            Kind::Foreign(_) => "Body::Foreign",
        })
    }
}

impl Body {
    fn of(kind: Kind) -> Self {
        Self { kind, _record: None }
    }
    /// Nothing.
    pub fn empty() -> Self {
        Self::of(Kind::Full(None))
    }
    /// One piece.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::of(Kind::Full(Some(bytes.into())))
    }
    /// A list's JSON: `open`, the items with commas between, `]}`. Stored bytes are sent as they are.
    pub fn items(open: String, items: Vec<Object>) -> Self {
        let commas = items.len().saturating_sub(1);
        let left = open.len() + items.iter().map(|o| o.bytes.len()).sum::<usize>() + commas + CLOSE.len();
        let state = Items { open: Some(open), items: items.into_iter(), first: true, left: left as u64 };
        Self::of(Kind::Items(Box::new(state)))
    }
    /// Frames as they come.
    pub fn frames(stream: BoxStream<'static, Bytes>) -> Self {
        Self::of(Kind::Frames(stream))
    }
    /// Another body.
    pub fn foreign<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        use http_body_util::BodyExt;
        Self::of(Kind::Foreign(Box::pin(body.map_err(Into::into))))
    }
    /// The same body; `record` says that the answer is complete when it has been sent or given up.
    pub(crate) fn recorded(self, record: Record) -> Self {
        Self { _record: Some(Box::new(record)), ..self }
    }
}

const CLOSE: &[u8] = b"]}";

struct Items {
    open: Option<String>,
    items: std::vec::IntoIter<Object>,
    first: bool,
    left: u64,
}

impl Items {
    fn chunk(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let mut out = BytesMut::with_capacity(CHUNK.min(usize::try_from(self.left).unwrap_or(CHUNK)));
        if let Some(open) = self.open.take() {
            out.extend_from_slice(open.as_bytes());
        }
        while out.len() < CHUNK {
            let Some(item) = self.items.next() else {
                out.extend_from_slice(CLOSE);
                break;
            };
            if !std::mem::take(&mut self.first) {
                out.extend_from_slice(b",");
            }
            out.extend_from_slice(&item.bytes);
        }
        self.left -= out.len() as u64;
        Some(out.freeze())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.kind {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Items(items) => Poll::Ready(items.chunk().map(|b| Ok(Frame::data(b)))),
            Kind::Frames(stream) => stream.as_mut().poll_next(cx).map(|b| b.map(|b| Ok(Frame::data(b)))),
            Kind::Foreign(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Items(items) => items.left == 0,
            Kind::Frames(_) => false,
            Kind::Foreign(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Items(items) => SizeHint::with_exact(items.left),
            Kind::Frames(_) => SizeHint::default(),
            Kind::Foreign(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::sync::Arc;

    fn object(size: usize) -> Object {
        let bytes = format!("\"{}\"", "x".repeat(size));
        Object { head: Arc::default(), revision: 1, bytes: bytes.into() }
    }

    #[tokio::test]
    async fn lists_come_in_chunks_of_known_total() {
        for (count, size) in [(0, 0), (1, 10), (5, 100_000), (400, 1_000)] {
            let body = Body::items("{\"items\":[".into(), vec![object(size); count]);
            let announced = http_body::Body::size_hint(&body).exact();
            let bytes = body.collect().await.expect("no errors").to_bytes();
            assert_eq!(announced, Some(bytes.len() as u64));
            let parsed: serde_json::Value = serde_json::from_slice(&bytes).expect("valid JSON");
            assert_eq!(parsed["items"].as_array().map(Vec::len), Some(count));
        }
    }
}
