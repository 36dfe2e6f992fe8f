//! From a caller's transaction to a log entry: what arrives while an entry is under way becomes the next.
//!
//! A transaction is proposed at most once. Before it is handed to the leader's log (or sent to another
//! member that leads) it is claimed for that leader's term; only when the leader certainly refused it
//! is it queued again.

use crate::batch::{Batch, encode};
use crate::core::{Core, LEADER_WAIT, Route};
use crate::forward;
use crate::model::{MAX_TXN_BYTES, Txn, TxnOutcome};
use crate::net::codec::leader_of;
use crate::pending::Pending;
use crate::store::Error;
use bytes::{Bytes, BytesMut};
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// A caller gets an answer within this time, even if it is that the outcome is unknown.
const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// Transactions that may wait to be proposed; more callers wait for room.
const QUEUE: usize = 4_096;

/// Bounds of one log entry.
const GROUP_COUNT: usize = 1_024;
const GROUP_BYTES: usize = 1 << 20;

/// An encoded transaction of a caller here, or several forwarded by another member.
pub(crate) struct Item {
    batch: Bytes,
    since: Instant,
    from: Origin,
}

enum Origin {
    /// The number of the caller's ticket.
    Caller(u64),
    /// Only in this term; the reply says whether they were proposed.
    Member { term: u64, reply: oneshot::Sender<bool> },
}

/// The way into a member's proposals.
#[derive(Clone)]
pub(crate) struct Queue(mpsc::Sender<Item>);

/// A queue, and its end for [`run`].
pub(crate) fn queue() -> (Queue, mpsc::Receiver<Item>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Queue(sender), receiver)
}

impl Queue {
    async fn push(&self, item: Item) -> Result<(), Error> {
        self.0.send(item).await.map_err(|_| Error::Stopped)
    }

    /// Queues a refused group again, behind what has arrived meanwhile.
    pub(crate) async fn again(&self, group: Group) {
        for item in group.items {
            // Only fails when the member stops, which answers every caller.
            let _ = self.push(item).await;
        }
    }

    /// Queues what another member forwarded: true when it was committed, false when it certainly was not
    /// proposed, an error when that is unknown.
    pub(crate) async fn forwarded(&self, batch: Bytes, term: u64) -> Result<bool, Error> {
        let (reply, answer) = oneshot::channel();
        self.push(Item { batch, since: Instant::now(), from: Origin::Member { term, reply } }).await?;
        answer.await.map_err(|_| Error::Unknown("the leader changed".into()))
    }
}

/// Takes a caller off the waiting list when its future is dropped.
struct Ticketed<'a> {
    pending: &'a Pending,
    ticket: crate::batch::Ticket,
}

impl Drop for Ticketed<'_> {
    fn drop(&mut self) {
        self.pending.give_up(self.ticket);
    }
}

/// Proposes a transaction and waits for its result.
#[tracing::instrument(name = "propose", level = "debug", skip_all, fields(ops = txn.ops.len()))]
pub(crate) async fn propose(core: &Core, txn: &Txn) -> Result<TxnOutcome, Error> {
    let size = txn.size();
    if size > MAX_TXN_BYTES {
        return Err(Error::TooLarge(size));
    }
    core.metrics.proposal();
    let (ticket, answer) = core.pending.register();
    let waiting = Ticketed { pending: &core.pending, ticket };
    let since = Instant::now();
    core.queue.push(Item { batch: encode(ticket, txn), since, from: Origin::Caller(ticket.number) }).await?;
    match tokio::time::timeout_at(since + ANSWER_WAIT, answer).await {
        Ok(answer) => answer.unwrap_or(Err(Error::Stopped)),
        Err(_) if waiting.pending.give_up(ticket) => Err(Error::Unknown("no answer in time".into())),
        Err(_) => Err(Error::NoLeader("not proposed in time".into())),
    }
}

/// Transactions that become one log entry.
pub(crate) struct Group {
    items: Vec<Item>,
}

