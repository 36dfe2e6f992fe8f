//! What the parts of a running member share.

use crate::metrics::Metrics;
use crate::net::peers::Peers;
use crate::pending::Pending;
use crate::propose::Queue;
use crate::replica::Replica;
use crate::store::{Error, Leadership};
use crate::types::{Member, MemberId, Raft};
use openraft::async_runtime::watch::WatchReceiver;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a request that certainly was not sent waits for a leader.
pub(crate) const LEADER_WAIT: Duration = Duration::from_secs(5);

/// After a refusal that leadership does not explain (yet), the next attempt waits this long at most.
const RETRY: Duration = Duration::from_millis(20);

/// A member that leads, and how to reach it.
#[derive(Debug, Clone)]
pub(crate) struct Leader {
    pub(crate) id: MemberId,
    pub(crate) address: String,
    pub(crate) term: u64,
}

/// Where a request to the leader goes.
#[derive(Debug)]
pub(crate) enum Route {
    /// This member leads, in this term.
    Here(u64),
    /// Another member leads.
    There(Leader),
}

/// Shared by a member's parts.
pub(crate) struct Core {
    pub(crate) id: MemberId,
    pub(crate) cluster: String,
    pub(crate) raft: Raft,
    pub(crate) replica: Arc<Replica>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) queue: Queue,
    /// Index of the last applied entry.
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) metrics: Metrics,
    /// Membership changes run one at a time on the leader.
    pub(crate) membership: tokio::sync::Mutex<()>,
}

impl Core {
    /// The member with an id, as this member knows the cluster.
    pub(crate) fn member(&self, id: MemberId) -> Option<Member> {
        self.raft.metrics().borrow_watched().membership_config.get_node(&id).cloned()
    }

    /// Who leads now, if this member knows.
    pub(crate) fn route(&self) -> Option<Route> {
        let leadership = *self.leadership.borrow();
        if leadership.leading {
            return Some(Route::Here(leadership.term));
        }
        let id = leadership.leader.filter(|id| *id != self.id)?;
        let address = self.member(id)?.peer;
        Some(Route::There(Leader { id, address, term: leadership.term }))
    }

    /// Who leads, as soon as somebody does.
    ///
    /// # Errors
    /// `NoLeader` when nobody has led until the deadline.
    pub(crate) async fn leader(&self, deadline: Instant) -> Result<Route, Error> {
        let mut changes = self.leadership.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(route) = self.route() {
                return Ok(route);
            }
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Error::Stopped),
                Err(_) => return Err(Error::NoLeader("no member leads".into())),
            }
        }
    }

    /// Waits for a change of leadership, but not for long: the last attempt was refused.
    pub(crate) async fn pause(&self) {
        let mut changes = self.leadership.subscribe();
        let _ = tokio::time::timeout(RETRY, changes.changed()).await;
    }
}
