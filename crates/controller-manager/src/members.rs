//! The pods of a workload, as its controller counts them.

use crate::rows::{Phase, PodRow};
use jiff::Timestamp;
use kybern_api::object::Object;
use kybern_client::store::Item;
use kybern_reconcile::plan::later;
use std::time::Duration;

/// A pod and its row.
#[derive(Clone, Copy)]
pub(crate) struct Member<'a> {
    pub(crate) object: &'a Object,
    pub(crate) row: &'a PodRow,
}

impl<'a> Member<'a> {
    /// None where the informer makes no rows, which the table of rows rules out for pods.
    pub(crate) fn of(item: &'a Item) -> Option<Self> {
        Some(Self { object: &item.object, row: item.row()? })
    }
    /// Does it run, or will it?
    pub(crate) fn is_active(&self) -> bool {
        !self.row.phase.is_terminal() && !self.is_deleting()
    }
    pub(crate) fn is_deleting(&self) -> bool {
        self.object.head.deleting.is_some()
    }
    /// Is it being deleted while it still runs?
    pub(crate) fn is_terminating(&self) -> bool {
        self.is_deleting() && !self.row.phase.is_terminal()
    }
    pub(crate) fn is_running_and_ready(&self) -> bool {
        self.row.phase == Phase::Running && self.row.ready
    }
    /// When it counts (or began to count) as available; None while it is not ready.
    pub(crate) fn available_at(&self, min_ready: i32) -> Option<Timestamp> {
        let since = Timestamp::from_second(self.row.ready_since).ok()?;
        self.row.ready.then(|| later(since, Duration::from_secs(min_ready.max(0).unsigned_abs().into())))
    }
    /// Without a time to wait, whoever is ready is available, whatever the node's clock says.
    pub(crate) fn is_available(&self, min_ready: i32, now: Timestamp) -> bool {
        self.row.ready && (min_ready <= 0 || self.available_at(min_ready).is_some_and(|at| at <= now))
    }
    /// The value of a label; empty where it has none.
    pub(crate) fn label(&self, key: &str) -> &'a str {
        self.object.head.label(key).unwrap_or_default()
    }
}

/// When the next of them becomes available, if time alone will bring that about.
pub(crate) fn next_available<'a>(
    members: impl Iterator<Item = Member<'a>>,
    min_ready: i32,
    now: Timestamp,
) -> Option<Timestamp> {
    if min_ready <= 0 {
        return None;
    }
    members.filter_map(|m| m.available_at(min_ready)).filter(|at| *at > now).min()
}

/// How many there are, as a status counts.
pub(crate) fn count<T>(items: impl IntoIterator<Item = T>, test: impl Fn(&T) -> bool) -> i32 {
    i32::try_from(items.into_iter().filter(|i| test(i)).count()).unwrap_or(i32::MAX)
}

/// Zero counts are left out, as in Kubernetes' own objects.
pub(crate) fn some(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}
