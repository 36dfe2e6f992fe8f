//! One reverse stream.

use super::{Opening, Services};
use kybern_stream::mux::{Body, Data, Link};
use kybern_wire::node as pb;
use kybern_wire::node::node_client::NodeClient;
use kybern_wire::node::{FromNode, Hello, ToNode, from_node, to_node};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;

/// Serves one server until the stream is lost. An error: it never began.
pub(super) async fn reverse(channel: Channel, node: &str, services: &Arc<Services>) -> Result<(), tonic::Status> {
    let (out, frames) = mpsc::unbounded_channel();
    let hello = from_node::Frame::Hello(Hello { node: node.to_owned() });
    out.send(FromNode { channel: 0, frame: Some(hello) }).ok();
    let answers = NodeClient::new(channel).reverse(UnboundedReceiverStream::new(frames)).await?;
    let mut answers = answers.into_inner();
    let link = Link::new(to_server(out.clone()));
    // Owns what serves the channels: it ends with the stream.
    let mut serving = JoinSet::new();
    while let Ok(Some(ToNode { channel, frame })) = answers.message().await {
        while serving.try_join_next().is_some() {}
        match frame {
            Some(to_node::Frame::Open(open)) => {
                // A taken id or too many channels: the server is told by the close.
                let Some(registered) = link.register(channel) else {
                    let error = "too many channels".to_owned();
                    out.send(FromNode { channel, frame: Some(from_node::Frame::Close(pb::Close { error })) }).ok();
                    continue;
                };
                let opening = Opening { id: channel, channel: registered, out: out.clone() };
                let services = services.clone();
                serving.spawn(async move { services.serve(open.what, opening).await });
            }
            Some(frame) => {
                if let Some(body) = to_body(frame) {
                    link.deliver(channel, body);
                }
            }
            None => {}
        }
    }
    link.close();
    Ok(())
}

fn to_server(out: mpsc::UnboundedSender<FromNode>) -> kybern_stream::mux::Out {
    Box::new(move |channel, body| {
        let frame = match body {
            Body::Data(d) => from_node::Frame::Data(pb::Data { stream: d.stream, bytes: d.bytes, end: d.end }),
            Body::Close(error) => from_node::Frame::Close(pb::Close { error }),
            Body::Credit(bytes) => from_node::Frame::Credit(bytes),
        };
        out.send(FromNode { channel, frame: Some(frame) }).is_ok()
    })
}

fn to_body(frame: to_node::Frame) -> Option<Body> {
    Some(match frame {
        to_node::Frame::Data(d) => Body::Data(Data { stream: d.stream, bytes: d.bytes, end: d.end }),
        to_node::Frame::Close(c) => Body::Close(c.error),
        to_node::Frame::Credit(bytes) => Body::Credit(bytes),
        to_node::Frame::Open(_) => return None,
    })
}
