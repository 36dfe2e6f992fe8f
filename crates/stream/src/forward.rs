//! Port-forward: each forwarded connection is a pair of SPDY streams, one for data and one for errors.

use crate::negotiate::Framing;
use crate::spdy::{Connection, Headers, Limits, Stream};
use crate::websocket::{self, Tunnel};
use crate::{Error, Io, Role};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long the second stream of a pair may take.
const PAIR_DEADLINE: Duration = Duration::from_secs(30);
/// Pairs that may wait for their second stream.
const MAX_HALF_PAIRS: usize = 64;

/// One forwarded connection.
pub struct Forward {
    /// The port in the pod.
    pub port: u16,
    /// Bytes both ways.
    pub data: Stream,
    /// Text of what went wrong, from the server.
    pub error: Stream,
}

/// A port-forward connection, at either end.
pub struct Forwarder {
    connection: Connection,
    halves: HashMap<String, Half>,
    /// The client's next request id.
    next: u64,
}

struct Half {
    stream: Stream,
    is_data: bool,
    port: u16,
    deadline: Instant,
}

impl Forwarder {
    /// Over an upgraded transport.
    ///
    /// # Errors
    /// [`Error::Negotiation`] for a framing that carries no port-forward.
    pub async fn new<T: Io>(io: T, framing: Framing, role: Role) -> Result<Self, Error> {
        let connection = match framing {
            Framing::Spdy => Connection::new(io, role, Limits::default())?,
            Framing::SpdyInWebSocket => {
                Connection::new(Tunnel::new(websocket::open(io, role).await), role, Limits::default())?
            }
            Framing::Channels(_) => return Err(Error::Negotiation("port-forward needs SPDY streams".into())),
        };
        Ok(Self { connection, halves: HashMap::new(), next: 0 })
    }
    /// The next connection the client wants; None when it is gone. A stream that belongs to no pair is reset.
    ///
    /// # Errors
    /// When the client broke the framing.
    pub async fn accept(&mut self) -> Result<Option<Forward>, Error> {
        loop {
            let Ok(accepted) = self.accept_before_deadline().await else {
                let now = Instant::now();
                self.halves.retain(|_, half| half.deadline > now);
                continue;
            };
            let Some(stream) = accepted? else { return Ok(None) };
            if let Some(pair) = self.pair(stream) {
                return Ok(Some(pair));
            }
        }
    }

    async fn accept_before_deadline(&mut self) -> Result<Result<Option<Stream>, Error>, tokio::time::error::Elapsed> {
        match self.halves.values().map(|h| h.deadline).min() {
            Some(at) => tokio::time::timeout_at(at, self.connection.accept()).await,
            None => Ok(self.connection.accept().await),
        }
    }

    fn pair(&mut self, stream: Stream) -> Option<Forward> {
        let port = stream.headers.get("port")?.parse().ok().filter(|p| *p != 0)?;
        let is_data = match stream.headers.get("streamtype")? {
            "data" => true,
            "error" => false,
            _ => return None,
        };
        // Old clients send no id: their data stream follows its error stream.
        let id = match stream.headers.get("requestid") {
            Some(id) => id.to_owned(),
            None if is_data => format!("stream-{}", stream.id.saturating_sub(2)),
            None => format!("stream-{}", stream.id),
        };
        match self.halves.remove(&id) {
            Some(half) if half.is_data != is_data && half.port == port => {
                let (data, error) = if is_data { (stream, half.stream) } else { (half.stream, stream) };
                Some(Forward { port, data, error })
            }
            None if self.halves.len() < MAX_HALF_PAIRS => {
                self.halves.insert(id, Half { stream, is_data, port, deadline: Instant::now() + PAIR_DEADLINE });
                None
            }
            _ => None,
        }
    }
    /// Opens a connection to a port, from the client's end.
    ///
    /// # Errors
    /// When the server does not accept the streams.
    pub async fn open(&mut self, port: u16) -> Result<Forward, Error> {
        let (id, port_text) = (self.next.to_string(), port.to_string());
        self.next += 1;
        let headers = |kind| Headers::new([("streamtype", kind), ("port", &port_text), ("requestid", &id)]);
        let mut error = self.connection.open(headers("error")).await?;
        error.send.end().await?;
        let data = self.connection.open(headers("data")).await?;
        Ok(Forward { port, data, error })
    }
    /// Ends the connection in order.
    pub async fn close(self) {
        self.connection.close().await;
    }
}
