//! The agents' door: the node protocol, entering the corridor with the identity of each call.

use crate::doors::feed;
use crate::nodes::{NodeLink, Nodes};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use kybern_api::attributes::UserInfo;
use kybern_api::error::{Reason, Status};
use kybern_api::object::{EventType, Object};
use kybern_wire::node::node_server::{Node, NodeServer};
use kybern_wire::node::{
    CallRequest, CallResponse, FeedEvent, FeedRequest, FromNode, Server, ServerList, ServersRequest, ToNode, from_node,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_stream::wrappers::{UnboundedReceiverStream, WatchStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Streaming};

/// Largest message of an agent: a status write carries an object.
const MAX_MESSAGE: usize = 4 << 20;
/// How long an agent may take to say who it is on a reverse stream.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// The peer's certificate chain in DER, leaf first, as the listener puts it into a request's extensions.
#[derive(Debug, Clone, Default)]
pub struct PeerChain(pub Arc<Vec<Vec<u8>>>);

/// What a watch selects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// API group, empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural.
    pub resource: String,
    /// Namespace; empty: all.
    pub namespace: String,
    /// Field selector; empty: all.
    pub fields: String,
    /// Label selector; empty: all.
    pub labels: String,
}

/// One item of a watch.
#[derive(Debug, Clone)]
pub enum Change {
    /// An object as the watch sees it; of a deleted one, the last state with the deleting revision.
    Object(EventType, Object),
    /// All changes up to this revision have been delivered.
    Bookmark(u64),
}

/// The corridor as this door enters it. Every call is authorised for the user it names.
#[async_trait::async_trait]
pub trait Corridor: Send + Sync + 'static {
    /// Who holds these credentials; `path` is the gRPC method's.
    ///
    /// # Errors
    /// 401.
    async fn authenticate(&self, chain: &[Vec<u8>], bearer: Option<&str>, path: &str) -> Result<UserInfo, Status>;
    /// One API request, answered with an object or a Status.
    async fn call(&self, user: &UserInfo, request: http::Request<Bytes>) -> http::Response<Bytes>;
    /// The selected objects and the revision of the snapshot.
    ///
    /// # Errors
    /// As any list.
    async fn list(&self, user: &UserInfo, selection: &Selection) -> Result<(u64, Vec<Object>), Status>;
    /// Changes after a revision. The stream ends when the server says so; Expired: list again.
    ///
    /// # Errors
    /// As any watch.
    async fn watch(
        &self,
        user: &UserInfo,
        selection: &Selection,
        after: u64,
    ) -> Result<BoxStream<'static, Result<Change, Status>>, Status>;
}

/// The node service.
#[derive(Clone)]
pub struct NodeDoor {
    pub(super) corridor: Arc<dyn Corridor>,
    pub(super) nodes: Arc<Nodes>,
    servers: watch::Receiver<Vec<Server>>,
    /// Owns the tasks that outlive their calls' first answer.
    tasks: TaskTracker,
    /// Ends every stream.
    drain: CancellationToken,
}

impl NodeDoor {
    /// `servers` are the API addresses of all live servers.
    pub fn new(
        corridor: Arc<dyn Corridor>,
        nodes: Arc<Nodes>,
        servers: watch::Receiver<Vec<Server>>,
        tasks: TaskTracker,
        drain: CancellationToken,
    ) -> Self {
        Self { corridor, nodes, servers, tasks, drain }
    }
    /// As a gRPC service for the API port.
    pub fn into_service(self) -> NodeServer<Self> {
        NodeServer::new(self).max_decoding_message_size(MAX_MESSAGE)
    }
    /// Runs a task of a stream until it ends or the server drains.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let drain = self.drain.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = drain.cancelled() => {}
            }
        });
    }
    /// Who makes this call.
    pub(super) async fn user<T>(&self, request: &Request<T>, path: &str) -> Result<UserInfo, tonic::Status> {
        let chain = request.extensions().get::<PeerChain>().cloned().unwrap_or_default();
        let header = request.metadata().get("authorization").and_then(|v| v.to_str().ok());
        let bearer = header.and_then(|h| h.strip_prefix("Bearer "));
        self.corridor.authenticate(&chain.0, bearer, path).await.map_err(to_grpc)
    }
}

