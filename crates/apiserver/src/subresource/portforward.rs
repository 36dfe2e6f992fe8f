//! Connections to ports inside pods.

use crate::nodes::Nodes;
use crate::present::body::Body;
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::server::ApiServer;
use crate::subresource::exec::{not_upgradable, switching};
use crate::subresource::target::Pod;
use bytes::Bytes;
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use kybern_api::error::Status;
use kybern_stream::forward::{Forward, Forwarder};
use kybern_stream::negotiate::{self, Accepted};
use kybern_stream::spdy::SendHalf;
use kybern_stream::{Error, Role, mux};
use kybern_wire::node as pb;
use kybern_wire::node::open::What;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Streams of a forwarded connection in the node protocol.
const DATA: u32 = 0;
const ERROR: u32 = 1;

/// Forwards the client's connections into a pod.
pub(crate) async fn run(
    server: &ApiServer,
    resource: &Resource,
    auth: &Authorized,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let pod = Pod::of(server, resource, auth).await?;
    pod.host()?;
    let Accepted { framing, headers } = negotiate::port_forward(request.headers()).map_err(not_upgradable)?;
    let upgrade = hyper::upgrade::on(&mut request);
    let (nodes, drain) = (server.0.nodes.clone(), server.0.drain.clone());
    server.0.tasks.spawn(async move {
        let forwarding = async {
            let io = TokioIo::new(upgrade.await.map_err(std::io::Error::other)?);
            serve(Forwarder::new(io, framing, Role::Server).await?, nodes, Arc::new(pod)).await
        };
        tokio::select! {
            ended = forwarding => if let Err(error) = ended {
                tracing::debug!(%error, "port-forward ended");
            },
            () = drain.cancelled() => {}
        }
    });
    Ok(switching(headers))
}

/// Serves connections until the client is gone; they end with it.
async fn serve(mut forwarder: Forwarder, nodes: Arc<Nodes>, pod: Arc<Pod>) -> Result<(), Error> {
    let mut connections = JoinSet::new();
    while let Some(forward) = forwarder.accept().await? {
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(forward, nodes.clone(), pod.clone()));
    }
    Ok(())
}

async fn connection(mut forward: Forward, nodes: Arc<Nodes>, pod: Arc<Pod>) {
    let what = What::PortForward(pb::PortForward {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        port: forward.port.into(),
    });
    match nodes.open(&pod.node, what).await {
        Ok(opened) => carry(forward, opened.channel).await,
        Err(status) => {
            let text = format!("error forwarding port {} to pod {}: {}", forward.port, pod.name, status.message);
            forward.error.send.send(text.into()).await.ok();
            finish([&mut forward.error.send, &mut forward.data.send]).await;
        }
    }
}

async fn finish(streams: [&mut SendHalf; 2]) {
    for stream in streams {
        stream.end().await.ok();
    }
}

/// Carries bytes both ways until the pod's side has ended.
async fn carry(forward: Forward, channel: mux::Channel) {
    let Forward { data, mut error, .. } = forward;
    let (mut to_client, mut from_client) = (data.send, data.recv);
    let mux::Channel { sender, mut receiver } = channel;
    let inward = async {
        while let Ok(Some(bytes)) = from_client.recv().await {
            if sender.send(DATA, bytes).await.is_err() {
                return;
            }
        }
        sender.end(DATA).ok();
    };
    let outward = async {
        loop {
            let data = match receiver.recv().await {
                Ok(Some(data)) => data,
                Ok(None) => break,
                Err(lost) => {
                    error.send.send(lost.to_string().into()).await.ok();
                    break;
                }
            };
            let sent = if data.stream == ERROR {
                error.send.send(data.bytes).await
            } else {
                pass_on(&mut to_client, data.bytes, data.end).await
            };
            if sent.is_err() {
                break;
            }
        }
        finish([&mut error.send, &mut to_client]).await;
    };
    tokio::pin!(inward, outward);
    // The pod may answer long after the client has said everything.
    tokio::select! {
        () = &mut inward => outward.await,
        () = &mut outward => {}
    }
    sender.close("");
}

async fn pass_on(to: &mut SendHalf, bytes: Bytes, end: bool) -> Result<(), Error> {
    to.send(bytes).await?;
    if end { to.end().await } else { Ok(()) }
}
