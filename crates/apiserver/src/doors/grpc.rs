//! The agents' door: the node protocol, entering the corridor with the identity of each call.

use crate::doors::feed;
use crate::doors::relay::RelayDoor;
use crate::nodes::{NodeLink, Nodes};
use crate::present::body::Body;
use crate::server::ApiServer;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::{BodyExt, Full, Limited};
use kybern_api::attributes::UserInfo;
use kybern_api::error::{Reason, Status};
use kybern_authn::Credentials;
use kybern_wire::node::node_server::{Node, NodeServer};
use kybern_wire::node::relay_server::RelayServer;
use kybern_wire::node::{
    Blob, BlobChunk, BlobRequest, CallRequest, CallResponse, FeedEvent, FeedRequest, FromNode, PoliciesRequest,
    PolicyUpdate, ServerList, ServersRequest, ToNode, from_node, open,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream, WatchStream};
use tonic::server::NamedService;
use tonic::{Request, Response, Streaming};
use tower_service::Service;

/// Largest message of an agent: a status write carries an object.
const MAX_MESSAGE: usize = 4 << 20;
/// Largest answer to an agent's call: a page of objects.
const MAX_ANSWER: usize = 32 << 20;
/// The agents' name as managers of what they write.
const AGENT: &str = "kybern-agent";
/// How long an agent may take to say who it is on a reverse stream.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// The peer's certificate chain in DER, leaf first, as the listener puts it into a request's extensions.
#[derive(Debug, Clone, Default)]
pub struct PeerChain(pub Arc<Vec<Vec<u8>>>);

/// Where a connection comes from, likewise.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub IpAddr);

/// The node service.
#[derive(Debug, Clone)]
pub struct NodeDoor(pub(super) ApiServer);

impl NodeDoor {
    /// Runs a task of a stream until it ends or the server drains.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let drain = self.0.0.drain.clone();
        self.0.0.tasks.spawn(async move {
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
        let now = self.0.0.clock.now().as_second();
        self.0.0.authenticate(Credentials { chain: &chain.0, bearer, path, now, audiences: &[] }).await.map_err(to_grpc)
    }
}

impl ApiServer {
    /// Serves a gRPC call of the node protocol; None when the path is none of it.
    pub(crate) async fn grpc<B>(&self, request: http::Request<B>) -> Result<http::Response<Body>, http::Request<B>>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let served = if service == NodeServer::<NodeDoor>::NAME {
            NodeServer::new(NodeDoor(self.clone())).max_decoding_message_size(MAX_MESSAGE).call(request).await
        } else if service == RelayServer::<RelayDoor>::NAME {
            RelayServer::new(RelayDoor(NodeDoor(self.clone()))).call(request).await
        } else {
            return Err(request);
        };
        let Ok(response) = served;
        Ok(response.map(Body::foreign))
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

/// A call as the HTTP request that it stands for, with its credentials.
fn http_request(call: Request<CallRequest>) -> Result<http::Request<Full<Bytes>>, tonic::Status> {
    let (metadata, extensions, call) = call.into_parts();
    let mut builder = http::Request::builder().method(call.method.as_str()).uri(call.path);
    if !call.content_type.is_empty() {
        builder = builder.header(http::header::CONTENT_TYPE, call.content_type);
    }
    if let Some(token) = metadata.get("authorization") {
        builder = builder.header(http::header::AUTHORIZATION, token.as_bytes());
    }
    if let Some(chain) = extensions.get::<PeerChain>() {
        builder = builder.extension(chain.clone());
    }
    if let Some(address) = extensions.get::<PeerAddress>() {
        builder = builder.extension(*address);
    }
    let request = builder.header(http::header::USER_AGENT, AGENT).body(Full::new(call.body));
    request.map_err(|e| tonic::Status::invalid_argument(e.to_string()))
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
    type BlobStream = Answers<BlobChunk>;
    type PoliciesStream = Answers<PolicyUpdate>;

    async fn feed(
        &self,
        request: Request<Streaming<FeedRequest>>,
    ) -> Result<Response<Self::FeedStream>, tonic::Status> {
        let user = self.user(&request, "/kybern.node.v1.Node/Feed").await?;
        let (events, task) = feed::run(self.0.transport(user, AGENT), request.into_inner());
        self.spawn(task);
        Ok(Response::new(events.map(Ok).boxed()))
    }

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallResponse>, tonic::Status> {
        let response = self.0.handle(http_request(request)?).await;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|e| tonic::Status::out_of_range(e.to_string()))?.to_bytes();
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
        let (link, queue) = self.0.nodes().attach(&node);
        let attached = Attached { nodes: self.0.nodes().clone(), node, link };
        self.spawn(async move {
            while let Ok(Some(frame)) = frames.message().await {
                attached.link.deliver(frame);
            }
        });
        let ended = self.0.0.drain.clone().cancelled_owned();
        Ok(Response::new(UnboundedReceiverStream::new(queue).map(Ok).take_until(ended).boxed()))
    }

    async fn servers(&self, request: Request<ServersRequest>) -> Result<Response<Self::ServersStream>, tonic::Status> {
        self.user(&request, "/kybern.node.v1.Node/Servers").await?;
        let lists = WatchStream::new(self.0.0.servers.subscribe()).map(|servers| Ok(ServerList { servers }));
        Ok(Response::new(lists.take_until(self.0.0.drain.clone().cancelled_owned()).boxed()))
    }

    /// Any node may have any node's image content: whoever asks by digest knows what it is, and has learnt the
    /// digest from a registry that let it in.
    async fn blob(&self, request: Request<BlobRequest>) -> Result<Response<Self::BlobStream>, tonic::Status> {
        let user = self.user(&request, "/kybern.node.v1.Node/Blob").await?;
        user.node_name().ok_or_else(|| tonic::Status::permission_denied("not a node"))?;
        let BlobRequest { node, digest, offset } = request.into_inner();
        let channel = self.0.0.nodes.open(&node, open::What::Blob(Blob { digest, offset })).await.map_err(to_grpc)?;
        let head = BlobChunk { size: channel.opened.length, bytes: Bytes::new() };
        let rest = channel.bytes().map(|bytes| match bytes {
            Ok(bytes) => Ok(BlobChunk { size: 0, bytes }),
            Err(e) => Err(tonic::Status::unavailable(e.to_string())),
        });
        let chunks = futures::stream::iter([Ok(head)]).chain(rest);
        Ok(Response::new(chunks.take_until(self.0.0.drain.clone().cancelled_owned()).boxed()))
    }

    async fn policies(
        &self,
        request: Request<PoliciesRequest>,
    ) -> Result<Response<Self::PoliciesStream>, tonic::Status> {
        let user = self.user(&request, "/kybern.node.v1.Node/Policies").await?;
        let node = user.node_name().filter(|node| !node.is_empty());
        let node = node.ok_or_else(|| tonic::Status::permission_denied("not a node"))?;
        let (updates, task) = self.0.0.policies.follow(&self.0, node);
        self.spawn(task);
        let ended = self.0.0.drain.clone().cancelled_owned();
        Ok(Response::new(ReceiverStream::new(updates).map(Ok).take_until(ended).boxed()))
    }
}
