//! HTTP/2 to endpoints, with and without TLS: one connection to each, which all its requests share.
//!
//! A pool that finds connections by the request's authority would not do: a backend is to see the host that
//! the client asked for, not its own address.

use crate::body::Lent;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kybern_client::http::any_certificate;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// An endpoint that is gone without a word is noticed after about two of these.
const PING: Duration = Duration::from_secs(10);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no connection: nothing was sent.
    #[error("no connection came about")]
    Connect(#[from] std::io::Error),
    /// Shaking hands failed: nothing was sent.
    #[error("no HTTP/2 connection came about")]
    Handshake(#[source] hyper::Error),
    /// It may have been sent.
    #[error("the connection failed")]
    Send(#[source] hyper::Error),
}

impl Error {
    /// Is it certain that nothing was sent?
    pub(crate) fn is_unsent(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Handshake(_) => true,
            Self::Send(e) => e.is_canceled(),
        }
    }
}

/// The connections.
pub(crate) struct Http2 {
    connect: Duration,
    tls: TlsConnector,
    known: Mutex<HashMap<(SocketAddr, bool), SendRequest<Lent>>>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl std::fmt::Debug for Http2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http2").field("known", &self.known.lock().len()).finish_non_exhaustive()
    }
}

impl Http2 {
    /// None yet. A connection may take `connect` to come about; all end with `cancel`.
    pub(crate) fn new(connect: Duration, cancel: CancellationToken) -> Self {
        let tls = TlsConnector::from(any_certificate(&[b"h2"]));
        Self { connect, tls, known: Mutex::default(), tracker: TaskTracker::new(), cancel }
    }

    /// The endpoint's answer, over TLS or not.
    pub(crate) async fn send(
        &self,
        to: SocketAddr,
        tls: bool,
        request: Request<Lent>,
    ) -> Result<Response<Incoming>, Error> {
        let known = self.known.lock().get(&(to, tls)).filter(|s| !s.is_closed()).cloned();
        let mut sender = match known {
            Some(sender) => sender,
            None => self.connect(to, tls).await?,
        };
        sender.send_request(request).await.map_err(Error::Send)
    }

    async fn connect(&self, to: SocketAddr, tls: bool) -> Result<SendRequest<Lent>, Error> {
        let opened = async {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            if !tls {
                return self.shake_hands(to, stream).await;
            }
            let stream = self.tls.connect(ServerName::IpAddress(to.ip().into()), stream).await?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err(Error::Connect(std::io::Error::other("the endpoint speaks no HTTP/2 over TLS")));
            }
            self.shake_hands(to, stream).await
        };
        let sender = tokio::time::timeout(self.connect, opened).await.map_err(std::io::Error::from)??;
        let mut known = self.known.lock();
        known.retain(|_, s| !s.is_closed());
        known.insert((to, tls), sender.clone());
        Ok(sender)
    }

    async fn shake_hands(
        &self,
        endpoint: SocketAddr,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<SendRequest<Lent>, Error> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PING);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(Error::Handshake)?;
        let cancel = self.cancel.clone();
        self.tracker.spawn(async move {
            if let Some(Err(e)) = cancel.run_until_cancelled(connection).await {
                tracing::debug!(%endpoint, "a connection ended: {e}");
            }
        });
        Ok(sender)
    }
}
