//! The streams of one remote command, whichever framing carries them.

use crate::negotiate::Framing;
use crate::spdy::{Connection, Headers, Limits, RecvHalf, SendHalf};
use crate::websocket::{self, Tunnel, channels::Said, channels::Subprotocol};
use crate::{Error, Io, Role};
use bytes::Bytes;
use futures::stream::{BoxStream, SelectAll, SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// How long the peer may take to open the streams its request announced.
const STREAMS_DEADLINE: Duration = Duration::from_secs(30);
/// How long an orderly close may wait for the peer's end.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// A stream of a remote command. The number is the WebSocket channel and the stream of `node.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Channel {
    /// Client to process.
    Stdin = 0,
    /// Process to client.
    Stdout = 1,
    /// Process to client; none with a terminal.
    Stderr = 2,
    /// The final status, to the client.
    Error = 3,
    /// Terminal sizes as JSON, from the client.
    Resize = 4,
}

impl Channel {
    const ALL: [Self; 5] = [Self::Stdin, Self::Stdout, Self::Stderr, Self::Error, Self::Resize];

    /// Its number.
    pub fn number(self) -> u8 {
        self as u8
    }
    /// By number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|c| u32::from(c.number()) == number)
    }
    /// The `streamType` header of its SPDY stream.
    pub fn stream_type(self) -> &'static str {
        ["stdin", "stdout", "stderr", "error", "resize"][self as usize]
    }
    /// Does this end read it?
    fn is_read_by(self, role: Role) -> bool {
        matches!(self, Self::Stdin | Self::Resize) == (role == Role::Server)
    }
}

/// Which streams a request asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Input.
    pub stdin: bool,
    /// Output.
    pub stdout: bool,
    /// Error output; ignored with a terminal, where it is part of the output.
    pub stderr: bool,
    /// A terminal: sizes come in too.
    pub tty: bool,
}

impl Wanted {
    /// The streams, in the order clients open them.
    pub fn channels(self) -> impl Iterator<Item = Channel> {
        let all = [
            (Channel::Error, true),
            (Channel::Stdin, self.stdin),
            (Channel::Stdout, self.stdout),
            (Channel::Stderr, self.stderr && !self.tty),
            (Channel::Resize, self.tty),
        ];
        all.into_iter().filter(|(_, wanted)| *wanted).map(|(c, _)| c)
    }
}

/// What arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Bytes of a stream.
    Data(Channel, Bytes),
    /// The peer has ended a stream.
    End(Channel),
}

/// Both directions of a remote command. Take it apart to use them at the same time.
pub struct Session {
    /// To send.
    pub sender: Sender,
    /// To receive.
    pub receiver: Receiver,
}

/// The sending direction.
pub struct Sender(Out);

/// The receiving direction.
pub struct Receiver(In);

enum Out {
    Spdy { connection: Connection, streams: Vec<(Channel, SendHalf)> },
    WebSocket { sink: MessageSink, protocol: Subprotocol, role: Role },
}

