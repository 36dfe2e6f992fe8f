//! Names outside the cluster: the query goes on as it is, the answer comes back as it is.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

/// A server that does not answer in this time is passed over.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The servers for names outside the cluster, tried in order; none: such names are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upstream {
    servers: Vec<SocketAddr>,
}

impl Upstream {
    /// From the text of a `resolv.conf`. Loopback servers are left out: they would be ourselves.
    pub fn from_resolv_conf(text: &str) -> Self {
        let servers = text
            .lines()
            .filter_map(|l| l.trim().strip_prefix("nameserver"))
            .filter_map(|a| a.trim().parse::<Ipv4Addr>().ok())
            .filter(|a| !a.is_loopback())
            .map(|a| SocketAddr::from((a, 53)))
            .collect();
        Self { servers }
    }

    /// These servers.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers }
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The first answer to a raw query; None when no server answers.
    pub async fn ask(&self, query: &[u8]) -> Option<Vec<u8>> {
        for server in &self.servers {
            if let Ok(Ok(answer)) = tokio::time::timeout(TIMEOUT, exchange(*server, query)).await {
                return Some(answer);
            }
        }
        None
    }
}

/// One query over a socket of its own (so with a source port of its own), answered with the same id.
async fn exchange(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let n = socket.recv(&mut buffer).await?;
        if n >= 12 && buffer[..2] == query[..2] {
            buffer.truncate(n);
            return Ok(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_from_resolv_conf() {
        let u = Upstream::from_resolv_conf(
            "search a\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n nameserver  192.0.2.2\n",
        );
        assert_eq!(u.servers, ["192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap()]);
    }
}
