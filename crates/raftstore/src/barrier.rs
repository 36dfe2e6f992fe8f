//! The read barrier: one round trip to the leader for all callers who ask meanwhile.
//!
//! A caller joins a round that has not started yet, never one under way: its read must see what was
//! committed before it asked.

use crate::core::{Core, LEADER_WAIT, Leader, Route};
use crate::model::Revision;
use crate::net::peers::Lane;
use crate::store::Error;
use kybern_wire::raft as wire;
use openraft::ReadPolicy;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// A member that does not apply what is committed within this time is too far behind to read from.
const APPLY_WAIT: Duration = Duration::from_secs(5);

/// One request for a read index may take so long.
const ROUND_TRIP: Duration = Duration::from_secs(2);

type Answer = oneshot::Sender<Result<Revision, Error>>;

/// The way into a member's barriers.
#[derive(Clone)]
pub(crate) struct Barrier(mpsc::UnboundedSender<Answer>);

/// A barrier, and its end for [`run`].
pub(crate) fn barrier() -> (Barrier, mpsc::UnboundedReceiver<Answer>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Barrier(sender), receiver)
}

impl Barrier {
    /// Waits until this member has applied everything committed before the call.
    pub(crate) async fn pass(&self) -> Result<Revision, Error> {
        let (sender, answer) = oneshot::channel();
        self.0.send(sender).map_err(|_| Error::Stopped)?;
        answer.await.unwrap_or(Err(Error::Stopped))
    }
}

/// Runs rounds, one at a time, until every [`Barrier`] is gone or the member stops.
pub(crate) async fn run(core: Arc<Core>, mut callers: mpsc::UnboundedReceiver<Answer>) {
    while let Some(first) = callers.recv().await {
        let mut waiting = vec![first];
        while let Ok(caller) = callers.try_recv() {
            waiting.push(caller);
        }
        core.metrics.barrier();
        let result = round(&core).await;
        for caller in waiting {
            let _ = caller.send(result.clone());
        }
    }
}

async fn round(core: &Core) -> Result<Revision, Error> {
    let index = read_index(core).await?;
    let mut applied = core.applied.subscribe();
    let reached = tokio::time::timeout(APPLY_WAIT, applied.wait_for(|now| *now >= index)).await;
    match reached {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => return Err(Error::Stopped),
        Err(_) => return Err(Error::NoLeader("this member is too far behind".into())),
    }
    core.replica.nudge();
    Ok(core.replica.state().revision)
}

/// Asks whoever leads, until somebody answers or the time is up.
async fn read_index(core: &Core) -> Result<u64, Error> {
    let deadline = Instant::now() + LEADER_WAIT;
    loop {
        let answer = match core.leader(deadline).await? {
            Route::Here(_) => local(core).await,
            Route::There(leader) => remote(core, &leader).await,
        };
        match answer {
            Ok(index) => return Ok(index),
            Err(reason) if Instant::now() >= deadline => return Err(Error::NoLeader(reason)),
            Err(reason) => {
                tracing::debug!(reason, "a read barrier was refused");
                core.pause().await;
            }
        }
    }
}

/// The read index of this member, if a quorum confirms that it leads.
pub(crate) async fn local(core: &Core) -> Result<u64, String> {
    let confirmed = core.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
    confirmed.map(|linearizer| linearizer.read_log_id().index()).map_err(|error| error.to_string())
}

async fn remote(core: &Core, leader: &Leader) -> Result<u64, String> {
    let client = core.peers.client(&leader.address, Lane::Control, Some(leader.id)).await;
    let mut client = client.map_err(|error| error.to_string())?;
    let asked = tokio::time::timeout(ROUND_TRIP, client.read_index(wire::ReadIndexRequest {})).await;
    let forget = || core.peers.forget(&leader.address, Lane::Control);
    match asked {
        Ok(Ok(response)) if response.get_ref().leads => Ok(response.get_ref().index),
        Ok(Ok(_)) => Err("the asked member does not lead".into()),
        Ok(Err(status)) => {
            forget();
            Err(status.to_string())
        }
        Err(_) => {
            forget();
            Err("the leader does not answer".into())
        }
    }
}
