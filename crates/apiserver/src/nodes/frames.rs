//! Between channel frames and the node protocol's messages.

use kybern_api::error::Status;
use kybern_stream::mux::{Body, Data, Out};
use kybern_wire::node as pb;
use kybern_wire::node::{FromNode, ToNode, from_node, to_node};
use tokio::sync::mpsc;

/// A queue of messages to a node, as a link's way out.
pub(crate) trait ToNodeQueue {
    /// Frames of channels become messages.
    fn into_out(self) -> Out;
}

impl ToNodeQueue for mpsc::UnboundedSender<ToNode> {
    fn into_out(self) -> Out {
        Box::new(move |channel, body| {
            let frame = match body {
                Body::Data(d) => to_node::Frame::Data(pb::Data { stream: d.stream, bytes: d.bytes, end: d.end }),
                Body::Close(error) => to_node::Frame::Close(pb::Close { error }),
                Body::Credit(bytes) => to_node::Frame::Credit(bytes),
            };
            self.send(ToNode { channel, frame: Some(frame) }).is_ok()
        })
    }
}

/// A node's frame about a channel that is open; None for the others.
pub(crate) fn to_body(frame: from_node::Frame) -> Option<Body> {
    Some(match frame {
        from_node::Frame::Data(d) => Body::Data(Data { stream: d.stream, bytes: d.bytes, end: d.end }),
        from_node::Frame::Close(c) => Body::Close(c.error),
        from_node::Frame::Credit(bytes) => Body::Credit(bytes),
        from_node::Frame::Hello(_) | from_node::Frame::Opened(_) => return None,
    })
}

/// A frame as a node would send it: what a relaying server passes on.
pub(crate) fn from_body(channel: u64, body: Body) -> FromNode {
    let frame = match body {
        Body::Data(d) => from_node::Frame::Data(pb::Data { stream: d.stream, bytes: d.bytes, end: d.end }),
        Body::Close(error) => from_node::Frame::Close(pb::Close { error }),
        Body::Credit(bytes) => from_node::Frame::Credit(bytes),
    };
    FromNode { channel, frame: Some(frame) }
}

/// What a node says in closing a channel that it did not open: a Status as JSON, or a text.
pub(crate) fn close_reason(text: &str) -> Status {
    Status::from_json(500, text.as_bytes()).unwrap_or_else(|| Status::internal(text))
}
