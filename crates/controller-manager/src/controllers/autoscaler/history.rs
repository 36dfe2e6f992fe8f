//! What was proposed for a target, and what was done.

use jiff::Timestamp;
use kybern_reconcile::plan::later;
use std::time::Duration;

/// Nothing older than this is ever asked for: the longest window and the longest period there are.
const KEPT: Duration = Duration::from_secs(3600);

/// The memory of one autoscaler.
#[derive(Debug, Default)]
pub(super) struct History {
    proposals: Vec<(Timestamp, i32)>,
    /// Sizes by which the target grew (or, below zero, shrank).
    changes: Vec<(Timestamp, i32)>,
    /// A resize that was sent: from, to.
    expected: Option<(i32, i32)>,
}

impl History {
    /// A resize is sent.
    pub(super) fn expect(&mut self, from: i32, to: i32) {
        self.expected = Some((from, to));
    }
    /// The target's size is seen: a resize counts once it shows.
    pub(super) fn observe(&mut self, now: Timestamp, replicas: i32) {
        if let Some((from, _)) = self.expected.take_if(|(_, to)| *to == replicas) {
            self.changes.push((now, replicas.saturating_sub(from)));
        }
        if self.proposals.is_empty() {
            self.proposals.push((now, replicas));
        }
        let kept = |at: &Timestamp| later(*at, KEPT) >= now;
        self.proposals.retain(|(at, _)| kept(at));
        self.changes.retain(|(at, _)| kept(at));
    }
    /// Remembers a proposal.
    pub(super) fn propose(&mut self, now: Timestamp, size: i32) {
        self.proposals.push((now, size));
    }
    /// The proposals of the last `window`.
    pub(super) fn proposals(&self, now: Timestamp, window: Duration) -> impl Iterator<Item = i32> {
        self.proposals.iter().filter(move |(at, _)| is_within(*at, window, now)).map(|(_, size)| *size)
    }
    /// By how much the target grew and shrank within `period`.
    pub(super) fn moved(&self, now: Timestamp, period: Duration) -> (i32, i32) {
        let recent = || self.changes.iter().filter(move |(at, _)| is_within(*at, period, now)).map(|(_, by)| *by);
        let sum = |grew: bool| recent().filter(|by| (*by > 0) == grew).fold(0i32, |a, by| a.saturating_add(by.abs()));
        (sum(true), sum(false))
    }
}

fn is_within(at: Timestamp, window: Duration, now: Timestamp) -> bool {
    now.duration_since(at) < jiff::SignedDuration::try_from(window).unwrap_or(jiff::SignedDuration::MAX)
}
