//! The gate: the cluster as seen from 127.0.0.1. Balances the API over the live servers, byte for byte
//! (TLS ends at the server).

use super::cluster::Cluster;
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A server that takes longer to accept is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Where connections go, in turn.
#[derive(Debug)]
pub struct Balancer {
    targets: Vec<SocketAddr>,
    next: AtomicUsize,
}

impl Balancer {
    /// Balances over these addresses.
    pub fn new(targets: Vec<SocketAddr>) -> Self {
        Self { targets, next: AtomicUsize::new(0) }
    }

    /// A connection to the next target that accepts one.
    async fn connect(&self) -> Option<TcpStream> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for i in 0..self.targets.len() {
            let target = self.targets[first.wrapping_add(i) % self.targets.len()];
            if let Ok(Ok(stream)) = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await {
                return Some(stream);
            }
        }
        None
    }
}

/// Binds the gate's API port and serves it until `cancel`.
///
/// # Errors
/// When the port is in use.
pub async fn start(cluster: &Cluster, cancel: CancellationToken) -> Result<JoinHandle<()>> {
    let at = SocketAddr::from(([127, 0, 0, 1], cluster.gate_port));
    let listener = TcpListener::bind(at)
        .await
        .with_context(|| format!("cannot listen on {at}; another program uses it: find it with `ss -ltnp`"))?;
    let targets = cluster.servers().map(|h| SocketAddr::from((h.address, 6443))).collect();
    Ok(tokio::spawn(forward(listener, Arc::new(Balancer::new(targets)), cancel)))
}

/// Serves one listener until `cancel`; open connections end with it.
pub async fn forward(listener: TcpListener, balancer: Arc<Balancer>, cancel: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            a = listener.accept() => a,
        };
        let Ok((mut client, _)) = accepted else { continue };
        let (balancer, cancel) = (balancer.clone(), cancel.clone());
        tokio::spawn(async move {
            let Some(mut server) = balancer.connect().await else { return };
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            tokio::select! {
                () = cancel.cancelled() => {}
                _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, 64 << 10, 64 << 10) => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_dead_server_is_passed_over() {
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let targets = vec![dead.local_addr().unwrap(), live.local_addr().unwrap()];
        drop(dead);
        tokio::spawn(async move {
            while let Ok((mut s, _)) = live.accept().await {
                let _ = s.write_all(b"hi").await;
            }
        });
        let gate = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = gate.local_addr().unwrap();
        let cancel = CancellationToken::new();
        tokio::spawn(forward(gate, Arc::new(Balancer::new(targets)), cancel.clone()));
        for _ in 0..4 {
            let mut text = String::new();
            TcpStream::connect(at).await.unwrap().read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "hi");
        }
        cancel.cancel();
    }
}
