//! The node's way to the API: one server carries all watches and writes; when it is lost, the next one
//! takes over where it stopped.
//!
//! [`Feed`] is a [`Transport`] over the node protocol. Whoever runs the agent spawns [`Feed::run`].

mod connect;
mod servers;
mod session;
mod subscriptions;
#[cfg(test)]
mod tests;

pub use connect::{Connect, tls_connect};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kybern_api::error::{Reason, Status};
use kybern_api::object::Object;
use kybern_client::http::{list_pages, object_path, push_query};
use kybern_client::transport::{List, Resource, Selection, Target, Transport, WatchEvent, Write};
use kybern_client::wire;
use kybern_wire::node::node_client::NodeClient;
use kybern_wire::node::{CallRequest, CallResponse, PoliciesRequest, PolicyUpdate, Subscribe};
use servers::Servers;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use subscriptions::Subscriptions;
use tokio::sync::{Notify, watch};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

/// Limit of one call, the wait for a connected server included.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// A read that a lost server did not answer is asked again so often.
const READ_ATTEMPTS: u32 = 4;
/// Largest answer of a call: a page of objects.
const MAX_MESSAGE: usize = 64 << 20;

/// How to reach the servers, and as whom.
#[derive(Clone)]
pub struct FeedConfig {
    /// API addresses (`host:port`) to begin with, besides those known from earlier runs.
    pub servers: Vec<String>,
    /// Where the known servers are kept.
    pub known: PathBuf,
    /// Makes connections: decides on TLS and the client certificate.
    pub connect: Connect,
    /// A token, where there is no certificate.
    pub bearer: Option<String>,
}

/// A handle to the feed; clones share one connection.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

struct Shared {
    connect: Connect,
    bearer: ArcSwapOption<MetadataValue<Ascii>>,
    servers: Servers,
    subscriptions: Subscriptions,
    /// The server that carries the feed now.
    current: watch::Sender<Option<Channel>>,
    /// Asks for a new connection in place of the present one.
    again: Notify,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("servers", &self.shared.servers).finish_non_exhaustive()
    }
}

