//! Channels over one message stream, with credit: what the reverse stream between servers and nodes
//! carries. Each channel has numbered byte streams; the transport brings whole frames in order.
//!
//! A sender may have [`CREDIT`] bytes unread at the other end. So queues are bounded without ever making
//! the shared transport wait for one slow channel.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, mpsc};

/// Bytes that may be unread per channel and direction. Both ends must agree on it.
pub const CREDIT: u32 = 256 * 1024;
/// Channels open at once on one link.
pub const MAX_CHANNELS: usize = 4096;
/// Most bytes of one frame.
const MAX_FRAME: usize = 32 * 1024;
/// Frames without bytes (ends of streams) cost no credit, so their number is bounded too.
const MAX_QUEUED: usize = CREDIT as usize / 64;

/// What a frame says about its channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Bytes of a stream, or its end, or both.
    Data(Data),
    /// The channel is over; the text is empty when all is well.
    Close(String),
    /// The receiver of this frame may send so many bytes more.
    Credit(u32),
}

/// Bytes of one of a channel's streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// Number of the stream.
    pub stream: u32,
    /// The bytes, may be empty.
    pub bytes: Bytes,
    /// Nothing more on this stream in this direction.
    pub end: bool,
}

/// Why a channel ended before its orderly close.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The other end said so, with this text.
    #[error("{0}")]
    Remote(String),
    /// The link below is gone.
    #[error("the connection to the node is lost")]
    Lost,
    /// The other end broke the rules.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
}

/// Takes a channel's frame for the transport, in order; false when the transport is gone.
pub type Out = Box<dyn Fn(u64, Body) -> bool + Send + Sync>;

/// One end of a message stream with channels.
pub struct Link {
    out: Out,
    channels: Mutex<Option<HashMap<u64, Entry>>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("channels", &self.channels).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Entry {
    inbound: mpsc::Sender<Result<Data, ChannelError>>,
    /// Bytes the peer may still send.
    allowed: Arc<Mutex<i64>>,
    /// Permits are bytes that we may still send.
    credit: Arc<Semaphore>,
}

/// A channel. Dropping both halves closes it with an error.
#[derive(Debug)]
pub struct Channel {
    /// To send.
    pub sender: Sender,
    /// To receive.
    pub receiver: Receiver,
}

#[derive(Debug)]
struct Core {
    id: u64,
    link: Arc<Link>,
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.link.forget(self.id).is_some() {
            (self.link.out)(self.id, Body::Close("abandoned".into()));
        }
    }
}

/// The sending half of a channel.
#[derive(Debug, Clone)]
pub struct Sender {
    core: Arc<Core>,
    credit: Arc<Semaphore>,
}

/// The receiving half of a channel.
#[derive(Debug)]
pub struct Receiver {
    core: Arc<Core>,
    inbound: mpsc::Receiver<Result<Data, ChannelError>>,
    allowed: Arc<Mutex<i64>>,
    /// Bytes taken since credit was last given.
    consumed: u32,
    over: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// A link whose frames go to `out`, in order. What waits there is bounded by the peer's credit.
    pub fn new(out: Out) -> Arc<Self> {
        Arc::new(Self { out, channels: Mutex::new(Some(HashMap::new())) })
    }
    /// Adds a channel under an id that both ends know; None when the link is gone or full or the id is taken.
    pub fn register(self: &Arc<Self>, id: u64) -> Option<Channel> {
        let (inbound, queue) = mpsc::channel(MAX_QUEUED);
        let credit = Arc::new(Semaphore::new(CREDIT as usize));
        let allowed = Arc::new(Mutex::new(i64::from(CREDIT)));
        {
            let mut channels = lock(&self.channels);
            let channels = channels.as_mut().filter(|c| c.len() < MAX_CHANNELS && !c.contains_key(&id))?;
            channels.insert(id, Entry { inbound, allowed: allowed.clone(), credit: credit.clone() });
        }
        let core = Arc::new(Core { id, link: self.clone() });
        let receiver = Receiver { core: core.clone(), inbound: queue, allowed, consumed: 0, over: false };
        Some(Channel { sender: Sender { core, credit }, receiver })
    }
    /// Takes in a frame from the peer; never waits. Frames of channels that are over are dropped.
    pub fn deliver(&self, id: u64, body: Body) {
        let broken = {
            let channels = lock(&self.channels);
            let Some(entry) = channels.as_ref().and_then(|c| c.get(&id)) else { return };
            match body {
                Body::Data(data) => entry.data(data),
                Body::Credit(more) => entry.more_credit(more),
                Body::Close(text) => {
                    drop(channels);
                    return self.end(id, (!text.is_empty()).then_some(ChannelError::Remote(text)));
                }
            }
        };
        if let Err(why) = broken {
            (self.out)(id, Body::Close(format!("protocol error: {why}")));
            self.end(id, Some(ChannelError::Protocol(why)));
        }
    }
    /// The transport is gone: every channel ends, none can be added.
    pub fn close(&self) {
        let channels = lock(&self.channels).take();
        for (_, entry) in channels.into_iter().flatten() {
            entry.finish(Some(ChannelError::Lost));
        }
    }
    /// Is the transport gone?
    pub fn is_closed(&self) -> bool {
        lock(&self.channels).is_none()
    }

