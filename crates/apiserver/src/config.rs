//! What can be set about the server.

use crate::registry::service_ips::Ranges;
use std::net::SocketAddr;
use std::time::Duration;

/// Limits and identities of one server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address other members and pods reach this server's API at.
    pub advertise: SocketAddr,
    /// This server's member id in the store; the agents' and peers' name for it.
    pub member: u64,
    /// Ranges of service addresses and node ports.
    pub ranges: Ranges,
    /// Largest request body, in bytes. Default 3 MiB.
    pub max_body: usize,
    /// Time a request may take that is not long-running. Default 60 s.
    pub request_timeout: Duration,
    /// Time a write may take. Default 34 s.
    pub write_timeout: Duration,
    /// Requests that run at once, long-running and exempt ones apart; shared out among the priority
    /// levels. Default 600.
    pub max_requests: usize,
    /// Time for a client to send its headers. Default 32 s.
    pub header_timeout: Duration,
    /// Time for a TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// Time open requests get to end when the server stops. Default 10 s.
    pub drain_timeout: Duration,
}

impl Config {
    /// The defaults, for a server reachable at `advertise`.
    pub fn new(advertise: SocketAddr) -> Self {
        Self {
            advertise,
            member: 0,
            ranges: Ranges::default(),
            max_body: 3 << 20,
            request_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(34),
            max_requests: 600,
            header_timeout: Duration::from_secs(32),
            handshake_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
        }
    }
}
