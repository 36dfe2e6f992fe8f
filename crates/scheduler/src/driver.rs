//! Turns events into decisions. One task owns queue and snapshot; bindings run beside it.

use crate::bind::Binder;
use crate::cycle::{Decision, Nomination, Refused, decide};
use crate::framework::Happening;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::profile::Profiles;
use crate::queue::{Backoff, Queue};
use crate::snapshot::{Placement, Snapshot};
use crate::volume::VolumePlan;
use crate::world::Topic;
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

/// How carrying out a decision ended.
enum Done {
    /// The pod has its node; or it has not, and (true) is to be tried again.
    Bound { uid: SmolStr, plan: VolumePlan, failed: Option<bool> },
    /// The pod has been told why not.
    Told,
    /// These victims of the pod know that they have to go; not all of them if it failed.
    Evicted { uid: SmolStr, victims: Vec<SmolStr>, failed: bool },
}

/// What there is to listen to.
pub(crate) struct Feeds {
    pub(crate) nodes: mpsc::UnboundedReceiver<Delta>,
    pub(crate) pods: mpsc::UnboundedReceiver<Delta>,
    pub(crate) others: mpsc::UnboundedReceiver<(Topic, Delta)>,
}

/// The scheduler's state.
pub(crate) struct Driver {
    queue: Queue,
    snapshot: Snapshot,
    profiles: Profiles,
    binder: Binder,
    writes: Arc<Semaphore>,
    tasks: JoinSet<Done>,
    random: u64,
}

impl Driver {
    pub(crate) fn new(binder: Binder, profiles: Profiles, backoff: Backoff, ids: &dyn Ids) -> Self {
        let mut hasher = DefaultHasher::new();
        ids.uid().hash(&mut hasher);
        Self {
            queue: Queue::new(backoff),
            snapshot: Snapshot::default(),
            profiles,
            binder,
            writes: Arc::new(Semaphore::new(CONCURRENT_WRITES)),
            tasks: JoinSet::new(),
            random: hasher.finish() | 1,
        }
    }