enum In {
    Spdy { streams: SelectAll<BoxStream<'static, Chunk>>, gone: CancellationToken, role: Role },
    WebSocket { stream: BoxStream<'static, Result<Message, Error>>, protocol: Subprotocol, role: Role },
}

/// What a stream says: bytes, its end, or why it broke.
type Chunk = (Channel, Result<Option<Bytes>, Error>);

type MessageSink = std::pin::Pin<Box<dyn futures::Sink<Message, Error = tokio_tungstenite::tungstenite::Error> + Send>>;

fn websocket_error(e: tokio_tungstenite::tungstenite::Error) -> Error {
    use tokio_tungstenite::tungstenite::Error as E;
    match e {
        E::ConnectionClosed | E::AlreadyClosed => Error::Closed,
        E::Io(e) => Error::Io(e),
        e => Error::WebSocket(Box::new(e)),
    }
}

impl Session {
    /// The server's end, once the transport is upgraded: waits for the client's streams.
    ///
    /// # Errors
    /// When the client opens other streams than `wanted`, or too late.
    pub async fn accept<T: Io>(io: T, framing: Framing, wanted: Wanted) -> Result<Self, Error> {
        match framing {
            Framing::Spdy => Self::accept_spdy(Connection::new(io, Role::Server, Limits::default())?, wanted).await,
            Framing::SpdyInWebSocket => {
                let io = Tunnel::new(websocket::open(io, Role::Server).await);
                Self::accept_spdy(Connection::new(io, Role::Server, Limits::default())?, wanted).await
            }
            Framing::Channels(protocol) => {
                let mut session = Self::over_websocket(websocket::open(io, Role::Server).await, protocol, Role::Server);
                // An empty first message tells the client that the connection is there.
                let first = wanted.channels().find(|c| *c != Channel::Error && !c.is_read_by(Role::Server));
                session.sender.send(first.unwrap_or(Channel::Error), Bytes::new()).await?;
                Ok(session)
            }
        }
    }
    /// The client's end, once the transport is upgraded: opens the streams.
    ///
    /// # Errors
    /// When the server does not accept them.
    pub async fn open<T: Io>(io: T, framing: Framing, wanted: Wanted) -> Result<Self, Error> {
        let connection = match framing {
            Framing::Spdy => Connection::new(io, Role::Client, Limits::default())?,
            Framing::SpdyInWebSocket => {
                Connection::new(Tunnel::new(websocket::open(io, Role::Client).await), Role::Client, Limits::default())?
            }
            Framing::Channels(protocol) => {
                return Ok(Self::over_websocket(websocket::open(io, Role::Client).await, protocol, Role::Client));
            }
        };
        let mut streams = Vec::new();
        for channel in wanted.channels() {
            let stream = connection.open(Headers::new([("streamtype", channel.stream_type())])).await?;
            streams.push((channel, stream.send, stream.recv));
        }
        Ok(Self::over_spdy(connection, streams, Role::Client))
    }

    async fn accept_spdy(mut connection: Connection, wanted: Wanted) -> Result<Self, Error> {
        let mut missing: Vec<Channel> = wanted.channels().collect();
        let mut streams = Vec::new();
        let all = async {
            while !missing.is_empty() {
                let stream = connection.accept().await?.ok_or(Error::Closed)?;
                let name = stream.headers.get("streamtype").unwrap_or_default();
                let Some(at) = missing.iter().position(|c| c.stream_type() == name) else {
                    return Err(Error::UnexpectedStream(name.to_owned()));
                };
                streams.push((missing.swap_remove(at), stream.send, stream.recv));
            }
            Ok(())
        };
        tokio::time::timeout(STREAMS_DEADLINE, all).await.map_err(|_| Error::TimedOut("the client's streams"))??;
        connection.stop_accepting();
        Ok(Self::over_spdy(connection, streams, Role::Server))
    }

    fn over_spdy(connection: Connection, streams: Vec<(Channel, SendHalf, RecvHalf)>, role: Role) -> Self {
        let mut incoming = SelectAll::new();
        let mut outgoing = Vec::new();
        for (channel, send, recv) in streams {
            outgoing.push((channel, send));
            incoming.push(chunks(channel, recv));
        }
        let gone = connection.gone();
        let sender = Sender(Out::Spdy { connection, streams: outgoing });
        Self { sender, receiver: Receiver(In::Spdy { streams: incoming, gone, role }) }
    }

    fn over_websocket<T: Io>(socket: WebSocketStream<T>, protocol: Subprotocol, role: Role) -> Self {
        let (sink, stream): (SplitSink<_, Message>, SplitStream<_>) = socket.split();
        let stream = stream.map(|m| m.map_err(websocket_error)).boxed();
        Self {
            sender: Sender(Out::WebSocket { sink: Box::pin(sink), protocol, role }),
            receiver: Receiver(In::WebSocket { stream, protocol, role }),
        }
    }
    /// Ends every stream and the connection in order; waits, bounded, for the peer's end.
    pub async fn close(self) {
        let Self { sender, mut receiver } = self;
        match sender.0 {
            Out::Spdy { connection, mut streams } => {
                for (_, stream) in &mut streams {
                    stream.end().await.ok();
                }
                drop(receiver);
                connection.close().await;
            }
            Out::WebSocket { mut sink, .. } => {
                let goodbye = async {
                    sink.send(websocket::farewell()).await.ok()?;
                    sink.close().await.ok()?;
                    while receiver.next().await.ok()?.is_some() {}
                    Some(())
                };
                tokio::time::timeout(CLOSE_DEADLINE, goodbye).await.ok();
            }
        }
    }
}

/// A stream's chunks up to and including its end or error.
fn chunks(channel: Channel, recv: RecvHalf) -> BoxStream<'static, Chunk> {
    futures::stream::unfold(Some(recv), move |recv| async move {
        let mut recv = recv?;
        let item = recv.recv().await;
        let next = matches!(item, Ok(Some(_))).then_some(recv);
        Some(((channel, item), next))
    })
    .boxed()
}

impl Sender {
    /// Sends bytes on a stream; waits while the peer does not read. Bytes for a stream that the peer did
    /// not ask for are dropped.
    ///
    /// # Errors
    /// When the stream or the connection has ended.
    pub async fn send(&mut self, channel: Channel, bytes: Bytes) -> Result<(), Error> {
        match &mut self.0 {
            Out::Spdy { streams, .. } => match streams.iter_mut().find(|(c, _)| *c == channel) {
                Some((_, stream)) => stream.send(bytes).await,
                None => Ok(()),
            },
            Out::WebSocket { sink, protocol, .. } => {
                sink.send(protocol.data(channel.number(), &bytes)).await.map_err(websocket_error)
            }
        }
    }
    /// Ends one stream, as far as the framing can say that: WebSocket servers never can, clients since v5.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn end(&mut self, channel: Channel) -> Result<(), Error> {
        match &mut self.0 {
            Out::Spdy { streams, .. } => match streams.iter_mut().find(|(c, _)| *c == channel) {
                Some((_, stream)) => stream.end().await,
                None => Ok(()),
            },
            Out::WebSocket { sink, protocol, role: Role::Client } => match protocol.end(channel.number()) {
                Some(message) => sink.send(message).await.map_err(websocket_error),
                None => Ok(()),
            },
            Out::WebSocket { .. } => Ok(()),
        }
    }
    /// Does the peer expect the final status as plain text (and nothing after success) instead of JSON?
    pub fn plain_status(&self) -> bool {
        matches!(&self.0, Out::WebSocket { protocol, .. } if protocol.plain_status())
    }
}

