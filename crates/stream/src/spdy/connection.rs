//! A connection: one task reads frames and hands them to streams, one writes them.

use super::frame::{Decoder, Encoder, Frame, INITIAL_WINDOW_SIZE};
use super::stream::{Inbound, Stream};
use super::window::Window;
use super::{Headers, status};
use crate::{Error, Io, Role};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::{FramedRead, FramedWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Replies to the peer's pings, resets and window updates that may wait for the writer. A peer that
/// provokes more without reading them loses the connection.
const CONTROL_QUEUE: usize = 256;
/// Data frames that may wait for the writer, over all streams.
const DATA_QUEUE: usize = 8;
/// Opened streams that may wait to be accepted.
const ACCEPT_QUEUE: usize = 32;
/// The window over all streams that SPDY/3.1 begins with, bytes.
const SESSION_WINDOW: u32 = 64 * 1024;
/// How long an orderly close may take to flush and to see the peer's end.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// Bounds of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams open at once; the peer's further ones are refused.
    pub streams: usize,
    /// Frames queued per stream before we stop reading the connection.
    pub queue: usize,
    /// The window that we announce for each stream, bytes.
    pub window: u32,
    /// How long the peer may take to answer to a stream we open.
    pub open: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { streams: 1024, queue: 16, window: 256 * 1024, open: Duration::from_secs(30) }
    }
}

/// What goes to the writer through the queue that may wait.
pub(super) enum Outgoing {
    Frame(Frame),
    /// Everything before has been said: flush and end our direction of the transport.
    Finish,
}

/// State shared by the reader, the connection's owner and the streams.
pub(super) struct Shared {
    pub(super) data: mpsc::Sender<Outgoing>,
    pub(super) control: mpsc::Sender<Frame>,
    /// The window over all streams.
    pub(super) session: Window,
    pub(super) limits: Limits,
    /// Cancelled when the connection is over.
    gone: CancellationToken,
    streams: Mutex<Streams>,
}

struct Streams {
    entries: HashMap<u32, Entry>,
    /// Window our sending begins with; None until the peer announces one.
    initial: Option<i64>,
    /// The id of the next stream we open.
    next: u32,
    /// The last stream the peer opened.
    last: u32,
    closed: bool,
}

struct Entry {
    inbound: Option<mpsc::Sender<Inbound>>,
    /// Told when the peer accepts the stream; dropped when it does not.
    reply: Option<oneshot::Sender<()>>,
    window: Arc<Window>,
    sent_fin: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Queues a frame that must not wait; false when the queue is full or the writer is gone.
    pub(super) fn control(&self, frame: Frame) -> bool {
        self.control.try_send(frame).is_ok()
    }
    /// Notes that our direction has ended.
    pub(super) fn finished(&self, id: u32) {
        if let Some(e) = self.lock().entries.get_mut(&id) {
            e.sent_fin = true;
        }
    }
    /// Nobody holds the stream any more. What still arrives for it is dropped. Without our FIN the peer
    /// must learn of it; with it a reset could only overtake data that waits to be written.
    pub(super) fn release(&self, id: u32) {
        let entry = self.lock().entries.remove(&id);
        if entry.is_some_and(|e| !e.sent_fin) {
            self.control(Frame::RstStream { id, status: status::CANCEL });
        }
    }

    fn register(
        self: &Arc<Self>,
        streams: &mut Streams,
        id: u32,
        headers: Headers,
        reply: Option<oneshot::Sender<()>>,
    ) -> Stream {
        let (inbound, received) = mpsc::channel(self.limits.queue);
        let window = Arc::new(Window::new(streams.initial));
        let entry = Entry { inbound: Some(inbound), reply, window: window.clone(), sent_fin: false };
        streams.entries.insert(id, entry);
        Stream::new(id, headers, self.clone(), window, received)
    }
    /// Ends every stream: readers see the end of their queue, writers an error.
    fn close(&self) {
        let mut streams = self.lock();
        streams.closed = true;
        for e in streams.entries.values_mut() {
            e.inbound = None;
            e.reply = None;
            e.window.close();
        }
        self.session.close();
        self.gone.cancel();
    }
}