/// A node's stream while it lasts: gone from the registry when dropped.
struct Attached {
    nodes: Arc<Nodes>,
    node: String,
    link: Arc<NodeLink>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.nodes.detach(&self.node, &self.link);
    }
}

/// A Status in gRPC's terms.
pub(super) fn to_grpc(status: Status) -> tonic::Status {
    let code = match status.reason {
        Reason::Unauthorized => tonic::Code::Unauthenticated,
        Reason::Forbidden => tonic::Code::PermissionDenied,
        Reason::NotFound => tonic::Code::NotFound,
        Reason::BadRequest | Reason::Invalid => tonic::Code::InvalidArgument,
        Reason::Timeout => tonic::Code::DeadlineExceeded,
        Reason::ServiceUnavailable | Reason::ServerTimeout => tonic::Code::Unavailable,
        Reason::TooManyRequests => tonic::Code::ResourceExhausted,
        _ => tonic::Code::Internal,
    };
    tonic::Status::with_details(code, status.message.clone(), status.to_json().into())
}

type Answers<T> = BoxStream<'static, Result<T, tonic::Status>>;

#[tonic::async_trait]
impl Node for NodeDoor {
    type FeedStream = Answers<FeedEvent>;
    type ReverseStream = Answers<ToNode>;
    type ServersStream = Answers<ServerList>;

    async fn feed(
        &self,
        request: Request<Streaming<FeedRequest>>,
    ) -> Result<Response<Self::FeedStream>, tonic::Status> {
        let user = self.user(&request, "/kybern.node.v1.Node/Feed").await?;
        let events = feed::run(self.corridor.clone(), user, request.into_inner(), &self.tasks, &self.drain);
        Ok(Response::new(events.map(Ok).boxed()))
    }

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallResponse>, tonic::Status> {
        let user = self.user(&request, "/kybern.node.v1.Node/Call").await?;
        let call = request.into_inner();
        let mut builder = http::Request::builder().method(call.method.as_str()).uri(call.path);
        if !call.content_type.is_empty() {
            builder = builder.header(http::header::CONTENT_TYPE, call.content_type);
        }
        let request = builder.body(call.body).map_err(|e| tonic::Status::invalid_argument(e.to_string()))?;
        let (head, body) = self.corridor.call(&user, request).await.into_parts();
        Ok(Response::new(CallResponse { code: head.status.as_u16().into(), body }))
    }

    async fn reverse(
        &self,
        request: Request<Streaming<FromNode>>,
    ) -> Result<Response<Self::ReverseStream>, tonic::Status> {
        let user = self.user(&request, "/kybern.node.v1.Node/Reverse").await?;
        let node = user.node_name().ok_or_else(|| tonic::Status::permission_denied("not a node"))?.to_owned();
        let mut frames = request.into_inner();
        let hello = tokio::time::timeout(HELLO_DEADLINE, frames.message()).await;
        match hello.map_err(|_| tonic::Status::deadline_exceeded("no hello"))??.and_then(|f| f.frame) {
            Some(from_node::Frame::Hello(hello)) if hello.node == node => {}
            _ => {
                return Err(tonic::Status::permission_denied(
                    "the first frame must say hello with the certificate's node",
                ));
            }
        }
        let (link, queue) = self.nodes.attach(&node);
        let attached = Attached { nodes: self.nodes.clone(), node, link };
        self.spawn(async move {
            while let Ok(Some(frame)) = frames.message().await {
                attached.link.deliver(frame);
            }
        });
        let ended = self.drain.clone().cancelled_owned();
        Ok(Response::new(UnboundedReceiverStream::new(queue).map(Ok).take_until(ended).boxed()))
    }

    async fn servers(&self, request: Request<ServersRequest>) -> Result<Response<Self::ServersStream>, tonic::Status> {
        self.user(&request, "/kybern.node.v1.Node/Servers").await?;
        let lists = WatchStream::new(self.servers.clone()).map(|servers| Ok(ServerList { servers }));
        Ok(Response::new(lists.take_until(self.drain.clone().cancelled_owned()).boxed()))
    }
}
