//! Turns events into decisions. One task owns queue and snapshot; bindings run beside it.

use crate::bind::Binder;
use crate::cycle::{Decision, decide};
use crate::framework::Events;
use crate::node::NodeInfo;
use crate::pod::{Amounts, PodInfo};
use crate::queue::Queue;
use crate::snapshot::Snapshot;
use kybern_api::error::Reason;
use kybern_api::seam::Ids;
use kybern_client::store::Delta;
use smol_str::SmolStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bindings (and refusals) under way at once.
const CONCURRENT_WRITES: usize = 128;
/// Decisions between two looks at what has happened meanwhile.
const BURST: usize = 64;

/// How a decision ended.
struct Done {
    uid: SmolStr,
    /// The pod cannot be bound as decided; true: try again.
    failed: Option<bool>,
}

/// The scheduler's state.
pub(crate) struct Driver {
    queue: Queue,
    snapshot: Snapshot,
    binder: Binder,
    writes: Arc<Semaphore>,
    tasks: JoinSet<Done>,
    random: u64,
}

impl Driver {
    pub(crate) fn new(binder: Binder, ids: &dyn Ids) -> Self {
        let mut hasher = DefaultHasher::new();
        ids.uid().hash(&mut hasher);
        Self {
            queue: Queue::default(),
            snapshot: Snapshot::default(),
            binder,
            writes: Arc::new(Semaphore::new(CONCURRENT_WRITES)),
            tasks: JoinSet::new(),
            random: hasher.finish() | 1,
        }
    }

    /// Runs until it is dropped or both informers are gone.
    pub(crate) async fn run(
        mut self,
        mut nodes: mpsc::UnboundedReceiver<Delta>,
        mut pods: mpsc::UnboundedReceiver<Delta>,
    ) {
        loop {
            // Everything that has happened is taken in before the next decision.
            while let Ok(delta) = nodes.try_recv() {
                self.node(&delta);
            }
            while let Ok(delta) = pods.try_recv() {
                self.pod(&delta);
            }
            while let Some(Ok(done)) = self.tasks.try_join_next() {
                self.done(&done);
            }
            if self.decide_some() {
                tokio::task::yield_now().await;
                continue;
            }
            let wake = self.queue.next_wake();
            tokio::select! {
                Some(delta) = nodes.recv() => self.node(&delta),
                Some(delta) = pods.recv() => self.pod(&delta),
                Some(Ok(done)) = self.tasks.join_next() => self.done(&done),
                () = sleep_until(wake), if wake.is_some() => {}
                else => return,
            }
        }
    }

    /// Decides up to a burst of pods; true if there may be more.
    fn decide_some(&mut self) -> bool {
        for _ in 0..BURST {
            let Some(pod) = self.queue.pop(Instant::now()) else { return false };
            self.decide(pod);
        }
        true
    }

    fn decide(&mut self, pod: PodInfo) {
        let random = &mut self.random;
        let decision = decide(&pod, &self.snapshot, &mut |below| draw(random, below));
        match decision {
            Decision::Place(node) => {
                tracing::debug!(pod = %pod.name.name, %node, "placed");
                self.snapshot.place(&pod.uid, &node, &pod.footprint, true);
                self.spawn_bind(pod, node);
            }
            Decision::Refuse { message, helped_by } => {
                tracing::debug!(pod = %pod.name.name, message, "refused");
                self.queue.park(&pod.uid, helped_by, Instant::now());
                self.spawn_refuse(pod, message);
            }
        }
    }

    fn spawn_bind(&mut self, pod: PodInfo, node: SmolStr) {
        let (binder, writes) = (self.binder.clone(), Arc::clone(&self.writes));
        self.tasks.spawn(async move {
            // The semaphore is never closed.
            let _permit = writes.acquire_owned().await;
            let failed = binder.bind(&pod, &node).await.err().map(|status| {
                tracing::debug!(pod = %pod.name.name, %node, error = %status, "not bound");
                status.reason != Reason::NotFound
            });
            Done { uid: pod.uid, failed }
        });
    }

    fn spawn_refuse(&mut self, pod: PodInfo, message: String) {
        let (binder, writes) = (self.binder.clone(), Arc::clone(&self.writes));
        self.tasks.spawn(async move {
            let _permit = writes.acquire_owned().await;
            binder.refuse(&pod, &message).await;
            Done { uid: pod.uid, failed: None }
        });
    }

    fn done(&mut self, done: &Done) {
        let Some(again) = done.failed else { return };
        self.snapshot.forget(&done.uid);
        if again {
            self.queue.retry(&done.uid, Instant::now());
        } else {
            self.queue.remove(&done.uid);
        }
        self.queue.happened(Events::POD_GONE, Instant::now());
    }

    fn node(&mut self, delta: &Delta) {
        let now = Instant::now();
        let Some(new) = &delta.new else {
            if let Some(old) = &delta.old {
                self.snapshot.remove_node(&old.object.head.name);
            }
            return;
        };
        match NodeInfo::read(&new.object) {
            Err(e) => tracing::warn!(node = %new.object.head.name, error = %e, "cannot read node"),
            Ok(info) => {
                let old = self.snapshot.set_node(info.clone());
                self.queue.happened(old.map_or(Events::NODE_ADDED, |old| changes(&old, &info)), now);
            }
        }
    }

    fn pod(&mut self, delta: &Delta) {
        let now = Instant::now();
        let gone = |driver: &mut Self, uid: &SmolStr| {
            driver.queue.remove(uid);
            if driver.snapshot.displace(uid) {
                driver.queue.happened(Events::POD_GONE, now);
            }
        };
        if let Some(old) = &delta.old
            && delta.new.as_ref().is_none_or(|new| new.object.head.uid != old.object.head.uid)
        {
            gone(self, &old.object.head.uid);
        }
        let Some(new) = &delta.new else { return };
        let pod = match PodInfo::read(&new.object) {
            Ok(pod) => pod,
            Err(e) => {
                tracing::warn!(pod = %new.object.head.key(), error = %e, "cannot read pod");
                return;
            }
        };
        if pod.ended {
            gone(self, &pod.uid);
        } else if !pod.node.is_empty() {
            self.queue.remove(&pod.uid);
            self.snapshot.place(&pod.uid, &pod.node, &pod.footprint, false);
        } else if pod.is_waiting() {
            // While a decision is being carried out, older states of the pod still come by.
            if self.snapshot.placed_on(&pod.uid).is_none() {
                self.queue.add(pod, now);
            }
        } else {
            self.queue.remove(&pod.uid);
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

/// xorshift64*: good enough to choose among equals, and seeded once.
fn draw(state: &mut u64, below: usize) -> usize {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    let number = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
    usize::try_from(number).unwrap_or(0) % below.max(1)
}

/// What of a node has changed for the better (or may have).
fn changes(old: &NodeInfo, new: &NodeInfo) -> Events {
    let more = |a: &Amounts, b: &Amounts| b.iter().any(|(name, n)| a.get(name).is_none_or(|was| n > was));
    let mut events = Events::default();
    if more(&old.allocatable, &new.allocatable) {
        events = events.and(Events::NODE_CAPACITY);
    }
    if old.labels != new.labels {
        events = events.and(Events::NODE_LABELS);
    }
    if old.taints != new.taints || old.unschedulable != new.unschedulable {
        events = events.and(Events::NODE_TAINTS);
    }
    events
}
