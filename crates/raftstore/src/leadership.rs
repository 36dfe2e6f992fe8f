//! Who leads, derived from what Raft reports: one task keeps it current.

use crate::core::Core;
use crate::membership::{MemberInfo, members};
use crate::store::Leadership;
use crate::types::Types;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, RaftMetrics};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Follows Raft's metrics until the member stops. `lease` is how long a quorum's word holds.
pub(crate) async fn follow(core: Arc<Core>, known: watch::Sender<Arc<Vec<MemberInfo>>>, lease: Duration) {
    let mut changes = core.raft.metrics();
    let mut config = changes.borrow_watched().membership_config.clone();
    known.send_replace(Arc::new(members(&core)));
    loop {
        let (leadership, until) = observe(&changes.borrow_and_update(), lease);
        core.metrics.term.set(leadership.term as i64);
        core.metrics.leading.set(i64::from(leadership.leading));
        let changed = core.leadership.send_if_modified(|now| std::mem::replace(now, leadership) != leadership);
        if changed {
            tracing::info!(
                term = leadership.term,
                leading = leadership.leading,
                leader = leadership.leader,
                "leadership changed"
            );
        }
        let config_now = changes.borrow_watched().membership_config.clone();
        if !Arc::ptr_eq(&config, &config_now) {
            config = config_now;
            known.send_replace(Arc::new(members(&core)));
            // Who waits for a leader may know its id already, and its address only from now on.
            core.leadership.send_modify(|_| {});
        }
        let expired = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { break },
            () = expired => {}
        }
    }
    core.leadership.send_replace(Leadership::default());
}

/// What the metrics say about leadership, and when that must be looked at again if nothing changes.
///
/// A member leads when its vote is committed, the first entry of its term is committed (so that it has
/// applied everything before), and a quorum has acknowledged it within the lease.
fn observe(metrics: &RaftMetrics<Types>, lease: Duration) -> (Leadership, Option<Instant>) {
    let vote = metrics.vote;
    let term = vote.leader_id.term;
    let leader = vote.committed.then_some(vote.leader_id.voted_for).filter(|_| metrics.current_leader.is_some());
    let first_committed = metrics.cluster_committed.is_some_and(|id| id.leader_id.term == term);
    let alone = metrics.membership_config.voter_ids().eq([metrics.id]);
    let remaining = metrics.last_quorum_acked.and_then(|acked| lease.checked_sub(acked.elapsed()));
    let fresh = alone || remaining.is_some_and(|left| !left.is_zero());
    let leading = leader == Some(metrics.id) && metrics.state.is_leader() && first_committed && fresh;
    let until = remaining.filter(|_| leading && !alone).map(|left| Instant::now() + left);
    (Leadership { term, leading, leader }, until)
}