impl Receiver {
    /// The next item of a stream that this end reads; None when the peer is gone.
    ///
    /// # Errors
    /// When the peer broke the framing.
    pub async fn next(&mut self) -> Result<Option<Item>, Error> {
        match &mut self.0 {
            In::Spdy { streams, gone, role } => {
                while let Some((channel, item)) = streams.next().await {
                    let ours = channel.is_read_by(*role);
                    match item {
                        Ok(Some(bytes)) if ours => return Ok(Some(Item::Data(channel, bytes))),
                        // Servers reset streams when they have said everything.
                        Ok(None) | Err(Error::Reset(_)) if ours => return Ok(Some(Item::End(channel))),
                        Ok(_) | Err(Error::Reset(_)) => {}
                        Err(Error::Closed) => return Ok(None),
                        Err(e) => return Err(e),
                    }
                }
                // A client that has ended all its streams still waits for what the server sends.
                if *role == Role::Server {
                    gone.cancelled().await;
                }
                Ok(None)
            }
            In::WebSocket { stream, protocol, role } => {
                while let Some(message) = stream.next().await {
                    let said = match message {
                        Ok(m) => protocol.parse(m)?,
                        Err(Error::Closed | Error::Io(_)) => return Ok(None),
                        Err(e) => return Err(e),
                    };
                    match said {
                        Said::Close => return Ok(None),
                        Said::Nothing => {}
                        Said::Data(n, bytes) => match Channel::from_number(n.into()) {
                            Some(c) if c.is_read_by(*role) => {
                                // The empty message that says hello is nobody's data.
                                if !bytes.is_empty() {
                                    return Ok(Some(Item::Data(c, bytes)));
                                }
                            }
                            _ => return Err(Error::UnexpectedStream(n.to_string())),
                        },
                        Said::End(n) => match Channel::from_number(n.into()) {
                            Some(c) if c.is_read_by(*role) => return Ok(Some(Item::End(c))),
                            _ => return Err(Error::UnexpectedStream(n.to_string())),
                        },
                    }
                }
                Ok(None)
            }
        }
    }
}