    fn forget(&self, id: u64) -> Option<Entry> {
        lock(&self.channels).as_mut()?.remove(&id)
    }

    fn end(&self, id: u64, error: Option<ChannelError>) {
        if let Some(entry) = self.forget(id) {
            entry.finish(error);
        }
    }
}

impl Entry {
    fn data(&self, data: Data) -> Result<(), &'static str> {
        {
            let mut allowed = lock(&self.allowed);
            *allowed -= data.bytes.len() as i64;
            if *allowed < 0 {
                return Err("more data than credit");
            }
        }
        match self.inbound.try_send(Ok(data)) {
            Err(mpsc::error::TrySendError::Full(_)) => Err("too many frames"),
            // Nobody reads any more: what comes is of no use, and the peer's credit runs out.
            _ => Ok(()),
        }
    }

    fn more_credit(&self, more: u32) -> Result<(), &'static str> {
        if self.credit.available_permits() + more as usize > 2 * CREDIT as usize {
            return Err("more credit than can be used");
        }
        self.credit.add_permits(more as usize);
        Ok(())
    }
    /// The error takes the place of the end; when the queue is full the end alone says it.
    fn finish(self, error: Option<ChannelError>) {
        self.credit.close();
        if let Some(error) = error {
            self.inbound.try_send(Err(error)).ok();
        }
    }
}

impl Sender {
    /// Sends bytes on a stream; waits for credit.
    ///
    /// # Errors
    /// [`ChannelError::Lost`] when the channel is over (the receiver says why).
    pub async fn send(&self, stream: u32, mut bytes: Bytes) -> Result<(), ChannelError> {
        while !bytes.is_empty() {
            let first = self.credit.acquire().await.map_err(|_| ChannelError::Lost)?;
            first.forget();
            let wanted = bytes.len().min(MAX_FRAME) - 1;
            let more = wanted.min(self.credit.available_permits());
            let more = self.credit.try_acquire_many(more as u32).map_or(0, |p| {
                p.forget();
                more
            });
            self.frame(Body::Data(Data { stream, bytes: bytes.split_to(1 + more), end: false }))?;
        }
        Ok(())
    }
    /// Ends a stream in this direction.
    ///
    /// # Errors
    /// [`ChannelError::Lost`] when the link is gone.
    pub fn end(&self, stream: u32) -> Result<(), ChannelError> {
        self.frame(Body::Data(Data { stream, bytes: Bytes::new(), end: true }))
    }
    /// Ends the channel; `error` is empty when all is well.
    pub fn close(&self, error: &str) {
        if let Some(entry) = self.core.link.forget(self.core.id) {
            entry.finish(None);
            self.frame(Body::Close(error.to_owned())).ok();
        }
    }

    fn frame(&self, body: Body) -> Result<(), ChannelError> {
        if self.credit.is_closed() && !matches!(body, Body::Close(_)) {
            return Err(ChannelError::Lost);
        }
        if (self.core.link.out)(self.core.id, body) { Ok(()) } else { Err(ChannelError::Lost) }
    }
}

impl Receiver {
    /// The next bytes or end of a stream; None after the channel's orderly close.
    ///
    /// # Errors
    /// Why the channel broke off; afterwards None.
    pub async fn recv(&mut self) -> Result<Option<Data>, ChannelError> {
        if self.over {
            return Ok(None);
        }
        match self.inbound.recv().await {
            Some(Ok(data)) => {
                self.credit(data.bytes.len() as u32);
                Ok(Some(data))
            }
            Some(Err(error)) => {
                self.over = true;
                Err(error)
            }
            None => {
                self.over = true;
                Ok(None)
            }
        }
    }

    fn credit(&mut self, bytes: u32) {
        self.consumed += bytes;
        if self.consumed >= CREDIT / 2 {
            let more = std::mem::take(&mut self.consumed);
            *lock(&self.allowed) += i64::from(more);
            (self.core.link.out)(self.core.id, Body::Credit(more));
        }
    }
}