    /// Runs until it is dropped or the informers are gone.
    pub(crate) async fn run(mut self, mut feeds: Feeds) {
        loop {
            // Everything that has happened is taken in before the next decision.
            while let Ok((topic, delta)) = feeds.others.try_recv() {
                self.other(topic, &delta);
            }
            while let Ok(delta) = feeds.nodes.try_recv() {
                self.node(&delta);
            }
            while let Ok(delta) = feeds.pods.try_recv() {
                self.pod(&delta);
            }
            while let Some(Ok(done)) = self.tasks.try_join_next() {
                self.done(done);
            }
            if self.decide_some() {
                tokio::task::yield_now().await;
                continue;
            }
            let wake = self.queue.next_wake();
            tokio::select! {
                Some((topic, delta)) = feeds.others.recv() => self.other(topic, &delta),
                Some(delta) = feeds.nodes.recv() => self.node(&delta),
                Some(delta) = feeds.pods.recv() => self.pod(&delta),
                Some(Ok(done)) = self.tasks.join_next() => self.done(done),
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

    fn decide(&mut self, pod: Arc<PodInfo>) {
        let Some(profile) = self.profiles.get(&pod.scheduler) else { return };
        let random = &mut self.random;
        let decision = decide(&pod, profile, &mut self.snapshot, &mut |below| draw(random, below));
        match decision {
            Decision::Place(node) => {
                tracing::debug!(pod = %pod.name.name, %node, "placed");
                let plan = self.plan(&pod, &node);
                self.snapshot.world.storage.assume(&plan, &node);
                self.snapshot.place(Arc::clone(&pod), &node, true);
                self.happened(&Happening::PodPlaced(&pod));
                self.spawn_bind(pod, node, plan);
            }
            Decision::Refuse(refused) => {
                tracing::debug!(pod = %pod.name.name, message = refused.message, "refused");
                self.refuse(pod, refused);
            }
        }
    }

    /// What has to be done about the pod's volumes on its node, which has passed the filter for them.
    fn plan(&self, pod: &PodInfo, node: &str) -> VolumePlan {
        if pod.claims.is_empty() {
            return VolumePlan::default();
        }
        let storage = &self.snapshot.world.storage;
        let node = self.snapshot.slot(node).and_then(|slot| self.snapshot.node(slot));
        let claims = storage.claims_of(pod).ok();
        claims.zip(node).and_then(|(claims, node)| storage.plan(&claims, node).ok()).unwrap_or_default()
    }

    fn refuse(&mut self, pod: Arc<PodInfo>, refused: Refused) {
        let now = Instant::now();
        let Refused { message, by, nomination } = refused;
        match nomination {
            Nomination::Node(node, victims) => {
                self.nominate(&pod, &node);
                self.queue.hold(&pod.uid, by, now);
                self.spawn_evict(Arc::clone(&pod), node.clone(), victims);
                self.spawn_refuse(pod, message, Some(node));
            }
            Nomination::Clear => {
                self.snapshot.nominations.remove(&pod.uid);
                self.queue.park(&pod.uid, by, now);
                self.spawn_refuse(pod, message, Some(SmolStr::default()));
            }
            Nomination::Keep => {
                self.queue.park(&pod.uid, by, now);
                self.spawn_refuse(pod, message, None);
            }
        }
    }

    /// Gives a pod the room that its victims will leave; less important pods that were to have it have
    /// to look again.
    fn nominate(&mut self, pod: &Arc<PodInfo>, node: &SmolStr) {
        let lesser = self.snapshot.nominations.on(node).iter().filter(|p| p.priority < pod.priority);
        let lesser: Vec<Arc<PodInfo>> = lesser.cloned().collect();
        for loser in lesser {
            self.snapshot.nominations.remove(&loser.uid);
            self.queue.wake(&loser.uid, Instant::now());
            let binder = self.binder.clone();
            self.tasks.spawn(async move {
                binder.clear_nomination(&loser).await;
                Done::Told
            });
        }
        self.snapshot.nominations.put(Arc::clone(pod), node.clone());
    }

    fn spawn_bind(&mut self, pod: Arc<PodInfo>, node: SmolStr, plan: VolumePlan) {
        let (binder, writes) = (self.binder.clone(), Arc::clone(&self.writes));
        let patience = self.profiles.get(&pod.scheduler).map(|p| p.bind_timeout).unwrap_or_default();
        self.tasks.spawn(async move {
            // Volumes take their time, during which others may write. The semaphore is never closed.
            let _permit = if plan.is_empty() { writes.acquire_owned().await.ok() } else { None };
            let failed = binder.bind(&pod, &node, &plan, patience).await.err().map(|status| {
                tracing::debug!(pod = %pod.name.name, %node, error = %status, "not bound");
                status.reason != Reason::NotFound
            });
            Done::Bound { uid: pod.uid.clone(), plan, failed }
        });
    }

    fn spawn_refuse(&mut self, pod: Arc<PodInfo>, message: String, nominated: Option<SmolStr>) {
        let renominated = nominated.as_ref().is_some_and(|n| *n != pod.nominated);
        if !self.queue.is_news(&pod.uid, &message, Instant::now()) && !renominated {
            return;
        }
        let (binder, writes) = (self.binder.clone(), Arc::clone(&self.writes));
        self.tasks.spawn(async move {
            let _permit = writes.acquire_owned().await;
            binder.refuse(&pod, &message, nominated.as_ref()).await;
            Done::Told
        });
    }

    fn spawn_evict(&mut self, pod: Arc<PodInfo>, node: SmolStr, victims: Vec<Arc<PodInfo>>) {
        let (binder, writes) = (self.binder.clone(), Arc::clone(&self.writes));
        self.tasks.spawn(async move {
            let _permit = writes.acquire_owned().await;
            let mut told = Vec::new();
            let mut failed = false;
            for victim in victims {
                match binder.evict(&victim, &pod, &node).await {
                    Ok(()) => told.push(victim.uid.clone()),
                    Err(status) => {
                        tracing::debug!(pod = %victim.name.name, error = %status, "victim not deleted");
                        failed = true;
                    }
                }
            }
            Done::Evicted { uid: pod.uid.clone(), victims: told, failed }
        });
    }

    fn happened(&mut self, happening: &Happening<'_>) {
        self.queue.happened(happening, &self.profiles, Instant::now());
    }

    fn done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Told => {}
            Done::Evicted { uid, victims, failed } => {
                victims.iter().for_each(|v| self.snapshot.doom(v));
                if failed {
                    self.snapshot.nominations.remove(&uid);
                }
                self.queue.release(&uid, !failed, now);
            }
            Done::Bound { uid, plan, failed } => {
                self.snapshot.world.storage.settle(&plan);
                let Some(again) = failed else { return };
                let freed = self.snapshot.forget(&uid);
                if again {
                    self.queue.retry(&uid, now);
                } else {
                    self.queue.remove(&uid);
                }
                if let Some(freed) = freed {
                    self.happened(&Happening::PodGone(&freed));
                }
            }
        }
    }

    fn other(&mut self, topic: Topic, delta: &Delta) {
        let (queue, profiles, now) = (&mut self.queue, &self.profiles, Instant::now());
        let mut relabelled = false;
        let applied = self.snapshot.world.apply(topic, delta, &mut |happening| {
            relabelled |= matches!(happening, Happening::Namespace);
            queue.happened(happening, profiles, now);
        });
        if relabelled {
            self.snapshot.namespaces_changed();
        }
        if let Err(e) = applied {
            let name = delta.latest().map(|i| i.object.head.key());
            tracing::warn!(?topic, ?name, error = %e, "cannot read object");
        }
    }

    fn node(&mut self, delta: &Delta) {
        let Some(new) = &delta.new else {
            let name = delta.old.as_ref().map(|o| &o.object.head.name);
            if let Some(old) = name.and_then(|n| self.snapshot.remove_node(n)) {
                self.happened(&Happening::NodeGone(&old));
            }
            return;
        };
        match NodeInfo::read(&new.object) {
            Err(e) => tracing::warn!(node = %new.object.head.name, error = %e, "cannot read node"),
            Ok(info) => match self.snapshot.set_node(info.clone()) {
                None => self.happened(&Happening::NodeAdded(&info)),
                Some(old) if old != info => self.happened(&Happening::NodeChanged(&old, &info)),
                Some(_) => {}
            },
        }
    }

    fn pod(&mut self, delta: &Delta) {
        if let Some(old) = &delta.old
            && delta.new.as_ref().is_none_or(|new| new.object.head.uid != old.object.head.uid)
        {
            self.gone(&old.object.head.uid);
        }
        let Some(new) = &delta.new else { return };
        let pod = match PodInfo::read(&new.object) {
            Ok(pod) => Arc::new(pod),
            Err(e) => {
                tracing::warn!(pod = %new.object.head.key(), error = %e, "cannot read pod");
                return;
            }
        };
        if pod.ended {
            self.gone(&pod.uid);
        } else if !pod.node.is_empty() {
            self.queue.remove(&pod.uid);
            let pod = Arc::new(Arc::unwrap_or_clone(pod).settled());
            let assumed = self.snapshot.placed_on(&pod.uid).is_some();
            match self.snapshot.place(Arc::clone(&pod), &pod.node, false) {
                Placement::New if !assumed => self.happened(&Happening::PodPlaced(&pod)),
                Placement::Changed(old) => self.happened(&Happening::PodChanged(&old, &pod)),
                Placement::New | Placement::Same => {}
            }
        } else if pod.is_waiting() && self.profiles.contains_key(&pod.scheduler) {
            self.waiting(pod);
        } else {
            self.snapshot.nominations.remove(&pod.uid);
            self.queue.remove(&pod.uid);
        }
    }

    fn waiting(&mut self, pod: Arc<PodInfo>) {
        // While a decision is being carried out, older states of the pod still come by.
        if self.snapshot.placed_on(&pod.uid).is_some() {
            return;
        }
        let known = self.snapshot.nominations.node_of(&pod.uid).is_some();
        if !known && !pod.nominated.is_empty() && self.queue.is_new(&pod.uid) {
            // Nominated by a scheduler before this one.
            self.snapshot.nominations.put(Arc::clone(&pod), pod.nominated.clone());
        }
        self.queue.add(pod, Instant::now());
    }

    fn gone(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.snapshot.nominations.remove(uid);
        if let Some(pod) = self.snapshot.displace(uid) {
            self.happened(&Happening::PodGone(&pod));
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

/// xorshift64*: good enough to choose among equals, and seeded once.
pub(crate) fn draw(state: &mut u64, below: usize) -> usize {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    let number = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
    usize::try_from(number).unwrap_or(0) % below.max(1)
}
