//! Sending proposals to the member that leads.

use crate::core::{Core, Leader};
use crate::net::peers::Lane;
use crate::propose::Group;
use kybern_wire::raft as wire;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Groups on their way to the leader at a time; what arrives meanwhile forms the next.
const IN_FLIGHT: usize = 4;

/// Forwards groups.
pub(crate) struct Forwarder {
    core: Arc<Core>,
    slots: Arc<Semaphore>,
}

impl Forwarder {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, slots: Arc::new(Semaphore::new(IN_FLIGHT)) }
    }

    /// Forwards a group as soon as there is room; does not wait for its outcome.
    pub(crate) async fn forward(self: &Arc<Self>, group: Group, leader: Leader) {
        let Ok(slot) = self.slots.clone().acquire_owned().await else { return };
        let forwarder = self.clone();
        tokio::spawn(async move {
            let refused = forwarder.send(group, &leader).await;
            drop(slot);
            if let Some(group) = refused {
                forwarder.core.pause().await;
                forwarder.core.queue.again(group).await;
            }
        });
    }

    /// Returns the group when it certainly was not proposed. When that is unknown nothing happens here:
    /// apply answers the callers, or the next leader's first entry does.
    #[tracing::instrument(name = "forward", level = "debug", skip_all, fields(leader = leader.id, count = group.len()))]
    async fn send(&self, group: Group, leader: &Leader) -> Option<Group> {
        let core = &self.core;
        let mut client = match core.peers.client(&leader.address, Lane::Bulk, Some(leader.id)).await {
            Ok(client) => client,
            Err(error) => {
                tracing::debug!(%error, "the leader cannot be reached");
                return Some(group);
            }
        };
        let group = group.claim(&core.pending, leader.term)?;
        core.metrics.forwarded();
        let request = wire::ProposeRequest { term: leader.term, batch: group.batch() };
        match client.propose(request).await {
            Ok(response) if response.get_ref().proposed => None,
            Ok(_) => group.unclaim(&core.pending),
            // Refused before it was looked at: another member is at that address now.
            Err(status) if status.code() == tonic::Code::FailedPrecondition => group.unclaim(&core.pending),
            Err(status) => {
                tracing::debug!(%status, "a forwarded group has an unknown outcome");
                core.peers.forget(&leader.address, Lane::Bulk);
                None
            }
        }
    }
}
