//! Telling the watchers of a kind that something has changed.
//!
//! Waking a watcher of a connection costs a write, an encryption and a wake-up of its client, however
//! little there is to say. A few watchers are told at once. A crowd is told less often the larger it
//! is, and then everybody takes all that has come meanwhile in one write: what a burst of changes costs
//! is bounded by the time it lasts, not by its length. In-process watchers are always told at once.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// The pause between two calls to a crowd grows by this with each of its members: about the time that
/// serving one takes on both ends of its connection.
const EACH: Duration = Duration::from_micros(120);
/// Below this a pause is not worth a timer.
const LEAST: Duration = Duration::from_micros(500);
/// Nobody waits longer.
const MOST: Duration = Duration::from_millis(20);

/// The watchers of one kind, as far as they wait.
#[derive(Debug)]
pub(super) struct News {
    prompt: Notify,
    crowd: Notify,
    members: AtomicUsize,
    pace: Mutex<Pace>,
}

#[derive(Debug)]
struct Pace {
    /// When the crowd was last told.
    told: Option<Instant>,
    /// Somebody is going to tell it when its pause is over.
    armed: bool,
}

/// A place among those who are told; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    news: Arc<News>,
    prompt: bool,
}

impl News {
    pub(super) fn new() -> Arc<Self> {
        let pace = Mutex::new(Pace { told: None, armed: false });
        Arc::new(Self { prompt: Notify::new(), crowd: Notify::new(), members: AtomicUsize::new(0), pace })
    }

    /// A place among the prompt or in the crowd.
    pub(super) fn join(self: &Arc<Self>, prompt: bool) -> Seat {
        if !prompt {
            self.members.fetch_add(1, Ordering::Relaxed);
        }
        Seat { news: Arc::clone(self), prompt }
    }

    /// There are changes.
    pub(super) fn tell(self: &Arc<Self>) {
        self.prompt.notify_waiters();
        let members = u32::try_from(self.members.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let pause = EACH.saturating_mul(members).min(MOST);
        let now = Instant::now();
        let mut pace = self.pace.lock();
        if pace.armed {
            return;
        }
        let due = pace.told.filter(|_| pause >= LEAST).map_or(now, |told| told + pause);
        if due <= now {
            pace.told = Some(now);
            drop(pace);
            return self.crowd.notify_waiters();
        }
        pace.armed = true;
        drop(pace);
        let news = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(due).await;
            *news.pace.lock() = Pace { told: Some(Instant::now()), armed: false };
            news.crowd.notify_waiters();
        });
    }

    /// Everything is new.
    pub(super) fn tell_all(&self) {
        self.prompt.notify_waiters();
        self.crowd.notify_waiters();
    }
}

impl Seat {
    /// Completes at the next call.
    pub(super) fn next(&self) -> Notified<'_> {
        if self.prompt { self.news.prompt.notified() } else { self.news.crowd.notified() }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.prompt {
            self.news.members.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long after each of `changes` (milliseconds) a member of a crowd of `members` is told.
    async fn told_after(members: usize, changes: &[u64]) -> Vec<u64> {
        let news = News::new();
        let seats: Vec<Seat> = (0..members).map(|_| news.join(false)).collect();
        let began = Instant::now();
        let ms = |at: Instant| u64::try_from((at - began).as_millis()).expect("a short test");
        let mut calls = Vec::new();
        for at in changes {
            tokio::time::sleep_until(began + Duration::from_millis(*at)).await;
            let call = seats[0].next();
            tokio::pin!(call);
            call.as_mut().enable();
            news.tell();
            call.await;
            calls.push(ms(Instant::now()));
        }
        calls
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_has_its_pauses_and_few_have_none() {
        assert_eq!(told_after(2, &[0, 1, 2, 3]).await, [0, 1, 2, 3]);
        // The first of a burst at once, the others when the pause is over; after a rest at once again.
        assert_eq!(told_after(1_000, &[0, 1, 2, 100]).await, [0, 20, 40, 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_prompt_never_wait_and_seats_are_given_back() {
        let news = News::new();
        let crowd: Vec<Seat> = (0..1_000).map(|_| news.join(false)).collect();
        let prompt = news.join(true);
        for _ in 0..3 {
            let call = prompt.next();
            tokio::pin!(call);
            call.as_mut().enable();
            news.tell();
            assert!(futures::poll!(call).is_ready());
        }
        drop(crowd);
        assert_eq!(news.members.load(Ordering::Relaxed), 0);
    }
}
