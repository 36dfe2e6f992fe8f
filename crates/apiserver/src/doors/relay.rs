//! The door for other servers: channels to the nodes connected here.

use crate::doors::grpc::NodeDoor;
use crate::nodes::from_body;
use futures::StreamExt;
use futures::stream::BoxStream;
use kybern_stream::mux::{Body, Data, Link, splice};
use kybern_wire::node::relay_server::Relay;
use kybern_wire::node::{FromNode, RelayFrame, ToNode, from_node, to_node};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Streaming};

/// The group in the certificates with which servers call each other.
pub const SERVERS: &str = "kybern:servers";

/// The relay service: the node door's nodes, for servers.
#[derive(Debug, Clone)]
pub struct RelayDoor(pub(super) NodeDoor);

#[tonic::async_trait]
impl Relay for RelayDoor {
    type OpenStream = BoxStream<'static, Result<FromNode, tonic::Status>>;

    async fn open(&self, request: Request<Streaming<RelayFrame>>) -> Result<Response<Self::OpenStream>, tonic::Status> {
        let user = self.0.user(&request, "/kybern.node.v1.Relay/Open").await?;
        if !user.is_in(SERVERS) {
            return Err(tonic::Status::permission_denied("servers only"));
        }
        let mut frames = request.into_inner();
        let first = frames.message().await?.ok_or_else(|| tonic::Status::invalid_argument("no frame"))?;
        let (id, what) = match first.frame {
            Some(ToNode { channel, frame: Some(to_node::Frame::Open(open)) }) => (channel, open.what),
            _ => return Err(tonic::Status::invalid_argument("the first frame must open a channel")),
        };
        let what = what.ok_or_else(|| tonic::Status::invalid_argument("nothing to open"))?;
        let (out, queue) = mpsc::unbounded_channel();
        let answer = match self.0.0.nodes().open_here(&first.node, what).await {
            Ok(Some(channel)) => channel,
            Ok(None) => return Err(tonic::Status::not_found("the node is not connected here")),
            // The refusal travels as the node's own: a close before the channel is open.
            Err(status) => {
                let text = String::from_utf8(status.to_json()).unwrap_or_default();
                out.send(from_body(id, Body::Close(text))).ok();
                return Ok(Response::new(UnboundedReceiverStream::new(queue).map(Ok).boxed()));
            }
        };
        out.send(FromNode { channel: id, frame: Some(from_node::Frame::Opened(answer.opened)) }).ok();
        let link = Link::new(Box::new(move |id, body| out.send(from_body(id, body)).is_ok()));
        let near = link.register(id).ok_or_else(|| tonic::Status::internal("cannot open the channel"))?;
        let reading = async move {
            while let Ok(Some(frame)) = frames.message().await {
                if let Some(body) = frame.frame.and_then(|f| f.frame).and_then(body_of) {
                    link.deliver(id, body);
                }
            }
            link.close();
        };
        self.0.spawn(async move {
            let joined = splice(near, answer.channel);
            tokio::pin!(joined);
            tokio::select! {
                () = &mut joined => {}
                // The other server is gone: both directions see their end.
                () = reading => joined.await,
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(queue).map(Ok).boxed()))
    }
}

/// A server's frame about the open channel.
fn body_of(frame: to_node::Frame) -> Option<Body> {
    Some(match frame {
        to_node::Frame::Data(d) => Body::Data(Data { stream: d.stream, bytes: d.bytes, end: d.end }),
        to_node::Frame::Close(c) => Body::Close(c.error),
        to_node::Frame::Credit(bytes) => Body::Credit(bytes),
        to_node::Frame::Open(_) => return None,
    })
}
