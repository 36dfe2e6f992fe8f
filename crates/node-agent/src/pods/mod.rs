//! Pods: from what the API says to what the runtime does, and back.
//!
//! One task ([`Pods::run`]) deals out changes to one task per pod; nothing else touches a pod's runtime
//! state. `plan` and `status` are pure.

pub mod admit;
pub mod config;
pub mod dns;
pub mod env;
pub mod evict;
pub mod expand;
pub mod fields;
pub mod find;
pub mod handlers;
pub mod hooks;
pub mod http_action;
pub mod observe;
pub mod plan;
pub mod probe;
pub mod resize;
pub mod resources;
pub mod rotate;
pub mod security;
pub mod spec;
mod start;
pub mod status;
mod stop;
mod worker;

use crate::cgroup::{Cgroups, Qos};
use crate::config::{Config, Paths};
use crate::error::Result;
use crate::events::{Recorder, Subject};
use crate::images::pull::Puller;
use crate::node::capacity::Capacity;
use crate::references::References;
use crate::runtime::events::TaskChanged;
use crate::runtime::{POD_UID, Runtime};
use crate::volumes::{self, token::Tokens};
use admit::Abilities;
use k8s_openapi::api::core::v1::{Pod, Service};
use kybern_api::object::Object;
use kybern_api::seam::Clock;
use kybern_client::informer::Informer;
use kybern_client::store::{Delta, Name};
use kybern_client::transport::Resource;
use kybern_client::write::Writer;
use kybern_wire::cri as pb;
use observe::Observed;
use parking_lot::Mutex;
use resize::Room;
use status::Ending;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use worker::Worker;

/// The runtime is listed as a whole this often, in case an event was lost.
const RELIST: Duration = Duration::from_secs(10);

/// What all pods share.
pub struct Shared {
    /// Settings.
    pub config: Config,
    /// Where files lie.
    pub paths: Paths,
    /// The container runtime.
    pub runtime: Arc<dyn Runtime>,
    /// Image pulls.
    pub puller: Arc<Puller>,
    /// The node's cgroups.
    pub cgroups: Cgroups,
    /// ConfigMaps and Secrets.
    pub references: References,
    /// Service accounts' tokens.
    pub tokens: Tokens,
    /// Writes as the node.
    pub writer: Writer,
    /// Events.
    pub events: Recorder,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// All services.
    pub services: Arc<Informer>,
    /// The node's pods.
    pub mine: Arc<Informer>,
    /// What the machine has.
    pub capacity: Capacity,
    /// CPU in millicores and memory in bytes that pods may request together.
    pub allocatable: (i64, i64),
    /// What pods may ask of the node.
    pub abilities: Abilities,
    /// Can the kernel filter system calls?
    pub seccomp: bool,
    /// Can pods be wired?
    pub network_ready: watch::Receiver<bool>,
    /// The pods resource.
    pub pods: Resource,
    /// Which pod to poke when a sandbox or container changes.
    pub known: Mutex<HashMap<String, Arc<Notify>>>,
}

impl Shared {
    fn remember(&self, observed: &Observed, poke: &Arc<Notify>) {
        let ids = observed.sandbox.iter().map(|s| &s.id).chain(observed.containers.iter().map(|c| &c.id));
        let mut known = self.known.lock();
        for id in ids {
            known.insert(id.clone(), poke.clone());
        }
    }
    fn know(&self, id: &str, poke: &Arc<Notify>) {
        self.known.lock().insert(id.to_owned(), poke.clone());
    }
    /// What the node has for one pod beside its others.
    fn room(&self, uid: &str) -> Room {
        let mut taken = (0, 0);
        for item in self.mine.store().iter().filter(|i| i.object.head.uid != uid) {
            // A pod that does not decode is not started either.
            let Ok(pod) = item.object.view::<Pod>() else { continue };
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
            if !matches!(phase, "Succeeded" | "Failed") {
                let (cpu, memory) = resources::requests(&pod);
                taken = (taken.0 + cpu, taken.1 + memory);
            }
        }
        Room { allocatable: self.allocatable, taken }
    }
    /// The services a pod's environment names.
    fn services_for(&self, pod: &Pod) -> Vec<Service> {
        let store = self.services.store();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api = store.get(&Name::new("default", "kubernetes")).filter(|_| namespace != "default");
        // A service that does not decode is not the pod's fault; it goes without its variables.
        store.in_namespace(namespace).chain(api).filter_map(|i| i.object.view().ok()).collect()
    }
}