impl Feed {
    /// A feed that connects once [`Feed::run`] runs.
    ///
    /// # Errors
    /// When the bearer token cannot be sent in a header.
    pub fn new(config: FeedConfig) -> Result<Self, Status> {
        let bearer = config.bearer.as_deref().map(header).transpose()?;
        let shared = Shared {
            connect: config.connect,
            bearer: ArcSwapOption::from_pointee(bearer),
            servers: Servers::load(config.known, config.servers),
            subscriptions: Subscriptions::default(),
            current: watch::Sender::new(None),
            again: Notify::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
    /// Another token from the next call and connection on.
    ///
    /// # Errors
    /// When the token cannot be sent in a header.
    pub fn set_bearer(&self, token: &str) -> Result<(), Status> {
        self.shared.bearer.store(Some(Arc::new(header(token)?)));
        Ok(())
    }
    /// Connects anew: a certificate is shown once, at the beginning of a connection. Calls under way end on
    /// the connection that they began on, and watches go on where they stopped.
    pub fn reconnect(&self) {
        self.shared.again.notify_waiters();
    }
    /// The API addresses of all live servers as last heard.
    pub fn servers(&self) -> watch::Receiver<Vec<String>> {
        self.shared.servers.watch()
    }
    /// What the network policies come to for this node's pods, from the server that carries the feed, as long
    /// as it does.
    ///
    /// # Errors
    /// When the server refuses or is lost.
    pub async fn policies(&self) -> Result<impl Stream<Item = PolicyUpdate> + Send + use<>, Status> {
        let mut current = self.shared.current.subscribe();
        let mut client = self.shared.client(connected(&mut current).await);
        let request = self.shared.request(PoliciesRequest {});
        let updates = client.policies(request).await.map_err(|e| of_grpc(&e))?.into_inner();
        let moved = async move { drop(current.changed().await) };
        Ok(updates.scan((), |(), update| std::future::ready(update.ok())).take_until(moved))
    }
    /// One API request.
    ///
    /// # Errors
    /// The server's Status. Timeout: the outcome of a write is unknown.
    pub async fn call(&self, method: &str, path: &str, content_type: &str, body: Bytes) -> Result<Bytes, Status> {
        let request = CallRequest { method: method.into(), path: path.into(), content_type: content_type.into(), body };
        let attempts = if method == "GET" { READ_ATTEMPTS } else { 1 };
        let calling = async {
            let mut lost = Status::new(Reason::ServiceUnavailable, "no server is connected");
            for _ in 0..attempts {
                let channel = connected(&mut self.shared.current.subscribe()).await;
                match self.shared.call(channel.clone(), request.clone()).await {
                    Err(e) if e.details().is_empty() => lost = transport_failed(&e),
                    Err(e) => return Err(of_grpc(&e)),
                    Ok(answer) if (200..300).contains(&answer.code) => return Ok(answer.body),
                    Ok(answer) => return Err(refused(&answer)),
                }
            }
            Err(lost)
        };
        let timed_out = || Status::new(Reason::Timeout, "no server answered in time");
        tokio::time::timeout(CALL_DEADLINE, calling).await.unwrap_or_else(|_| Err(timed_out()))
    }
}

impl Shared {
    fn client(&self, channel: Channel) -> NodeClient<Channel> {
        NodeClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(bearer) = &*self.bearer.load() {
            request.metadata_mut().insert("authorization", MetadataValue::clone(bearer));
        }
        request
    }

    async fn call(&self, channel: Channel, request: CallRequest) -> Result<CallResponse, tonic::Status> {
        self.client(channel).call(self.request(request)).await.map(tonic::Response::into_inner)
    }
}

/// Waits for a server to carry the feed.
async fn connected(current: &mut watch::Receiver<Option<Channel>>) -> Channel {
    loop {
        if let Some(channel) = current.borrow_and_update().clone() {
            return channel;
        }
        if current.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The header with a token.
fn header(token: &str) -> Result<MetadataValue<Ascii>, Status> {
    format!("Bearer {token}").parse().map_err(|_| Status::bad_request("the token has unprintable characters"))
}

/// The connection broke: whether the request arrived is unknown.
fn transport_failed(e: &tonic::Status) -> Status {
    Status::new(Reason::Timeout, format!("the connection to the server broke: {}", e.message()))
}

/// What the server's door answered before the corridor.
fn of_grpc(e: &tonic::Status) -> Status {
    Status::from_json(500, e.details()).unwrap_or_else(|| Status::internal(e.message()))
}

fn refused(answer: &CallResponse) -> Status {
    let code = u16::try_from(answer.code).unwrap_or(500);
    Status::from_json(code, &answer.body).unwrap_or_else(|| Status::internal(format!("the server answered {code}")))
}

#[async_trait::async_trait]
impl Transport for Feed {
    async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Object, Status> {
        let body = self.call("GET", &object_path(resource, namespace, name, ""), "", Bytes::new()).await?;
        Ok(wire::object(&body)?)
    }

    async fn list(&self, resource: &Resource, selection: &Selection) -> Result<List, Status> {
        list_pages(resource, selection, |path| async move { self.call("GET", &path, "", Bytes::new()).await }).await
    }

    async fn watch(
        &self,
        resource: &Resource,
        selection: &Selection,
        revision: u64,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status> {
        let subscribe = Subscribe {
            id: 0,
            group: resource.group.clone(),
            version: resource.version.clone(),
            resource: resource.plural.clone(),
            namespace: selection.namespace.clone(),
            field_selector: selection.fields.clone(),
            label_selector: selection.labels.clone(),
            resource_version: revision,
        };
        Ok(self.shared.subscriptions.subscribe(subscribe))
    }

    async fn write(&self, target: &Target, write: Write) -> Result<Bytes, Status> {
        let (method, content_type, body) = match write {
            Write::Create(body) => ("POST", "application/json", body),
            Write::Update(body) => ("PUT", "application/json", body),
            Write::Patch(media_type, body) => ("PATCH", media_type, body),
            Write::Delete(body) => ("DELETE", "application/json", body),
        };
        let mut path = object_path(&target.resource, &target.namespace, &target.name, &target.subresource);
        push_query(&mut path, target.query.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        self.call(method, &path, content_type, body).await
    }
}
