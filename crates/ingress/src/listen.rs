//! The sockets: accepts, speaks TLS and HTTP, and lets go in order.

use crate::proxy::{Answer, Incomer, Proxy};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once; more wait in the kernel.
const CONNECTIONS: usize = 8192;
/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's head, and be idle before it.
const HEAD: Duration = Duration::from_secs(60);
/// Largest head of a request.
const HEAD_SIZE: usize = 64 << 10;
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 128;
/// A client that is gone without a word is noticed after about two of these.
const PING: Duration = Duration::from_secs(30);
/// How long requests may go on when the proxy is to end.
const DRAIN: Duration = Duration::from_secs(5);
/// After accepting failed: there may be no file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Plain HTTP.
    pub http: SocketAddr,
    /// TLS.
    pub https: SocketAddr,
}

/// Bound sockets.
#[derive(Debug)]
pub struct Listeners {
    http: TcpListener,
    https: TcpListener,
}

impl Listeners {
    /// Binds both.
    ///
    /// # Errors
    /// When one is in use.
    pub async fn bind(config: &Config) -> io::Result<Self> {
        let bind = async |at: SocketAddr| {
            TcpListener::bind(at).await.map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {at}: {e}")))
        };
        Ok(Self { http: bind(config.http).await?, https: bind(config.https).await? })
    }
    /// The addresses: HTTP, TLS.
    ///
    /// # Errors
    /// When the sockets are gone.
    pub fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.http.local_addr()?, self.https.local_addr()?))
    }
    /// Serves until `cancel`, then lets requests that have begun come to their end.
    pub async fn serve(self, proxy: Arc<Proxy>, tls: Arc<ServerConfig>, cancel: CancellationToken) {
        let shared = Shared {
            proxy,
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            tracker: TaskTracker::new(),
            cancel: cancel.clone(),
        };
        let accepting = async {
            tokio::join!(shared.accept(&self.http, None), shared.accept(&self.https, Some(TlsAcceptor::from(tls))));
        };
        cancel.run_until_cancelled(accepting).await;
        drop((self.http, self.https));
        shared.tracker.close();
        shared.tracker.wait().await;
    }
}

#[derive(Clone)]
struct Shared {
    proxy: Arc<Proxy>,
    permits: Arc<Semaphore>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Shared {
    async fn accept(&self, listener: &TcpListener, tls: Option<TlsAcceptor>) {
        let port = listener.local_addr().map_or(0, |a| a.port());
        loop {
            // The semaphore is never closed.
            let Ok(permit) = self.permits.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let from = Incomer { client: peer.ip(), port, tls: tls.is_some() };
                    self.tracker.spawn(self.clone().connection(stream, from, tls.clone(), permit));
                }
                Err(e) => {
                    tracing::debug!("a connection was not accepted: {e}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connection(
        self,
        stream: TcpStream,
        from: Incomer,
        tls: Option<TlsAcceptor>,
        _permit: OwnedSemaphorePermit,
    ) {
        if let Err(e) = stream.set_nodelay(true) {
            tracing::debug!(client = %from.client, "{e}");
        }
        let Some(tls) = tls else { return self.http1(stream, from).await };
        let shaken = self.cancel.run_until_cancelled(tokio::time::timeout(HANDSHAKE, tls.accept(stream))).await;
        match shaken {
            Some(Ok(Ok(stream))) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => self.http2(stream, from).await,
            Some(Ok(Ok(stream))) => self.http1(stream, from).await,
            Some(Ok(Err(e))) => tracing::debug!(client = %from.client, "no TLS: {e}"),
            Some(Err(_)) => tracing::debug!(client = %from.client, "the TLS handshake took too long"),
            None => {}
        }
    }

    async fn http1(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, from: Incomer) {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_SIZE);
        let connection = builder.serve_connection(TokioIo::new(stream), self.service(from)).with_upgrades();
        self.to_its_end(connection, from, |c| c.graceful_shutdown()).await;
    }

    async fn http2(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, from: Incomer) {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PING);
        builder.max_concurrent_streams(STREAMS).max_header_list_size(HEAD_SIZE as u32);
        let connection = builder.serve_connection(TokioIo::new(stream), self.service(from));
        self.to_its_end(connection, from, |c| c.graceful_shutdown()).await;
    }

    fn service(
        &self,
        from: Incomer,
    ) -> impl HttpService<Incoming, ResBody = Answer, Error = Infallible, Future: Send + 'static> + Send + 'static + use<>
    {
        let proxy = self.proxy.clone();
        service_fn(move |request: Request<Incoming>| {
            let proxy = proxy.clone();
            async move { Ok::<_, Infallible>(proxy.serve(request, from).await) }
        })
    }

    /// Serves a connection; requests that go on when the proxy is to end have some time left.
    async fn to_its_end<C>(&self, connection: C, from: Incomer, shut_down: impl FnOnce(Pin<&mut C>))
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut connection = pin!(connection);
        let done = tokio::select! {
            done = &mut connection => Ok(done),
            () = self.cancel.cancelled() => {
                shut_down(connection.as_mut());
                tokio::time::timeout(DRAIN, connection).await
            }
        };
        ended(from, done);
    }
}

/// Clients go as they like: how is nothing but a detail.
fn ended(from: Incomer, done: Result<hyper::Result<()>, tokio::time::error::Elapsed>) {
    match done {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::debug!(client = %from.client, "a connection ended: {e}"),
        Err(_) => tracing::debug!(client = %from.client, "a connection was cut off in the middle of a request"),
    }
}
