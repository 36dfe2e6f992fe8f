//! How much may be sent: SPDY's windows, which bind only once the peer has announced them.

use crate::Error;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// A send window, of a stream or of the whole connection.
#[derive(Debug, Default)]
pub(super) struct Window {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// None: the peer has announced no windows, sending is bounded by the transport alone.
    initial: Option<i64>,
    granted: i64,
    sent: i64,
    closed: bool,
}

impl Window {
    pub(super) fn new(initial: Option<i64>) -> Self {
        Self { state: Mutex::new(State { initial, ..State::default() }), changed: Notify::new() }
    }
    /// Waits until something may be sent and takes up to `wanted` bytes.
    pub(super) async fn take(&self, wanted: usize) -> Result<usize, Error> {
        loop {
            let changed = self.changed.notified();
            if let Some(n) = self.try_take(wanted)? {
                return Ok(n);
            }
            changed.await;
        }
    }

    fn try_take(&self, wanted: usize) -> Result<Option<usize>, Error> {
        let mut s = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if s.closed {
            return Err(Error::Closed);
        }
        let left = s.initial.map_or(i64::MAX, |i| i.saturating_add(s.granted).saturating_sub(s.sent));
        if left <= 0 {
            return Ok(None);
        }
        let n = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
        s.sent = s.sent.saturating_add(n as i64);
        Ok(Some(n))
    }

    fn change(&self, by: impl FnOnce(&mut State)) {
        by(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
    }
    /// Gives back what was taken and not sent.
    pub(super) fn give_back(&self, bytes: usize) {
        self.change(|s| s.sent = s.sent.saturating_sub(bytes as i64));
    }
    /// The peer allows `delta` more.
    pub(super) fn grant(&self, delta: u32) {
        self.change(|s| s.granted = s.granted.saturating_add(i64::from(delta)));
    }
    /// The peer announces the size windows begin with; may shrink a window below zero.
    pub(super) fn set_initial(&self, size: u32) {
        self.change(|s| s.initial = Some(i64::from(size)));
    }
    /// Nothing may be sent any more.
    pub(super) fn close(&self) {
        self.change(|s| s.closed = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn windows_bind_after_the_announcement_and_count_what_was_sent_before() {
        let w = Window::default();
        assert_eq!(w.take(1000).now_or_never().and_then(Result::ok), Some(1000));
        w.set_initial(1500);
        assert_eq!(w.take(1000).now_or_never().and_then(Result::ok), Some(500));
        assert!(w.take(1).now_or_never().is_none());
        w.grant(10);
        assert_eq!(w.take(1000).now_or_never().and_then(Result::ok), Some(10));
        w.give_back(4);
        assert_eq!(w.take(1000).now_or_never().and_then(Result::ok), Some(4));
        w.set_initial(1000);
        w.grant(400);
        assert!(w.take(1).now_or_never().is_none(), "a shrunk window is in debt");
        w.close();
        assert!(matches!(w.take(1).now_or_never(), Some(Err(Error::Closed))));
    }
}
