//! HTTP/2 without TLS to endpoints: one connection to each, which all its requests share.
//!
//! A pool that finds connections by the request's authority would not do: a backend is to see the host that
//! the client asked for, not its own address.

use crate::body::Lent;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
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
#[derive(Debug)]
pub(crate) struct Http2 {
    connect: Duration,
    known: Mutex<HashMap<SocketAddr, SendRequest<Lent>>>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Http2 {
    /// None yet. A connection may take `connect` to come about; all end with `cancel`.
    pub(crate) fn new(connect: Duration, cancel: CancellationToken) -> Self {
        Self { connect, known: Mutex::default(), tracker: TaskTracker::new(), cancel }
    }

    /// The endpoint's answer.
    pub(crate) async fn send(&self, to: &SocketAddr, request: Request<Lent>) -> Result<Response<Incoming>, Error> {
        let known = self.known.lock().get(to).filter(|s| !s.is_closed()).cloned();
        let mut sender = match known {
            Some(sender) => sender,
            None => self.connect(to).await?,
        };
        sender.send_request(request).await.map_err(Error::Send)
    }

    async fn connect(&self, to: &SocketAddr) -> Result<SendRequest<Lent>, Error> {
        let stream =
            tokio::time::timeout(self.connect, TcpStream::connect(to)).await.map_err(std::io::Error::from)??;
        stream.set_nodelay(true)?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PING);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(Error::Handshake)?;
        let (cancel, endpoint) = (self.cancel.clone(), *to);
        self.tracker.spawn(async move {
            if let Some(Err(e)) = cancel.run_until_cancelled(connection).await {
                tracing::debug!(%endpoint, "a connection ended: {e}");
            }
        });
        let mut known = self.known.lock();
        known.retain(|_, s| !s.is_closed());
        known.insert(*to, sender.clone());
        Ok(sender)
    }
}
