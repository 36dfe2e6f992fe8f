//! gRPC connections to servers.

use kybern_client::http::Connector;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// Makes a lazily connected channel to `host:port`; None for a malformed address.
pub type Connect = Arc<dyn Fn(&str) -> Option<Channel> + Send + Sync>;

/// How long TCP and TLS may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// A server that is cut off without a word is noticed after about two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Connections over TLS. The configuration is asked for at each connection, so that a renewed
/// certificate is shown from the next one on.
pub fn tls_connect(config: impl Fn() -> Arc<rustls::ClientConfig> + Send + Sync + 'static) -> Connect {
    Arc::new(move |address| Some(endpoint(address)?.connect_with_connector_lazy(Connector::new(config()))))
}

/// An endpoint with the deadlines that fail-over needs. The scheme is plain: TLS is the connector's.
pub(super) fn endpoint(address: &str) -> Option<Endpoint> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    Some(
        endpoint
            .connect_timeout(CONNECT_DEADLINE)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true),
    )
}