impl Group {
    /// The next group: the first item that arrives and all that wait behind it, within bounds.
    async fn next(queue: &mut mpsc::Receiver<Item>) -> Option<Self> {
        let first = queue.recv().await?;
        let mut bytes = first.batch.len();
        let mut items = vec![first];
        while items.len() < GROUP_COUNT
            && bytes < GROUP_BYTES
            && let Ok(item) = queue.try_recv()
        {
            bytes += item.batch.len();
            items.push(item);
        }
        Some(Self { items })
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The payload of the entry.
    pub(crate) fn batch(&self) -> Bytes {
        if let [item] = &self.items[..] {
            return item.batch.clone();
        }
        let mut batch = BytesMut::with_capacity(self.items.iter().map(|item| item.batch.len()).sum());
        self.items.iter().for_each(|item| batch.extend_from_slice(&item.batch));
        batch.freeze()
    }

    /// Claims the group for a term. Callers that gave up and members that meant another term drop out.
    /// `None`: nobody is left.
    pub(crate) fn claim(mut self, pending: &Pending, term: u64) -> Option<Self> {
        self.items.retain(|item| match &item.from {
            Origin::Caller(number) => pending.claim(*number, term),
            Origin::Member { .. } => true,
        });
        let (kept, refused): (Vec<_>, Vec<_>) = self.items.into_iter().partition(|item| item.meant_for(term));
        refused.into_iter().for_each(Item::refuse);
        (!kept.is_empty()).then_some(Self { items: kept })
    }

    /// Only callers of this member: what members forwarded is not forwarded again.
    fn callers(self) -> Option<Self> {
        let (callers, others): (Vec<_>, Vec<_>) =
            self.items.into_iter().partition(|item| matches!(item.from, Origin::Caller(_)));
        others.into_iter().for_each(Item::refuse);
        (!callers.is_empty()).then_some(Self { items: callers })
    }

    /// The group was committed: members are told, callers hear from apply.
    fn committed(self) {
        for item in self.items {
            if let Origin::Member { reply, .. } = item.from {
                let _ = reply.send(true);
            }
        }
    }

    /// The group was certainly not proposed: members are told, callers may try again.
    pub(crate) fn unclaim(self, pending: &Pending) -> Option<Self> {
        let callers = self.callers()?;
        pending.unclaim(callers.numbers());
        Some(callers)
    }

    /// Nobody leads: callers hear that nothing was proposed.
    fn fail(self, pending: &Pending, error: &Error) {
        for item in self.items {
            match item.from {
                Origin::Caller(number) => pending.fail(number, error.clone()),
                Origin::Member { .. } => item.refuse(),
            }
        }
    }

    fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.items.iter().filter_map(|item| match item.from {
            Origin::Caller(number) => Some(number),
            Origin::Member { .. } => None,
        })
    }

    fn deadline(&self) -> Instant {
        self.items.first().map_or_else(Instant::now, |item| item.since) + LEADER_WAIT
    }
}

impl Item {
    fn meant_for(&self, leading: u64) -> bool {
        match self.from {
            Origin::Caller(_) => true,
            Origin::Member { term, .. } => term == leading,
        }
    }

    fn refuse(self) {
        if let Origin::Member { reply, .. } = self.from {
            let _ = reply.send(false);
        }
    }
}

/// Proposes groups until every [`Queue`] is gone or the member stops.
pub(crate) async fn run(core: Arc<Core>, mut queue: mpsc::Receiver<Item>) {
    let forwarder = Arc::new(forward::Forwarder::new(core.clone()));
    while let Some(group) = Group::next(&mut queue).await {
        settle(&core, &forwarder, group).await;
    }
}

/// Sees a group through: to the log, to another member, or back to its callers.
async fn settle(core: &Arc<Core>, forwarder: &Arc<forward::Forwarder>, group: Group) {
    let deadline = group.deadline();
    let mut group = Some(group);
    while let Some(next) = group.take() {
        match core.leader(deadline).await {
            Ok(Route::Here(term)) => group = propose_here(core, next, term).await,
            Ok(Route::There(leader)) => {
                let Some(callers) = next.callers() else { return };
                return forwarder.forward(callers, leader).await;
            }
            Err(error) => return next.fail(&core.pending, &error),
        }
        if let Some(refused) = &group {
            if Instant::now() >= refused.deadline() {
                let error = Error::NoLeader("the leader has lost its quorum".into());
                return group.into_iter().for_each(|g| g.fail(&core.pending, &error));
            }
            core.pause().await;
        }
    }
}

/// Puts a group into this leader's log. Returns it when it certainly was not proposed.
async fn propose_here(core: &Core, group: Group, term: u64) -> Option<Group> {
    let group = group.claim(&core.pending, term)?;
    core.metrics.proposed(group.len());
    let (responder, result) = ProgressResponder::complete_only();
    let write = core.raft.write(Batch(group.batch())).with_leader(leader_of(term)).responder(responder);
    if let Err(fatal) = write.await {
        tracing::error!(%fatal, "Raft has stopped");
        return None;
    }
    match result.await {
        Ok(Ok(_)) => {
            group.committed();
            None
        }
        Ok(Err(ClientWriteError::ForwardToLeader(_) | ClientWriteError::PreconditionFailed(_))) => {
            group.unclaim(&core.pending)
        }
        // Discarded or stopped: whether it was committed is for apply to tell, here and on the members.
        Ok(Err(_)) | Err(_) => None,
    }
}
