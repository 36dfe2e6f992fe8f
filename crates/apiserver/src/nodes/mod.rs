//! The nodes' reverse streams: which nodes are connected here, and channels opened to them.
//!
//! A node keeps a stream to every server. When a request reaches the one server that has none (yet),
//! the channel is opened through a peer that has ([`Peers`]).

mod frames;
pub mod peers;
pub(crate) mod policy;

use bytes::Bytes;
use frames::{ToNodeQueue, close_reason, to_body};
use futures::Stream;
use kybern_api::error::{Reason, Status};
use kybern_stream::mux::{Body, Channel, ChannelError, Link};
use kybern_wire::node::{FromNode, Open, Opened, ToNode, from_node, open, to_node};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

pub(crate) use frames::from_body;
pub use peers::Peers;

/// How long a node may take to set a channel up. Longer than a busy runtime needs for an exec.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// A channel that the node has accepted.
#[derive(Debug)]
pub struct NodeChannel {
    /// The node's answer.
    pub opened: Opened,
    /// The streams.
    pub channel: Channel,
}

impl NodeChannel {
    /// What the node sends on its only stream. After an error nothing more comes.
    pub(crate) fn bytes(self) -> impl Stream<Item = Result<Bytes, ChannelError>> + Send + 'static {
        // The sender goes along: without it the channel would count as abandoned.
        futures::stream::unfold(Some(self.channel), |channel| async move {
            let mut channel = channel?;
            loop {
                match channel.receiver.recv().await {
                    Ok(Some(data)) if data.bytes.is_empty() => {}
                    Ok(Some(data)) => return Some((Ok(data.bytes), Some(channel))),
                    Ok(None) => return None,
                    Err(e) => return Some((Err(e), None)),
                }
            }
        })
    }
}

/// The nodes this server can reach.
#[derive(Default)]
pub struct Nodes {
    local: Mutex<HashMap<String, Arc<NodeLink>>>,
    peers: OnceLock<Arc<dyn Peers>>,
}

impl std::fmt::Debug for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nodes").field("connected", &self.connected()).finish_non_exhaustive()
    }
}

/// One node's reverse stream.
#[derive(Debug)]
pub struct NodeLink {
    link: Arc<Link>,
    out: mpsc::UnboundedSender<ToNode>,
    next: AtomicU64,
    /// Channels that the node has not answered for.
    opening: Mutex<HashMap<u64, oneshot::Sender<Result<Opened, ChannelError>>>>,
}

impl Nodes {
    /// No nodes, no peers.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }
    /// Where to look for nodes that are not connected here. Only the first call counts.
    pub fn set_peers(&self, peers: Arc<dyn Peers>) {
        self.peers.set(peers).ok();
    }
    /// Names of the nodes connected here, sorted.
    pub fn connected(&self) -> Vec<String> {
        let mut names: Vec<String> = self.local.lock().keys().cloned().collect();
        names.sort();
        names
    }
    /// A node's new stream takes the place of its former one. What is to be sent to the node comes out of
    /// the receiver; what comes from it goes to [`NodeLink::deliver`]; [`Nodes::detach`] at the end.
    pub fn attach(&self, node: &str) -> (Arc<NodeLink>, mpsc::UnboundedReceiver<ToNode>) {
        let (out, queue) = mpsc::unbounded_channel();
        let link = NodeLink::new(out);
        let former = self.local.lock().insert(node.to_owned(), link.clone());
        if let Some(former) = former {
            former.close();
        }
        tracing::info!(node, "node connected");
        (link, queue)
    }
    /// The stream is gone; a newer one of the same node stays.
    pub fn detach(&self, node: &str, link: &Arc<NodeLink>) {
        link.close();
        let mut local = self.local.lock();
        if local.get(node).is_some_and(|l| Arc::ptr_eq(l, link)) {
            local.remove(node);
            tracing::info!(node, "node disconnected");
        }
    }
    /// Opens a channel to a node, here or through a peer.
    ///
    /// # Errors
    /// 503 naming the node when no server has a stream to it; what the node answered otherwise.
    pub async fn open(&self, node: &str, what: open::What) -> Result<NodeChannel, Status> {
        if let Some(channel) = self.open_here(node, what.clone()).await? {
            return Ok(channel);
        }
        if let Some(peers) = self.peers.get()
            && let Some(channel) = peers.open(node, what).await?
        {
            return Ok(channel);
        }
        Err(Status::new(Reason::ServiceUnavailable, format!("node \"{node}\" is not connected to any server")))
    }
    /// The same among the nodes connected here; None: it is not connected, or was lost meanwhile.
    ///
    /// # Errors
    /// What the node answered.
    pub async fn open_here(&self, node: &str, what: open::What) -> Result<Option<NodeChannel>, Status> {
        let Some(link) = self.local.lock().get(node).cloned() else { return Ok(None) };
        match link.open(what).await {
            Ok(channel) => Ok(Some(channel)),
            Err(OpenError::Lost) => Ok(None),
            Err(OpenError::Refused(status)) => Err(status),
            Err(OpenError::TimedOut) => {
                Err(Status::new(Reason::Timeout, format!("node \"{node}\" did not answer in time")))
            }
        }
    }
}

/// Why a channel did not come about.
pub(crate) enum OpenError {
    /// The link is gone; the node may be reachable otherwise.
    Lost,
    /// The node said no.
    Refused(Status),
    /// The node said nothing.
    TimedOut,
}

impl NodeLink {
    fn new(out: mpsc::UnboundedSender<ToNode>) -> Arc<Self> {
        let link = Link::new(out.clone().into_out());
        Arc::new(Self { link, out, next: AtomicU64::new(1), opening: Mutex::new(HashMap::new()) })
    }
    /// Takes in a frame from the node.
    pub fn deliver(&self, frame: FromNode) {
        let id = frame.channel;
        match frame.frame {
            Some(from_node::Frame::Opened(opened)) => self.answer(id, Ok(opened)),
            Some(from_node::Frame::Close(close)) => {
                self.answer(id, Err(ChannelError::Remote(close.error.clone())));
                self.link.deliver(id, Body::Close(close.error));
            }
            Some(frame) => {
                if let Some(body) = to_body(frame) {
                    self.link.deliver(id, body);
                }
            }
            None => {}
        }
    }

    fn answer(&self, id: u64, answer: Result<Opened, ChannelError>) {
        if let Some(waiting) = self.opening.lock().remove(&id) {
            waiting.send(answer).ok();
        }
    }

    pub(crate) fn close(&self) {
        self.link.close();
        self.opening.lock().clear();
    }
    /// Opens a channel and waits for the node's answer.
    pub(crate) async fn open(&self, what: open::What) -> Result<NodeChannel, OpenError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let channel = self.link.register(id).ok_or(OpenError::Lost)?;
        let (answer, answered) = oneshot::channel();
        self.opening.lock().insert(id, answer);
        let frame = ToNode { channel: id, frame: Some(to_node::Frame::Open(Open { what: Some(what) })) };
        let sent = self.out.send(frame).is_ok() && !self.link.is_closed();
        let answer =
            if sent { tokio::time::timeout(OPEN_DEADLINE, answered).await } else { Ok(Ok(Err(ChannelError::Lost))) };
        self.opening.lock().remove(&id);
        match answer {
            Ok(Ok(Ok(opened))) => Ok(NodeChannel { opened, channel }),
            Ok(Ok(Err(ChannelError::Remote(text)))) => Err(OpenError::Refused(close_reason(&text))),
            Ok(_) => Err(OpenError::Lost),
            Err(_) => Err(OpenError::TimedOut),
        }
    }
}

#[cfg(test)]
mod tests;
