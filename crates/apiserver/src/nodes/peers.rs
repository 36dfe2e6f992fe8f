//! Channels to nodes through other servers.

use super::{NodeChannel, NodeLink, OpenError};
use kybern_api::error::{Reason, Status};
use kybern_wire::node::relay_client::RelayClient;
use kybern_wire::node::{RelayFrame, Server, open};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;

/// How long a peer may take to open the channel at the node; that it can be reached at all is bounded by
/// the connect deadline of [`Connect`].
const PEER_DEADLINE: Duration = Duration::from_secs(30);

/// Servers that may have a stream to a node that this one has not.
#[async_trait::async_trait]
pub trait Peers: Send + Sync {
    /// Opens a channel through whichever peer has the node; None when none has.
    async fn open(&self, node: &str, what: open::What) -> Result<Option<NodeChannel>, Status>;
}

/// Makes a channel to a server's API address, lazily connected, with this server's certificate.
pub type Connect = Arc<dyn Fn(&str) -> Channel + Send + Sync>;

/// Peers reached over the `Relay` service.
pub struct GrpcPeers {
    own: u64,
    servers: watch::Receiver<Vec<Server>>,
    connect: Connect,
    channels: Mutex<HashMap<String, Channel>>,
}

impl GrpcPeers {
    /// `own` is this server's id among `servers`.
    pub fn new(own: u64, servers: watch::Receiver<Vec<Server>>, connect: Connect) -> Self {
        Self { own, servers, connect, channels: Mutex::new(HashMap::new()) }
    }

    /// Connects anew from now on; channels that are open stay.
    pub fn reconnect(&self) {
        self.channels.lock().clear();
    }

    fn channel(&self, address: &str) -> Channel {
        self.channels.lock().entry(address.to_owned()).or_insert_with(|| (self.connect)(address)).clone()
    }

    fn addresses(&self) -> Vec<String> {
        let servers = self.servers.borrow();
        let addresses: Vec<String> = servers.iter().filter(|s| s.id != self.own).map(|s| s.address.clone()).collect();
        self.channels.lock().retain(|a, _| addresses.contains(a));
        addresses
    }
}

#[async_trait::async_trait]
impl Peers for GrpcPeers {
    async fn open(&self, node: &str, what: open::What) -> Result<Option<NodeChannel>, Status> {
        for address in self.addresses() {
            match tokio::time::timeout(PEER_DEADLINE, relay(self.channel(&address), node, what.clone())).await {
                Ok(Ok(Some(channel))) => return Ok(Some(channel)),
                Ok(Ok(None)) => {}
                Ok(Err(status)) => return Err(status),
                Err(_) => tracing::debug!(address, node, "peer did not answer in time"),
            }
        }
        Ok(None)
    }
}

/// One channel through one peer: a link of its own, with one channel on it.
async fn relay(channel: Channel, node: &str, what: open::What) -> Result<Option<NodeChannel>, Status> {
    let (out, queue) = mpsc::unbounded_channel();
    let link = NodeLink::new(out);
    let mut name = Some(node.to_owned());
    let frames = UnboundedReceiverStream::new(queue)
        .map(move |frame| RelayFrame { node: name.take().unwrap_or_default(), frame: Some(frame) });
    let opening = link.open(what);
    let calling = async {
        match RelayClient::new(channel).open(frames).await {
            Ok(answer) => {
                let (mut answer, link) = (answer.into_inner(), link.clone());
                // Ends with the channel: the peer ends its answer then, and a lost peer ends it too.
                tokio::spawn(async move {
                    while let Ok(Some(frame)) = answer.message().await {
                        link.deliver(frame);
                    }
                    link.close();
                });
            }
            Err(status) => {
                if status.code() != tonic::Code::NotFound {
                    tracing::debug!(node, %status, "peer cannot relay");
                }
                link.close();
            }
        }
    };
    match tokio::join!(opening, calling).0 {
        Ok(channel) => Ok(Some(channel)),
        Err(OpenError::Lost) => Ok(None),
        Err(OpenError::Refused(status)) => Err(status),
        Err(OpenError::TimedOut) => {
            Err(Status::new(Reason::Timeout, format!("node \"{node}\" did not answer in time")))
        }
    }
}