/// One SPDY connection. Dropping it ends both tasks and every stream.
pub struct Connection {
    shared: Arc<Shared>,
    incoming: mpsc::Receiver<Stream>,
    /// Serialises opening: ids must reach the wire in order.
    opening: tokio::sync::Mutex<()>,
    reader: Option<AbortOnDropHandle<Result<(), Error>>>,
    writer: AbortOnDropHandle<()>,
}

impl Connection {
    /// Takes over an upgraded transport. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the compression state cannot be made.
    pub fn new<T: Io>(io: T, role: Role, limits: Limits) -> Result<Self, Error> {
        let (data, data_queue) = mpsc::channel(DATA_QUEUE);
        let (control, control_queue) = mpsc::channel(CONTROL_QUEUE);
        let next = if role == Role::Client { 1 } else { 2 };
        let streams = Streams { entries: HashMap::new(), initial: None, next, last: 0, closed: false };
        let shared = Arc::new(Shared {
            data,
            control,
            session: Window::default(),
            limits,
            gone: CancellationToken::new(),
            streams: Mutex::new(streams),
        });
        shared.control(Frame::Settings(vec![(INITIAL_WINDOW_SIZE, limits.window)]));
        let (opened, incoming) = mpsc::channel(ACCEPT_QUEUE);
        let (read, write) = tokio::io::split(io);
        let sink = FramedWrite::new(write, Encoder::new()?);
        let reader = Reader { shared: shared.clone(), opened, role, received: 0 };
        let source = FramedRead::with_capacity(read, Decoder::default(), 32 * 1024);
        Ok(Self {
            incoming,
            opening: tokio::sync::Mutex::new(()),
            reader: Some(AbortOnDropHandle::new(tokio::spawn(reader.run(source)))),
            writer: AbortOnDropHandle::new(tokio::spawn(write_frames(sink, control_queue, data_queue, shared.clone()))),
            shared,
        })
    }
    /// Opens a stream and waits until the peer has accepted it.
    ///
    /// # Errors
    /// When the peer refuses, is gone or does not answer in time.
    pub async fn open(&self, headers: Headers) -> Result<Stream, Error> {
        let (reply, replied) = oneshot::channel();
        let stream = {
            let _order = self.opening.lock().await;
            let stream = self.begin(&headers, reply)?;
            let frame = Frame::SynStream { id: stream.id, fin: false, unidirectional: false, headers };
            self.shared.data.send(Outgoing::Frame(frame)).await.map_err(|_| Error::Closed)?;
            stream
        };
        match tokio::time::timeout(self.shared.limits.open, replied).await {
            Ok(Ok(())) => Ok(stream),
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => Err(Error::TimedOut("the peer to accept a stream")),
        }
    }

