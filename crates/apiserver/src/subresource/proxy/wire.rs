//! The proxy's connections: through the node's reverse stream, plain or over TLS.

use super::place::Address;
use super::unreachable;
use crate::present::body::{Body, BoxError};
use crate::server::ApiServer;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kybern_api::error::Status;
use kybern_client::http::any_certificate;
use kybern_stream::mux::Channel;
use kybern_wire::node as pb;
use kybern_wire::node::open::What;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::{Arc, LazyLock};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;

/// The channel's stream for both directions.
const DATA: u32 = 0;
/// Bytes on their way in one direction inside this server.
const BUFFER: usize = 64 << 10;

/// A connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Connects from the address's node.
pub(super) async fn connect(server: &ApiServer, address: &Address) -> Result<Box<dyn Io>, Status> {
    let dial = pb::Dial { ip: address.ip.to_string(), port: address.port.into() };
    let opened = server.0.nodes.open(&address.node, What::Dial(dial)).await;
    let channel = opened.map_err(|status| unreachable(status.message))?.channel;
    let (near, far) = tokio::io::duplex(BUFFER);
    server.0.tasks.spawn(carry(far, channel));
    if !address.tls {
        return Ok(Box::new(near));
    }
    let tls = TLS.clone();
    let connector = tokio_rustls::TlsConnector::from(tls);
    let stream = connector.connect(ServerName::IpAddress(address.ip.into()), near).await.map_err(unreachable)?;
    Ok(Box::new(stream))
}

/// Carries bytes both ways until the far side has ended.
async fn carry(io: DuplexStream, channel: Channel) {
    let (mut read, mut write) = tokio::io::split(io);
    let Channel { sender, mut receiver } = channel;
    let out = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(BUFFER / 2);
            match read.read_buf(&mut buffer).await {
                Ok(n) if n > 0 => {
                    if sender.send(DATA, buffer.split().freeze()).await.is_err() {
                        return;
                    }
                }
                _ => break,
            }
        }
        sender.end(DATA).ok();
    };
    let back = async {
        while let Ok(Some(data)) = receiver.recv().await {
            if write.write_all(&data.bytes).await.is_err() {
                return;
            }
        }
        write.shutdown().await.ok();
    };
    tokio::pin!(out, back);
    // The far side may answer long after everything has been said.
    tokio::select! {
        () = &mut out => back.await,
        () = &mut back => {}
    }
    sender.close("");
}

/// What comes over a channel, as pieces of a body.
pub(super) fn chunks(channel: Channel) -> BoxStream<'static, Bytes> {
    // The sender goes along: without it the channel would count as abandoned.
    let next = |mut channel: Channel| async move {
        let data = channel.receiver.recv().await.ok()??;
        Some((data.bytes, channel))
    };
    futures::stream::unfold(channel, next).boxed()
}

/// Joins two connections that no longer speak HTTP.
pub(super) async fn join(client: OnUpgrade, far: OnUpgrade, drain: CancellationToken) {
    let joined = async {
        let (client, far) = tokio::try_join!(client, far)?;
        tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(far))
            .await
            .map_err(BoxError::from)?;
        Ok::<(), BoxError>(())
    };
    tokio::select! {
        ended = joined => if let Err(error) = ended {
            tracing::debug!(%error, "a proxied connection broke off");
        },
        () = drain.cancelled() => {}
    }
}

/// Reads a body up to `most` bytes; what is left when there is more.
pub(super) async fn read(mut body: Incoming, most: usize) -> Result<(Bytes, Option<Incoming>), hyper::Error> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            all.extend_from_slice(&data);
        }
        if all.len() > most {
            return Ok((all.freeze(), Some(body)));
        }
    }
    Ok((all.freeze(), None))
}

/// A body whose beginning has been read already.
pub(super) fn again(read: Bytes, rest: Incoming) -> Body {
    let first = futures::stream::iter([Ok(Frame::data(read))]);
    Body::foreign(StreamBody::new(first.chain(rest.into_data_stream().map(|b| b.map(Frame::data)))))
}

/// Whose certificate it is does not matter, as in Kubernetes.
static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| any_certificate(&[]));
