//! What can go wrong with a multiplexed connection.

/// A failed operation on a connection or one of its streams.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The transport below failed.
    #[error("connection failed")]
    Io(#[from] std::io::Error),
    /// The peer broke the framing; nothing after it can be understood.
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
    /// The peer exceeded a limit of ours.
    #[error("limit exceeded: {0}")]
    Limit(&'static str),
    /// The WebSocket layer failed.
    #[error("websocket failed")]
    WebSocket(#[from] Box<tokio_tungstenite::tungstenite::Error>),
    /// The peer reset this stream, with this SPDY status.
    #[error("stream was reset by the peer (status {0})")]
    Reset(u32),
    /// The connection is gone, or this direction of the stream has ended.
    #[error("connection or stream is closed")]
    Closed,
    /// The peer did not do its part in time.
    #[error("timed out waiting for {0}")]
    TimedOut(&'static str),
    /// The streams the peer opened are not those the request asks for.
    #[error("unexpected stream: {0}")]
    UnexpectedStream(String),
    /// The request asks for no upgrade that we know.
    #[error("{0}")]
    Negotiation(String),
}