struct Handle {
    pod: watch::Sender<Option<Object>>,
    poke: Arc<Notify>,
    /// Where the pod is told to end.
    ordered: Arc<Mutex<Option<Ending>>>,
}

/// What others ask of the node's pods.
#[derive(Debug, Clone)]
pub enum Command {
    /// End a pod for the node's sake.
    End {
        /// Its uid.
        uid: String,
        /// Why.
        ending: Ending,
    },
}

/// The node's pods.
pub struct Pods {
    shared: Arc<Shared>,
    handles: HashMap<String, Handle>,
    workers: JoinSet<String>,
    /// State of every sandbox and container at the last listing.
    listed: HashMap<String, i32>,
}

impl Pods {
    /// None yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, handles: HashMap::new(), workers: JoinSet::new(), listed: HashMap::new() }
    }

    /// Keeps the node's pods as the API says, until cancelled. Then the tasks end; containers run on.
    pub async fn run(
        mut self,
        mut changes: mpsc::Receiver<TaskChanged>,
        mut commands: mpsc::Receiver<Command>,
        cancel: CancellationToken,
    ) {
        let pods = self.shared.mine.clone();
        if cancel.run_until_cancelled(pods.synced()).await.is_none() {
            return;
        }
        let mut deltas = pods.subscribe();
        while let Ok(delta) = deltas.try_recv() {
            self.apply(delta);
        }
        let mut network = self.shared.network_ready.clone();
        let mut relist = tokio::time::interval(RELIST);
        relist.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                delta = deltas.recv() => match delta {
                    Some(delta) => self.apply(delta),
                    None => break,
                },
                Some(command) = commands.recv() => self.command(command),
                Some(change) = changes.recv() => self.poke(&change.id),
                Some(ended) = self.workers.join_next() => self.ended(ended),
                Ok(()) = network.changed() => self.poke(""),
                _ = relist.tick() => if let Err(e) = self.relist().await {
                    tracing::warn!(error = %e, "the runtime cannot be listed");
                },
            }
        }
        self.workers.shutdown().await;
    }

    fn command(&self, command: Command) {
        let Command::End { uid, ending } = command;
        // One that is gone meanwhile has ended.
        if let Some(handle) = self.handles.get(&uid) {
            *handle.ordered.lock() = Some(ending);
            handle.poke.notify_one();
        }
    }

    /// Wakes the pod of a container that ended; all pods, when the id is empty.
    fn poke(&self, id: &str) {
        if id.is_empty() {
            self.handles.values().for_each(|h| h.poke.notify_one());
        } else if let Some(poke) = self.shared.known.lock().get(id).cloned() {
            tokio::spawn(settle(self.shared.runtime.clone(), id.to_owned(), poke));
        }
    }

    fn ended(&mut self, ended: std::result::Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                if let Some(handle) = self.handles.remove(&uid) {
                    self.shared.known.lock().retain(|_, poke| !Arc::ptr_eq(poke, &handle.poke));
                }
            }
            Err(e) => tracing::error!(error = %e, "a pod's task broke"),
        }
    }

    fn apply(&mut self, delta: Delta) {
        let uid = |i: &kybern_client::store::Item| i.object.head.uid.to_string();
        if let Some(old) = &delta.old
            && delta.new.as_ref().map(uid) != Some(uid(old))
            && let Some(handle) = self.handles.get(&uid(old))
        {
            handle.pod.send_replace(None);
        }
        if let Some(new) = delta.new {
            self.update(new.object);
        }
    }

    fn update(&mut self, object: Object) {
        let uid = object.head.uid.to_string();
        if let Some(handle) = self.handles.get(&uid) {
            handle.pod.send_replace(Some(object));
            return;
        }
        let subject = Subject {
            kind: "Pod",
            namespace: object.head.namespace.to_string(),
            name: object.head.name.to_string(),
            uid: uid.clone(),
        };
        let poke = Arc::new(Notify::new());
        let (pod, updates) = watch::channel(Some(object));
        let ordered = Arc::new(Mutex::new(None));
        let worker = Worker::new(self.shared.clone(), subject, poke.clone(), ordered.clone());
        self.workers.spawn({
            let uid = uid.clone();
            async move {
                worker.run(updates).await;
                uid
            }
        });
        self.handles.insert(uid, Handle { pod, poke, ordered });
    }

    /// Pokes the pods whose containers changed without an event, and ends what belongs to no pod.
    async fn relist(&mut self) -> Result<()> {
        let sandboxes = self.shared.runtime.sandboxes(None).await?;
        let containers = self.shared.runtime.containers(None).await?;
        let owner = |l: &HashMap<String, String>| l.get(POD_UID).cloned().unwrap_or_default();
        let states = sandboxes
            .iter()
            .map(|s| (s.id.clone(), s.state, owner(&s.labels)))
            .chain(containers.iter().map(|c| (c.id.clone(), c.state, owner(&c.labels))));
        let mut now = HashMap::new();
        for (id, state, uid) in states {
            if self.listed.get(&id) != Some(&state)
                && let Some(handle) = self.handles.get(&uid)
            {
                handle.poke.notify_one();
            }
            now.insert(id, state);
        }
        self.listed = now;
        let orphans: BTreeSet<String> = sandboxes.iter().map(|s| owner(&s.labels)).collect();
        for uid in orphans.into_iter().chain(self.left_directories()) {
            if !self.handles.contains_key(&uid) {
                self.remove_orphan(&uid).await?;
            }
        }
        Ok(())
    }

    /// Uids of pods that have a directory on the node.
    fn left_directories(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.shared.paths.pods()).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Ends what is left of a pod that the API no longer has.
    async fn remove_orphan(&self, uid: &str) -> Result<()> {
        tracing::info!(uid, "removing what is left of a pod");
        for sandbox in self.shared.runtime.sandboxes(Some(uid)).await? {
            self.shared.runtime.stop_sandbox(&sandbox.id).await?;
            self.shared.runtime.remove_sandbox(&sandbox.id).await?;
        }
        volumes::tear_down(&self.shared.paths, uid)?;
        for qos in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
            self.shared.cgroups.remove(&self.shared.cgroups.pod(qos, uid))?;
        }
        Ok(())
    }
}

/// Pokes a pod once CRI reports the end of one of its containers. CRI learns of it from the same
/// events as we do, takes a moment to note it and tells nobody when it has; so it is asked, at growing
/// distances. Should it take longer still, the relist sees it.
async fn settle(runtime: Arc<dyn Runtime>, id: String, poke: Arc<Notify>) {
    let mut pause = Duration::from_millis(5);
    for _ in 0..9 {
        let running = match runtime.container_status(&id).await {
            Ok(status) => status.state() == pb::ContainerState::ContainerRunning,
            // It is a sandbox.
            Err(e) if e.is_not_found() => {
                let answer = runtime.sandbox_status(&id, false).await;
                answer.is_ok_and(|a| a.status.is_some_and(|s| s.state() == pb::PodSandboxState::SandboxReady))
            }
            Err(_) => false,
        };
        if !running {
            break;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    poke.notify_one();
}