/// Joins two channels until either is over, and closes the other with its reason.
pub async fn splice(a: Channel, b: Channel) {
    async fn pump(mut from: Receiver, to: Sender) {
        let end = loop {
            match from.recv().await {
                Ok(Some(data)) => {
                    let sent = to.send(data.stream, data.bytes).await;
                    if sent.and_then(|()| if data.end { to.end(data.stream) } else { Ok(()) }).is_err() {
                        return;
                    }
                }
                Ok(None) => break String::new(),
                Err(error) => break error.to_string(),
            }
        };
        to.close(&end);
    }
    tokio::join!(pump(a.receiver, b.sender), pump(b.receiver, a.sender));
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn link(out: mpsc::UnboundedSender<(u64, Body)>) -> Arc<Link> {
        Link::new(Box::new(move |id, body| out.send((id, body)).is_ok()))
    }

    /// Two links joined by tasks that carry every frame across.
    fn pair() -> (Arc<Link>, Arc<Link>) {
        let (a_out, mut a_frames) = mpsc::unbounded_channel();
        let (b_out, mut b_frames) = mpsc::unbounded_channel();
        let (a, b) = (link(a_out), link(b_out));
        let (to_b, to_a) = (b.clone(), a.clone());
        tokio::spawn(async move {
            while let Some((id, body)) = a_frames.recv().await {
                to_b.deliver(id, body);
            }
        });
        tokio::spawn(async move {
            while let Some((id, body)) = b_frames.recv().await {
                to_a.deliver(id, body);
            }
        });
        (a, b)
    }

    #[tokio::test]
    async fn bytes_ends_and_the_close_arrive_in_order() {
        let (a, b) = pair();
        let (ours, mut theirs) = (a.register(7).expect("a"), b.register(7).expect("b"));
        ours.sender.send(1, Bytes::from("one")).await.expect("send");
        ours.sender.end(1).expect("end");
        ours.sender.close("");
        let data = |bytes, end| Some(Data { stream: 1, bytes: Bytes::from(bytes), end });
        assert_eq!(theirs.receiver.recv().await, Ok(data("one", false)));
        assert_eq!(theirs.receiver.recv().await, Ok(data("", true)));
        assert_eq!(theirs.receiver.recv().await, Ok(None));
        assert!(theirs.sender.send(0, Bytes::from("x")).await.is_err());
    }

    #[tokio::test]
    async fn a_slow_channel_stops_its_sender_and_nobody_else() {
        let (a, b) = pair();
        let (slow, mut slow_end) = (a.register(1).expect("a"), b.register(1).expect("b"));
        let (quick, mut quick_end) = (a.register(2).expect("a"), b.register(2).expect("b"));
        let all = Bytes::from(vec![1_u8; 3 * CREDIT as usize]);
        let sender = slow.sender.clone();
        let sending = tokio::spawn(async move { sender.send(0, all).await });
        quick.sender.send(0, Bytes::from("quick")).await.expect("send");
        assert!(quick_end.receiver.recv().await.expect("recv").is_some());
        assert!(!sending.is_finished());
        let mut got = 0;
        while got < 3 * CREDIT as usize {
            got += slow_end.receiver.recv().await.expect("recv").map_or(0, |d| d.bytes.len());
        }
        assert_eq!(sending.await.expect("task"), Ok(()));
    }

    #[tokio::test]
    async fn what_breaks_off_says_why() {
        let (a, b) = pair();
        let (ours, mut theirs) = (a.register(1).expect("a"), b.register(1).expect("b"));
        ours.sender.close("no such container");
        assert_eq!(theirs.receiver.recv().await, Err(ChannelError::Remote("no such container".into())));
        let (ours, mut theirs) = (a.register(2).expect("a"), b.register(2).expect("b"));
        drop(ours);
        assert!(matches!(theirs.receiver.recv().await, Err(ChannelError::Remote(_))));
        let mut open = b.register(3).expect("b");
        b.close();
        assert_eq!(open.receiver.recv().await, Err(ChannelError::Lost));
        assert!(b.register(4).is_none());
    }

    #[tokio::test]
    async fn overrunning_the_credit_ends_the_channel() {
        let (out, mut frames) = mpsc::unbounded_channel();
        let link = link(out);
        let mut channel = link.register(1).expect("channel");
        let flood = Body::Data(Data { stream: 0, bytes: Bytes::from(vec![0; CREDIT as usize + 1]), end: false });
        link.deliver(1, flood);
        assert!(matches!(channel.receiver.recv().await, Err(ChannelError::Protocol(_))));
        assert!(matches!(frames.recv().now_or_never(), Some(Some((1, Body::Close(_))))));
    }

    #[tokio::test]
    async fn spliced_channels_are_one() {
        let ((a, b), (c, d)) = (pair(), pair());
        let (near, mid, mid2, mut far) = (
            a.register(1).expect("a"),
            b.register(1).expect("b"),
            c.register(1).expect("c"),
            d.register(1).expect("d"),
        );
        tokio::spawn(splice(mid, mid2));
        near.sender.send(0, Bytes::from("through")).await.expect("send");
        assert_eq!(far.receiver.recv().await.expect("recv").map(|d| d.bytes), Some(Bytes::from("through")));
        near.sender.close("broken");
        assert_eq!(far.receiver.recv().await, Err(ChannelError::Remote("broken".into())));
    }
}