    fn begin(&self, headers: &Headers, reply: oneshot::Sender<()>) -> Result<Stream, Error> {
        let mut streams = self.shared.lock();
        if streams.closed {
            return Err(Error::Closed);
        }
        if streams.entries.len() >= self.shared.limits.streams || streams.next > i32::MAX as u32 - 2 {
            return Err(Error::Limit("streams"));
        }
        let id = streams.next;
        streams.next += 2;
        Ok(self.shared.register(&mut streams, id, headers.clone(), Some(reply)))
    }
    /// The next stream the peer opens, already accepted; None at the connection's orderly end.
    ///
    /// # Errors
    /// What ended the connection.
    pub async fn accept(&mut self) -> Result<Option<Stream>, Error> {
        // Room for the answer comes first, so that a cancelled call loses no stream.
        let room = self.shared.data.reserve().await.map_err(|_| Error::Closed);
        if let Some(stream) = self.incoming.recv().await {
            room?.send(Outgoing::Frame(Frame::SynReply { id: stream.id, fin: false, headers: Headers::default() }));
            return Ok(Some(stream));
        }
        match self.reader.take() {
            Some(reader) => reader.await.unwrap_or(Err(Error::Closed)).map(|()| None),
            None => Ok(None),
        }
    }
    /// Is cancelled when the connection is over, whoever ended it.
    pub fn gone(&self) -> CancellationToken {
        self.shared.gone.clone()
    }
    /// From now on the peer's new streams are refused.
    pub fn stop_accepting(&mut self) {
        self.incoming.close();
    }
    /// Says goodbye, flushes what the streams have queued and waits, bounded, for the peer's end, so that
    /// unread bytes of the peer do not make the transport discard our last ones.
    pub async fn close(mut self) {
        self.incoming.close();
        let last = self.shared.lock().last;
        let goodbye = async {
            self.shared.data.send(Outgoing::Frame(Frame::GoAway { last, status: 0 })).await.ok()?;
            self.shared.data.send(Outgoing::Finish).await.ok()?;
            (&mut self.writer).await.ok()?;
            self.reader.take()?.await.ok()
        };
        if tokio::time::timeout(CLOSE_DEADLINE, goodbye).await.is_err() {
            tracing::debug!("peer did not end the connection in time");
        }
        self.shared.close();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Writes queued frames, those that must not wait first, until told to finish or the transport fails.
async fn write_frames<W: tokio::io::AsyncWrite + Unpin>(
    mut sink: FramedWrite<W, Encoder>,
    mut control: mpsc::Receiver<Frame>,
    mut data: mpsc::Receiver<Outgoing>,
    shared: Arc<Shared>,
) {
    let result: Result<(), Error> = async {
        loop {
            let next = tokio::select! {
                biased;
                Some(frame) = control.recv() => Outgoing::Frame(frame),
                Some(out) = data.recv() => out,
                else => Outgoing::Finish,
            };
            match next {
                Outgoing::Frame(frame) => sink.feed(frame).await?,
                Outgoing::Finish => return SinkExt::<Frame>::close(&mut sink).await,
            }
            if control.is_empty() && data.is_empty() {
                SinkExt::<Frame>::flush(&mut sink).await?;
            }
        }
    }
    .await;
    if let Err(error) = result {
        tracing::debug!(%error, "writing frames ended");
        shared.close();
    }
}

/// Hands arriving frames to their streams.
struct Reader {
    shared: Arc<Shared>,
    opened: mpsc::Sender<Stream>,
    role: Role,
    /// Bytes received since the last update of the connection's window.
    received: u32,
}

impl Reader {
    async fn run<R: tokio::io::AsyncRead + Unpin>(mut self, mut source: FramedRead<R, Decoder>) -> Result<(), Error> {
        let result = self.frames(&mut source).await;
        if let Err(error) = &result {
            tracing::debug!(%error, "reading frames ended");
            let last = self.shared.lock().last;
            self.shared.control(Frame::GoAway { last, status: status::PROTOCOL_ERROR });
        }
        self.shared.close();
        result
    }

    async fn frames<R: tokio::io::AsyncRead + Unpin>(
        &mut self,
        source: &mut FramedRead<R, Decoder>,
    ) -> Result<(), Error> {
        while let Some(frame) = source.next().await {
            match frame? {
                Frame::SynStream { id, fin, headers, .. } => self.syn_stream(id, fin, headers).await?,
                Frame::SynReply { id, fin, .. } => self.syn_reply(id, fin).await,
                Frame::Data { id, fin, bytes } => self.data(id, fin, bytes).await?,
                Frame::RstStream { id, status } => self.reset(id, status).await,
                Frame::Headers { id, fin: true, .. } => self.deliver(id, Inbound::End).await,
                Frame::Headers { .. } | Frame::GoAway { .. } => {}
                Frame::Ping(id) => self.ping(id)?,
                Frame::Settings(entries) => self.settings(&entries),
                Frame::WindowUpdate { id, delta } => self.window_update(id, delta),
            }
        }
        Ok(())
    }

    fn is_peers(&self, id: u32) -> bool {
        (id % 2 == 1) == (self.role == Role::Server)
    }

    fn answer(&self, frame: Frame) -> Result<(), Error> {
        if self.shared.control(frame) { Ok(()) } else { Err(Error::Limit("unread answers")) }
    }

    async fn syn_stream(&self, id: u32, fin: bool, headers: Headers) -> Result<(), Error> {
        let stream = {
            let mut streams = self.shared.lock();
            if !self.is_peers(id) || id <= streams.last {
                return Err(Error::Malformed("stream id"));
            }
            streams.last = id;
            let room = streams.entries.len() < self.shared.limits.streams && !self.opened.is_closed();
            room.then(|| self.shared.register(&mut streams, id, headers, None))
        };
        let Some(stream) = stream else {
            return self.answer(Frame::RstStream { id, status: status::REFUSED_STREAM });
        };
        if fin {
            self.deliver(id, Inbound::End).await;
        }
        // A closed queue drops the stream, which resets it.
        self.opened.send(stream).await.ok();
        Ok(())
    }

    async fn syn_reply(&self, id: u32, fin: bool) {
        let reply = self.shared.lock().entries.get_mut(&id).and_then(|e| e.reply.take());
        if let Some(reply) = reply {
            reply.send(()).ok();
        }
        if fin {
            self.deliver(id, Inbound::End).await;
        }
    }

    async fn data(&mut self, id: u32, fin: bool, bytes: Bytes) -> Result<(), Error> {
        if !self.was_opened(id) {
            return self.answer(Frame::RstStream { id, status: status::INVALID_STREAM });
        }
        let length = bytes.len() as u32;
        if length > 0 {
            self.deliver(id, Inbound::Data(bytes)).await;
            // The connection's window never binds: each stream's own window and queue do.
            self.received += length;
            if self.received >= SESSION_WINDOW / 2 {
                let delta = std::mem::take(&mut self.received);
                self.answer(Frame::WindowUpdate { id: 0, delta })?;
            }
        }
        if fin {
            self.deliver(id, Inbound::End).await;
        }
        Ok(())
    }

    fn was_opened(&self, id: u32) -> bool {
        let streams = self.shared.lock();
        if self.is_peers(id) { id <= streams.last } else { id < streams.next && id != 0 }
    }
    /// Waits while the stream's queue is full; drops what nobody wants.
    async fn deliver(&self, id: u32, inbound: Inbound) {
        let last = matches!(inbound, Inbound::End | Inbound::Reset(_));
        let queue = {
            let mut streams = self.shared.lock();
            let entry = streams.entries.get_mut(&id);
            entry.and_then(|e| if last { e.inbound.take() } else { e.inbound.clone() })
        };
        if let Some(queue) = queue {
            queue.send(inbound).await.ok();
        }
    }

    async fn reset(&self, id: u32, status: u32) {
        self.deliver(id, Inbound::Reset(status)).await;
        if let Some(e) = self.shared.lock().entries.get_mut(&id) {
            e.reply = None;
            e.window.close();
            // Nothing is left to be told to the peer.
            e.sent_fin = true;
        }
    }

    fn ping(&self, id: u32) -> Result<(), Error> {
        // Our own pings would come back with our parity; we send none.
        if self.is_peers(id) { self.answer(Frame::Ping(id)) } else { Ok(()) }
    }

    fn settings(&self, entries: &[(u32, u32)]) {
        let Some((_, size)) = entries.iter().rev().find(|(id, _)| *id == INITIAL_WINDOW_SIZE) else { return };
        let mut streams = self.shared.lock();
        streams.initial = Some(i64::from(*size));
        for e in streams.entries.values() {
            e.window.set_initial(*size);
        }
        self.shared.session.set_initial(SESSION_WINDOW);
    }

    fn window_update(&self, id: u32, delta: u32) {
        if id == 0 {
            self.shared.session.grant(delta);
        } else if let Some(e) = self.shared.lock().entries.get(&id) {
            e.window.grant(delta);
        }
    }
}
