//! The task of one pod: observe, plan, act, report; then wait until something changes.

use super::ledger::Demand;
use super::observe::{Observed, State, observe};
use super::plan::{self, Action, Marks, PodActions, World};
use super::resize::{self, Granted, Pending};
use super::status::{Ending, Waiting};
use super::stop::{self, Stop};
use super::{Command, Shared, admit, config, preempt, spec, start};
use crate::error::{Error, Result};
use crate::events::Subject;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use kybern_api::object::Object;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Rounds of observing and acting before the pod is reported in between.
const ROUNDS: usize = 32;
/// When to try again what failed without a time of its own.
pub(super) const RETRY: SignedDuration = SignedDuration::from_secs(2);

/// How long a pod waits for those that make room for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A container that cannot be started now.
pub(super) struct Held {
    pub(super) waiting: Waiting,
    pub(super) until: Option<Timestamp>,
}

/// What became of the pod.
pub(super) enum Step {
    /// Wait, at most until then.
    Wait(Option<Timestamp>),
    /// It is gone.
    Gone,
}

/// One pod's task.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) subject: Subject,
    pub(super) poke: Arc<Notify>,
    pub(super) marks: Arc<Mutex<Marks>>,
    /// Tasks of running containers (postStart, probes), by container id.
    pub(super) tasks: HashMap<String, JoinHandle<()>>,
    /// Containers that wait, by name.
    pub(super) held: BTreeMap<String, Held>,
    /// When volumes must be looked at again.
    pub(super) refresh: Option<Timestamp>,
    /// Ids of the containers that ran when the runtime was last asked.
    pub(super) running: watch::Sender<BTreeSet<String>>,
    /// Is it run without the API, which then has a mirror of it?
    pub(super) is_static: bool,
    /// The static pod as its manifest says.
    pub(super) manifest: Option<Object>,
    /// What the pod's containers were granted.
    pub(super) granted: Granted,
    /// Why the spec's resources were not granted.
    pub(super) pending: Option<Pending>,
    /// Why granted resources are not applied.
    pub(super) stuck: Option<String>,
    /// Has it been said that the pod waits for the network?
    pub(super) told_network: bool,
    /// Where the pod is told to end for the node's sake.
    ordered: Arc<Mutex<Option<Ending>>>,
    /// Grace with which each container is being stopped, by id.
    stopping: HashMap<String, i64>,
    pub(super) ending: Option<Ending>,
    pub(super) reported: Option<serde_json::Value>,
    /// The generation whose references are watched.
    acquired: Option<i64>,
    pub(super) released: bool,
    /// The final status has been reported; what it told of is being removed.
    pub(super) closed: bool,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        subject: Subject,
        poke: Arc<Notify>,
        ordered: Arc<Mutex<Option<Ending>>>,
        is_static: bool,
    ) -> Self {
        let granted = Granted::load(&shared.paths.pod(&subject.uid));
        Self {
            is_static,
            manifest: None,
            granted,
            pending: None,
            stuck: None,
            told_network: false,
            ordered,
            shared,
            subject,
            poke,
            marks: Arc::default(),
            tasks: HashMap::new(),
            held: BTreeMap::new(),
            refresh: None,
            running: watch::Sender::default(),
            stopping: HashMap::new(),
            ending: None,
            reported: None,
            acquired: None,
            released: false,
            closed: false,
        }
    }

    /// Runs until the pod is gone. None from `pod` means that the API has it no more.
    pub(super) async fn run(mut self, mut pod: watch::Receiver<Option<Object>>) {
        let mut last: Option<Object> = None;
        loop {
            let current = pod.borrow_and_update().clone();
            let vanished = current.is_none();
            last = current.or(last);
            let Some(object) = &last else { return };
            if self.is_static {
                self.manifest = Some(object.clone());
            }
            let step = match self.decode(object, vanished) {
                Ok(pod) => {
                    let step = self.step(&pod, vanished).await;
                    self.remember(object, &pod);
                    step
                }
                Err(e) => Err(e),
            };
            let wake = match step {
                Ok(Step::Gone) => break,
                Ok(Step::Wait(wake)) => wake,
                Err(e) => {
                    tracing::warn!(pod = %object.head.key(), error = %e, "will be tried again");
                    Some(self.shared.clock.now() + RETRY)
                }
            };
            let timer = self.sleep_until(wake);
            tokio::select! {
                _ = pod.changed() => {}
                () = self.poke.notified() => {}
                () = timer => {}
            }
        }
        self.tasks.values().for_each(JoinHandle::abort);
        self.shared.leave(&self.subject.uid);
    }

    /// For a start without servers. A static pod has its manifest.
    fn remember(&self, object: &Object, pod: &Pod) {
        if self.is_static || self.released {
            return;
        }
        if let Err(e) = self.shared.references.keep(object, pod) {
            tracing::warn!(pod = %object.head.key(), error = %e, "the pod would not start without servers");
        }
    }

    fn sleep_until(&self, wake: Option<Timestamp>) -> impl Future<Output = ()> + use<> {
        let left = wake.map(|w| Duration::try_from(w.duration_since(self.shared.clock.now())).unwrap_or_default());
        async move {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        }
    }

    fn decode(&self, object: &Object, vanished: bool) -> Result<Pod> {
        let mut pod: Pod = object.view().map_err(|source| Error::Decode { what: "Pod", source })?;
        if let Some(status) = self.reported.clone().filter(|_| self.is_static) {
            // Nobody but this task keeps a static pod's status.
            pod.status =
                Some(serde_json::from_value(status).map_err(|source| Error::Decode { what: "PodStatus", source })?);
        }
        if vanished && pod.metadata.deletion_timestamp.is_none() {
            // Removed by force: nothing is left to wait for. A static pod's manifest was removed in order.
            let now = self.shared.clock.now();
            pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
            let own = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
            pod.metadata.deletion_grace_period_seconds = if self.is_static { own } else { Some(0) };
        }
        Ok(pod)
    }

    async fn step(&mut self, pod: &Pod, vanished: bool) -> Result<Step> {
        // A later generation may refer to more: ephemeral containers come with an update.
        let generation = pod.metadata.generation.unwrap_or(0);
        if self.acquired != Some(generation) && !self.released {
            if !self.is_static {
                self.shared.references.acquire(pod, &self.poke).await;
            }
            if self.acquired.is_none() {
                self.admit(pod).await?;
            }
            self.acquired = Some(generation);
        }
        if vanished && !self.is_static {
            // The scheduler has given its place away.
            self.shared.leave(&self.subject.uid);
        }
        if let Some(ending) = self.ordered.lock().take()
            && self.ending.is_none()
        {
            self.shared.events.warn(&self.subject, &ending.reason, ending.message.clone());
            self.ending = Some(ending);
        }
        let deadline = self.check_deadline(pod);
        let pod = &self.allocate(pod)?;
        for _ in 0..ROUNDS {
            let observed = self.observe(pod).await?;
            let actions = self.plan(pod, &observed);
            if actions.actions.iter().any(|a| matches!(a, Action::RemoveSandbox(id) if observed.is_latest(id))) {
                // The last look at how the containers ended.
                let last = PodActions { finished: true, ..PodActions::default() };
                self.report(pod, &observed, &last, vanished).await?;
                self.closed = true;
            }
            match self.act(pod, &observed, &actions).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(e) => {
                    self.report(pod, &observed, &actions, vanished).await?;
                    return Err(e);
                }
            }
            self.refresh_volumes(pod, &observed).await;
            self.report(pod, &observed, &actions, vanished).await?;
            if actions.finished {
                return self.finish(pod, vanished).await;
            }
            let held = self.held.values().filter_map(|h| h.until);
            return Ok(Step::Wait(held.chain(actions.wake).chain(self.refresh).chain(deadline).min()));
        }
        Ok(Step::Wait(Some(self.shared.clock.now() + RETRY)))
    }

    /// The pod with the resources it was granted, and grants what it asks for where there is room.
    fn allocate(&mut self, pod: &Pod) -> Result<Pod> {
        if self.released || self.ending.is_some() || pod.metadata.deletion_timestamp.is_some() {
            return Ok(resize::effective(pod, &self.granted));
        }
        let before = self.granted.clone();
        {
            // Two pods that grow at once must not both get the same room.
            let mut ledger = self.shared.ledger.lock();
            self.pending = resize::grant(&mut self.granted, pod, || self.shared.room(&ledger, &self.subject.uid));
            if self.granted != before {
                let mut demand = Demand::of(&resize::effective(pod, &self.granted));
                demand.rank.critical |= self.is_static;
                ledger.enter(&self.subject.uid, demand);
            }
        }
        if self.granted != before {
            self.granted.save(&self.shared.paths.pod(&self.subject.uid))?;
        }
        Ok(resize::effective(pod, &self.granted))
    }

    /// Lets the pod in, if the node can run it and has room for it; else it fails at once. One that runs
    /// already is in.
    async fn admit(&mut self, pod: &Pod) -> Result<()> {
        let shared = self.shared.clone();
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
        let is_known = !matches!(phase, "" | "Pending");
        // Nobody reports a static pod to an agent that has only just begun.
        let runs = is_known || self.is_static && !shared.runtime.sandboxes(Some(&self.subject.uid)).await?.is_empty();
        let now = admit::Now { leaving: *shared.leaving.borrow(), pressures: &shared.pressures.borrow().clone() };
        let unable = || {
            let timely = || if self.is_static { None } else { admit::untimely(pod, &now) };
            admit::refusal(pod, &shared.abilities).or_else(timely)
        };
        let able = if runs { None } else { unable() }.map_or(Ok(()), Err);
        let entered = able.and_then(|()| shared.enter(pod, runs, self.is_static, &self.granted));
        for uid in entered.as_ref().unwrap_or(&Vec::new()) {
            // Whoever deals out the orders ends with the agent.
            shared.orders.send(Command::End { uid: uid.clone(), ending: preempt::ending() }).await.ok();
        }
        for uid in entered.as_ref().unwrap_or(&Vec::new()) {
            // Two would use what one was promised. A victim that does not end is no reason never to start.
            tokio::time::timeout(PATIENCE, shared.until_left(uid)).await.ok();
        }
        if let Err(refused) = entered {
            shared.events.warn(&self.subject, &refused.reason, refused.message.clone());
            self.ending = Some(Ending { message: format!("Pod was rejected: {}", refused.message), ..refused });
        }
        Ok(())
    }

    /// Ends a pod that is past its activeDeadlineSeconds; else says when that will be.
    fn check_deadline(&mut self, pod: &Pod) -> Option<Timestamp> {
        let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
        let start = pod.status.as_ref()?.start_time.as_ref()?.0;
        let end = start + SignedDuration::from_secs(seconds);
        if self.shared.clock.now() < end {
            return Some(end);
        }
        if self.ending.is_none() {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.ending = Some(Ending { reason: "DeadlineExceeded".into(), message, ..Ending::default() });
        }
        None
    }

    async fn observe(&mut self, pod: &Pod) -> Result<Observed> {
        let mut observed = observe(&*self.shared.runtime, &self.subject.uid).await?;
        self.shared.remember(&observed, &self.poke);
        let running: BTreeSet<String> = observed.running().map(|c| c.id.clone()).collect();
        self.running.send_replace(running.clone());
        self.tasks.retain(|id, task| {
            let runs = running.contains(id);
            if !runs {
                task.abort();
            }
            runs
        });
        {
            let mut marks = self.marks.lock();
            let marks = &mut *marks;
            for set in [&mut marks.started, &mut marks.ready, &mut marks.stopping, &mut marks.hooking] {
                set.retain(|id| running.contains(id));
            }
            marks.unhealthy.retain(|id, _| running.contains(id));
        }
        self.stopping.retain(|id, _| running.contains(id));
        for c in observed.containers.iter_mut().filter(|c| c.state == State::Exited && c.message.is_empty()) {
            c.message = stop::last_words(&self.shared, pod, c);
        }
        for c in observed.running() {
            if !self.tasks.contains_key(&c.id) {
                start::watch(self, pod, &observed, &c.name, &c.id, false);
            }
        }
        Ok(observed)
    }

    fn plan(&self, pod: &Pod, observed: &Observed) -> PodActions {
        let marks = self.marks.lock().clone();
        let now = self.shared.clock.now();
        plan::plan(&World {
            pod,
            observed,
            marks: &marks,
            evicted: self.ending.is_some(),
            hurry: self.ending.as_ref().and_then(|e| e.grace),
            granted: &self.granted,
            now,
        })
    }

    /// Does what is planned; false when there was nothing to do but wait.
    async fn act(&mut self, pod: &Pod, observed: &Observed, plan: &PodActions) -> Result<bool> {
        let mut acted = false;
        let planned: Vec<&str> = plan
            .actions
            .iter()
            .filter_map(|a| if let Action::Start { name, .. } = a { Some(name.as_str()) } else { None })
            .collect();
        self.held.retain(|name, _| planned.contains(&name.as_str()) || plan.backing_off.contains_key(name));
        for (name, seconds) in &plan.backing_off {
            self.hold_back(pod, name, *seconds, plan.wake);
        }
        for action in &plan.actions {
            acted |= self.one(pod, observed, action).await?;
        }
        self.hasten(pod, observed);
        Ok(acted)
    }

    fn hold_back(&mut self, pod: &Pod, name: &str, seconds: i64, until: Option<Timestamp>) {
        let (namespace, pod_name, uid) = config::identity(pod);
        let message =
            format!("back-off {seconds}s restarting failed container={name} pod={pod_name}_{namespace}({uid})");
        let waiting = Waiting { reason: "CrashLoopBackOff".into(), message };
        if self.held.get(name).is_none_or(|h| h.waiting != waiting) {
            let event = format!("Back-off restarting failed container {name} in pod {pod_name}_{namespace}({uid})");
            self.shared.events.warn(&self.subject, "BackOff", event);
        }
        self.held.insert(name.to_owned(), Held { waiting, until });
    }

    async fn one(&mut self, pod: &Pod, observed: &Observed, action: &Action) -> Result<bool> {
        let runtime = self.shared.runtime.clone();
        match action {
            Action::CreateSandbox(attempt) => return start::sandbox(self, pod, *attempt).await,
            Action::StopSandbox(id) => runtime.stop_sandbox(id).await?,
            Action::RemoveSandbox(id) => runtime.remove_sandbox(id).await?,
            Action::Remove(id) => runtime.remove_container(id).await?,
            Action::Resize { id, name } => {
                let failed = self.resize(pod, id, name).await.err().map(|e| e.to_string());
                let stuck = failed.is_some();
                self.stuck = failed;
                if stuck {
                    self.refresh = Some(self.shared.clock.now() + RETRY * 5);
                }
                return Ok(!stuck);
            }
            Action::Start { name, attempt, step } => {
                return start::container(self, pod, observed, name, *attempt, *step).await;
            }
            Action::Stop { id, name, grace, why, after } => {
                self.shared.events.normal(&self.subject, "Killing", why.clone());
                let grace = *grace;
                stop::stop(self, pod, observed, &Stop { id, name, grace, after });
                self.stopping.insert(id.clone(), grace);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives a container its new resources; the pod's cgroup gets at least as much before, and no more
    /// than that after.
    async fn resize(&mut self, pod: &Pod, id: &str, name: &str) -> Result<()> {
        let Some((c, _)) = pod.spec.as_ref().and_then(|s| spec::find(s, name)) else { return Ok(()) };
        let qos = super::resources::qos(pod);
        let cgroup = self.shared.cgroups.pod(qos, &self.subject.uid);
        let (limits, before) =
            (super::resources::pod_limits(pod, &self.shared.huge), self.shared.cgroups.memory_limit(&cgroup));
        let shrinks = matches!((before, limits.memory), (Some(old), Some(new)) if new < old);
        if !shrinks {
            self.shared.cgroups.ensure(&cgroup, &limits)?;
        }
        let wanted = super::resources::linux(&c, qos, self.shared.machine());
        self.shared.runtime.update_container(id, wanted).await?;
        if shrinks {
            self.shared.cgroups.ensure(&cgroup, &limits)?;
        }
        self.note_applied(&c)?;
        let message = format!("Container {name} has been resized");
        self.shared.events.normal(&self.subject, "ResizeCompleted", message);
        Ok(())
    }

    /// Notes what a container has been given.
    pub(super) fn note_applied(&mut self, c: &Container) -> Result<()> {
        self.granted.applied.insert(c.name.clone(), c.resources.clone().unwrap_or_default());
        self.granted.save(&self.shared.paths.pod(&self.subject.uid))
    }

    /// A second deletion with less grace shortens what is under way.
    fn hasten(&mut self, pod: &Pod, observed: &Observed) {
        let Some(grace) = pod.metadata.deletion_grace_period_seconds else { return };
        for c in observed.running() {
            if let Some(given) = self.stopping.get_mut(&c.id)
                && grace < *given
            {
                *given = grace;
                stop::stop_now(&self.shared, &c.id, grace);
            }
        }
    }

    /// Keeps contents of volumes current while containers use them.
    async fn refresh_volumes(&mut self, pod: &Pod, observed: &Observed) {
        if pod.metadata.deletion_timestamp.is_none()
            && observed.running().next().is_some()
            && let Err(e) = start::set_up_volumes(self, pod, observed).await
        {
            tracing::warn!(pod = self.subject.name, error = %e, "a volume is not up to date");
            self.refresh = Some(self.shared.clock.now() + RETRY * 10);
        }
    }
}
