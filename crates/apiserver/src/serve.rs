//! Accepts connections: TLS, HTTP/1.1 and HTTP/2 on one port, limits, and a drain with a deadline.

use crate::doors::grpc::{PeerAddress, PeerChain};
use crate::server::ApiServer;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Streams one client may have open on a connection.
const MAX_STREAMS: u32 = 250;
/// Pause after a failed accept.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
/// Bytes of a connection's headers.
const MAX_HEADERS: u32 = 1 << 20;
/// Flow-control windows: a list should not wait for the client's updates.
const WINDOW: u32 = 1 << 20;

impl ApiServer {
    /// Serves until `shutdown`, then lets open requests end within the drain timeout. `tls` None: plain
    /// HTTP, for tests on loopback.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        shutdown: CancellationToken,
    ) {
        self.0.tasks.spawn(crate::registry::kubernetes_service::keep(self.clone()));
        let acceptor = tls.map(TlsAcceptor::from);
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        // Out of descriptors: connections must end before more can be taken.
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
                () = shutdown.cancelled() => break,
            };
            let (server, acceptor) = (self.clone(), acceptor.clone());
            self.0.tasks.spawn(async move { server.connection(stream, acceptor).await });
        }
        drop(listener);
        self.stop().await;
    }

    async fn connection(&self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        stream.set_nodelay(true).ok();
        let address = stream.peer_addr().ok().map(|a| PeerAddress(a.ip()));
        let Some(acceptor) = acceptor else {
            return self.http(stream, PeerChain::default(), address).await;
        };
        match tokio::time::timeout(self.0.config.handshake_timeout, acceptor.accept(stream)).await {
            Ok(Ok(tls)) => {
                let certificates = tls.get_ref().1.peer_certificates().unwrap_or_default();
                let chain = PeerChain(Arc::new(certificates.iter().map(|c| c.as_ref().to_vec()).collect()));
                self.http(tls, chain, address).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    }

    async fn http<S>(&self, stream: S, chain: PeerChain, address: Option<PeerAddress>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (server, over) = (self.clone(), CancellationToken::new());
        let enough = over.clone();
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            let (server, chain, enough) = (server.clone(), chain.clone(), enough.clone());
            async move {
                let multiplexed = request.version() == http::Version::HTTP_2;
                let nobody = chain.0.is_empty() && !request.headers().contains_key(http::header::AUTHORIZATION);
                request.extensions_mut().insert(chain);
                address.and_then(|a| request.extensions_mut().insert(a));
                let answer = match server.grpc(request).await {
                    Ok(answer) => answer,
                    Err(request) => server.handle(request).await,
                };
                // Streams cost a stranger nothing: there is one request on such a connection.
                if multiplexed && (nobody || answer.status() == http::StatusCode::UNAUTHORIZED) {
                    enough.cancel();
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.0.config.header_timeout).pipeline_flush(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADERS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(WINDOW as usize);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let last_request = async {
            tokio::select! {
                () = self.0.drain.cancelled() => {}
                () = over.cancelled() => {}
            }
        };
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = last_request => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error, "connection ended");
        }
    }
}
