//! Connections to the other members.
//!
//! A connection is made before a request is sent on it, so a failure to connect is certain not to have
//! sent anything. Heartbeats, votes and read barriers have connections of their own: a large transfer
//! does not hold them up.

use crate::types::MemberId;
use hyper_util::rt::TokioIo;
use kybern_wire::raft::peer_client::PeerClient;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};

/// Metadata: the cluster the caller belongs to.
pub(crate) const CLUSTER: &str = "kybern-cluster";
/// Metadata: the member the caller believes to be talking to.
pub(crate) const TARGET: &str = "kybern-member";

/// Most bytes of one message: a group of transactions, or a read of the log, with room to spare.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);
/// A connection whose peer has gone silent is given up after about twice this.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// Which connection a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Small and urgent.
    Control,
    /// Log entries, forwarded writes and snapshots.
    Bulk,
}

/// No connection: nothing was sent.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot connect to {address}: {reason}")]
pub(crate) struct NotConnected {
    address: String,
    reason: String,
}

/// A client of one member.
pub(crate) type Client = PeerClient<InterceptedService<Channel, Labels>>;

/// The metadata of every request.
#[derive(Clone)]
pub(crate) struct Labels {
    cluster: AsciiMetadataValue,
    target: Option<AsciiMetadataValue>,
}

impl Interceptor for Labels {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        request.metadata_mut().insert(CLUSTER, self.cluster.clone());
        if let Some(target) = &self.target {
            request.metadata_mut().insert(TARGET, target.clone());
        }
        Ok(request)
    }
}

/// Connections by address and lane.
pub(crate) struct Peers {
    tls: TlsConnector,
    cluster: AsciiMetadataValue,
    channels: Mutex<HashMap<(String, Lane), Channel>>,
}

impl Peers {
    /// No connections yet. The cluster's id must be visible ASCII.
    pub(crate) fn new(tls: &rustls::ClientConfig, cluster: &str) -> Result<Self, String> {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let cluster = cluster.parse().map_err(|_| format!("{cluster:?} is not a cluster id"))?;
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), cluster, channels: Mutex::default() })
    }

    /// A client of the member at an address. Without a target, whoever is there may answer.
    pub(crate) async fn client(
        &self,
        address: &str,
        lane: Lane,
        target: Option<MemberId>,
    ) -> Result<Client, NotConnected> {
        let channel = self.channel(address, lane).await?;
        let labels = Labels { cluster: self.cluster.clone(), target: target.map(MetadataValue::from) };
        let client = PeerClient::with_interceptor(channel, labels);
        Ok(client.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
    }

    /// Forgets a connection on which a request failed, so that the next one connects anew.
    pub(crate) fn forget(&self, address: &str, lane: Lane) {
        self.channels.lock().remove(&(address.to_owned(), lane));
    }

    async fn channel(&self, address: &str, lane: Lane) -> Result<Channel, NotConnected> {
        let key = (address.to_owned(), lane);
        if let Some(channel) = self.channels.lock().get(&key) {
            return Ok(channel.clone());
        }
        let not = |reason: String| NotConnected { address: address.to_owned(), reason };
        let channel = self.connect(address).await.map_err(not)?;
        Ok(self.channels.lock().entry(key).or_insert(channel).clone())
    }

    async fn connect(&self, address: &str) -> Result<Channel, String> {
        // The scheme is http because TLS is the connector's business, not tonic's.
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        let tls = self.tls.clone();
        let connector = tower::service_fn(move |uri: Uri| {
            let tls = tls.clone();
            async move { secure(&tls, &uri).await.map(TokioIo::new) }
        });
        let connecting = endpoint.connect_with_connector(connector);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(|error| root_cause(&error)),
            Err(_) => Err("timed out".into()),
        }
    }
}

async fn secure(tls: &TlsConnector, uri: &Uri) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let invalid = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a host and port");
    let host = uri.host().ok_or_else(invalid)?;
    let port = uri.port_u16().ok_or_else(invalid)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| invalid())?;
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    tls.connect(name, stream).await
}

/// The innermost reason: the layers around it only say "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
