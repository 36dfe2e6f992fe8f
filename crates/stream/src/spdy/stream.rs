//! One stream: two halves over shared state.

use super::Headers;
use super::connection::{Outgoing, Shared};
use super::frame::{Frame, MAX_DATA};
use super::window::Window;
use crate::Error;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What the connection's reader hands to a stream.
#[derive(Debug)]
pub(super) enum Inbound {
    Data(Bytes),
    End,
    Reset(u32),
}

/// A stream. Once both halves are dropped without [`SendHalf::end`], the peer gets a reset.
pub struct Stream {
    /// Its id.
    pub id: u32,
    /// The headers it was opened with.
    pub headers: Headers,
    /// To send.
    pub send: SendHalf,
    /// To receive.
    pub recv: RecvHalf,
}

impl Stream {
    pub(super) fn new(
        id: u32,
        headers: Headers,
        shared: Arc<Shared>,
        window: Arc<Window>,
        inbound: mpsc::Receiver<Inbound>,
    ) -> Self {
        let core = Arc::new(Core { id, shared });
        Self {
            id,
            headers,
            send: SendHalf { core: core.clone(), window, ended: false },
            recv: RecvHalf { core, inbound, consumed: 0, ended: false },
        }
    }
}

/// Releases the stream when both halves are gone.
struct Core {
    id: u32,
    shared: Arc<Shared>,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.shared.release(self.id);
    }
}

/// Our direction of a stream.
pub struct SendHalf {
    core: Arc<Core>,
    window: Arc<Window>,
    ended: bool,
}

impl SendHalf {
    /// Sends bytes; waits while windows or the transport are full.
    ///
    /// # Errors
    /// [`Error::Closed`] when the stream was reset or ended or the connection is gone.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        if self.ended {
            return Err(Error::Closed);
        }
        while !bytes.is_empty() {
            let wanted = self.window.take(bytes.len().min(MAX_DATA)).await?;
            let n = self.core.shared.session.take(wanted).await?;
            self.window.give_back(wanted - n);
            self.frame(bytes.split_to(n), false).await?;
        }
        Ok(())
    }
    /// Ends our direction; the other may go on.
    ///
    /// # Errors
    /// [`Error::Closed`] when the connection is gone.
    pub async fn end(&mut self) -> Result<(), Error> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        self.frame(Bytes::new(), true).await?;
        self.core.shared.finished(self.core.id);
        Ok(())
    }

    async fn frame(&self, bytes: Bytes, fin: bool) -> Result<(), Error> {
        let frame = Frame::Data { id: self.core.id, fin, bytes };
        self.core.shared.data.send(Outgoing::Frame(frame)).await.map_err(|_| Error::Closed)
    }
}

/// The peer's direction of a stream.
pub struct RecvHalf {
    core: Arc<Core>,
    inbound: mpsc::Receiver<Inbound>,
    /// Bytes taken since the last window update.
    consumed: u32,
    ended: bool,
}

impl RecvHalf {
    /// The next bytes; None when the peer has ended its direction.
    ///
    /// # Errors
    /// [`Error::Reset`], or [`Error::Closed`] when the connection broke off before the end.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Error> {
        if self.ended {
            return Ok(None);
        }
        match self.inbound.recv().await {
            Some(Inbound::Data(bytes)) => {
                self.credit(bytes.len() as u32);
                Ok(Some(bytes))
            }
            Some(Inbound::End) => {
                self.ended = true;
                Ok(None)
            }
            Some(Inbound::Reset(status)) => Err(Error::Reset(status)),
            None => Err(Error::Closed),
        }
    }
    /// Tells the peer that it may send more, in portions that are worth a frame.
    fn credit(&mut self, bytes: u32) {
        self.consumed = self.consumed.saturating_add(bytes);
        if self.consumed >= self.core.shared.limits.window / 2
            && self.core.shared.control(Frame::WindowUpdate { id: self.core.id, delta: self.consumed })
        {
            self.consumed = 0;
        }
    }
}
