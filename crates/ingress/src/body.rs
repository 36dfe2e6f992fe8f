//! A request's body on its way to a backend: counted, and taken back when a connection failed before
//! anything of it was sent.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It is larger than it may be.
    #[error("the body is too large")]
    TooLarge,
    /// The client did not send it to its end.
    #[error("the client did not send the body to its end")]
    Client(#[from] hyper::Error),
}

struct Shared {
    body: Incoming,
    /// Bytes that may still come; None: any number.
    left: Option<u64>,
    too_large: bool,
    touched: bool,
    progress: bool,
}

/// A body that several attempts share, one after the other.
#[derive(Clone)]
pub(crate) struct Lent(Arc<Mutex<Shared>>);

impl Lent {
    pub(crate) fn new(body: Incoming, limit: Option<u64>) -> Self {
        let shared = Shared { body, left: limit, too_large: false, touched: false, progress: false };
        Self(Arc::new(Mutex::new(shared)))
    }
    /// Can another attempt still send all of it?
    pub(crate) fn is_whole(&self) -> bool {
        !self.0.lock().touched
    }
    /// Was it cut off for its size?
    pub(crate) fn is_too_large(&self) -> bool {
        self.0.lock().too_large
    }
    /// Has something of it gone on its way since the last call?
    pub(crate) fn take_progress(&self) -> bool {
        std::mem::take(&mut self.0.lock().progress)
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut shared = self.0.lock();
        let Some(frame) = ready!(Pin::new(&mut shared.body).poll_frame(cx)) else { return Poll::Ready(None) };
        let frame = frame?;
        (shared.touched, shared.progress) = (true, true);
        if let (Some(left), Some(data)) = (shared.left, frame.data_ref()) {
            match left.checked_sub(data.len() as u64) {
                Some(rest) => shared.left = Some(rest),
                None => {
                    shared.too_large = true;
                    return Poll::Ready(Some(Err(Error::TooLarge)));
                }
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }
    fn is_end_stream(&self) -> bool {
        self.0.lock().body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.0.lock().body.size_hint()
    }
}
