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
pub mod hugepages;
pub mod ledger;
pub mod observe;
pub mod plan;
pub mod preempt;
pub mod probe;
mod report;
pub mod resize;
pub mod resources;
pub mod rotate;
pub mod security;
mod shared;
pub mod sources;
pub mod spec;
mod start;
pub mod status;
mod stop;
mod worker;

use crate::cgroup::Qos;
use crate::error::Result;
use crate::events::Subject;
use crate::runtime::events::TaskChanged;
use crate::runtime::{POD_UID, Runtime};
use crate::volumes;
use kybern_api::object::Object;
use kybern_client::informer::Informer;
use kybern_client::store::Delta;
use kybern_client::write::{At, DeleteOptions};
use kybern_wire::cri as pb;
use parking_lot::Mutex;
use status::Ending;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use worker::Worker;

pub use shared::Shared;

/// How long an agent waits for the API before it runs pods from memory, where it may.
const MEMORY_AFTER: Duration = Duration::from_secs(5);
/// The runtime is listed as a whole this often, in case an event was lost.
const RELIST: Duration = Duration::from_secs(10);

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
    /// Uids of the static pods.
    statics: BTreeSet<String>,
    /// Is it known which pods the API has?
    synced: bool,
}

impl Pods {
    /// None yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            handles: HashMap::new(),
            workers: JoinSet::new(),
            listed: HashMap::new(),
            statics: BTreeSet::new(),
            synced: false,
        }
    }

    /// Keeps the node's pods as the API and the manifests say, until cancelled. Then the tasks end;
    /// containers run on. Static pods do not wait for the API.
    pub async fn run(
        mut self,
        mut statics: watch::Receiver<Vec<Object>>,
        mut changes: mpsc::Receiver<TaskChanged>,
        mut commands: mpsc::Receiver<Command>,
        cancel: CancellationToken,
    ) {
        let now = statics.borrow_and_update().clone();
        self.update_statics(now);
        let pods = self.shared.mine.clone();
        let mut deltas = pods.subscribe();
        let synced = pods.synced();
        tokio::pin!(synced);
        let mut network = self.shared.network_ready.clone();
        let mut relist = tokio::time::interval(RELIST);
        relist.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let alone = tokio::time::sleep(MEMORY_AFTER);
        tokio::pin!(alone);
        let mut waits = self.shared.offline.is_some();
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = &mut synced, if !self.synced => {
                    while let Ok(delta) = deltas.try_recv() {
                        self.apply(delta);
                    }
                    self.synced = true;
                    self.settle(&pods);
                    relist.reset_immediately();
                }
                () = &mut alone, if waits && !self.synced => {
                    waits = false;
                    self.recall();
                }
                Ok(()) = statics.changed() => {
                    let now = statics.borrow_and_update().clone();
                    self.update_statics(now);
                }
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

    /// Runs what the node remembers, without the API.
    fn recall(&mut self) {
        let pods = self.shared.offline.as_ref().map(|o| o.recall()).unwrap_or_default();
        tracing::info!(pods = pods.len(), "no server can be reached: pods start from memory");
        for pod in pods {
            self.update(pod, false);
        }
    }

    /// The API has spoken: pods that ran from memory and that it has no more end.
    fn settle(&self, pods: &Informer) {
        let memory = self.shared.offline.as_ref().map(|o| o.settle()).unwrap_or_default();
        let store = pods.store();
        let is_there = |uid: &String| store.iter().any(|i| i.object.head.uid == *uid);
        for handle in memory.iter().filter_map(|uid| Some((uid, self.handles.get(uid)?))) {
            match handle {
                (uid, handle) if is_there(uid) => handle.poke.notify_one(),
                (_, handle) => drop(handle.pod.send_replace(None)),
            }
        }
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

    /// Takes over the pods of the manifests: new ones begin, those that are gone end.
    fn update_statics(&mut self, pods: Vec<Object>) {
        let now: BTreeSet<String> = pods.iter().map(|p| p.head.uid.to_string()).collect();
        for gone in self.statics.difference(&now) {
            if let Some(handle) = self.handles.get(gone) {
                handle.pod.send_replace(None);
            }
        }
        self.statics = now;
        for pod in pods {
            self.update(pod, true);
        }
    }

    /// Notes the API's picture of a static pod; one of a pod that is no more goes.
    fn mirror(&mut self, of: String, mirror: Option<Object>) {
        let handle = self.handles.get(&of);
        match (mirror, handle) {
            (Some(mirror), Some(handle)) => {
                self.shared.mirrors.lock().insert(of, mirror);
                handle.poke.notify_one();
            }
            (Some(mirror), None) => drop(tokio::spawn(delete_mirror(self.shared.clone(), mirror))),
            (None, handle) => {
                self.shared.mirrors.lock().remove(&of);
                if let Some(handle) = handle {
                    handle.poke.notify_one();
                }
            }
        }
    }

    fn apply(&mut self, delta: Delta) {
        let of = |i: &kybern_client::store::Item| sources::mirrored(&i.object);
        if let Some(of) = delta.new.as_ref().or(delta.old.as_ref()).and_then(of) {
            return self.mirror(of, delta.new.map(|n| n.object));
        }
        let uid = |i: &kybern_client::store::Item| i.object.head.uid.to_string();
        if let Some(old) = &delta.old
            && delta.new.as_ref().map(uid) != Some(uid(old))
            && let Some(handle) = self.handles.get(&uid(old))
        {
            handle.pod.send_replace(None);
        }
        if let Some(new) = delta.new {
            self.update(new.object, false);
        }
    }

    fn update(&mut self, object: Object, is_static: bool) {
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
        let worker = Worker::new(self.shared.clone(), subject, poke.clone(), ordered.clone(), is_static);
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
            // Before the API has told its pods, nobody knows whose these are.
            if self.synced && !self.handles.contains_key(&uid) {
                self.remove_orphan(&uid).await?;
            }
        }
        Ok(())
    }

    /// Uids of pods that have a directory or logs on the node.
    fn left_directories(&self) -> Vec<String> {
        let names = |dir: PathBuf| {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|e| e.file_name().to_string_lossy().into_owned())
        };
        let logged = names(self.shared.paths.logs()).filter_map(|dir| Some(dir.rsplit_once('_')?.1.to_owned()));
        names(self.shared.paths.pods()).chain(logged).collect()
    }

    /// Ends what is left of a pod that the API no longer has.
    async fn remove_orphan(&self, uid: &str) -> Result<()> {
        tracing::info!(uid, "removing what is left of a pod");
        for sandbox in self.shared.runtime.sandboxes(Some(uid)).await? {
            self.shared.runtime.stop_sandbox(&sandbox.id).await?;
            self.shared.runtime.remove_sandbox(&sandbox.id).await?;
        }
        volumes::tear_down(&self.shared.paths, uid)?;
        self.shared.paths.remove_logs(uid)?;
        for qos in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
            self.shared.cgroups.remove(&self.shared.cgroups.pod(qos, uid))?;
        }
        Ok(())
    }
}

/// Removes a mirror from the API.
async fn delete_mirror(shared: Arc<Shared>, mirror: Object) {
    let at = At { resource: &shared.pods, namespace: &mirror.head.namespace, name: &mirror.head.name, subresource: "" };
    let options = DeleteOptions { uid: Some(mirror.head.uid.to_string()), grace: Some(0), ..Default::default() };
    if let Err(e) = shared.writer.delete(at, &options).await {
        tracing::debug!(pod = %mirror.head.key(), error = %e, "a mirror is not removed");
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
