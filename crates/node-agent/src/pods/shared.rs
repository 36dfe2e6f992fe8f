//! What all pods of the node share.

use super::Command;
use super::admit::{self, Abilities, Place};
use super::ledger::{self, Amounts, Demand, Ledger};
use super::observe::Observed;
use super::preempt::{self, Other};
use super::resize::{self, Granted, Room};
use super::resources::Machine;
use super::spec::MIRROR;
use super::status::Ending;
use crate::cgroup::Cgroups;
use crate::config::{Config, Paths};
use crate::events::Recorder;
use crate::images::pull::Puller;
use crate::node::capacity::Capacity;
use crate::node::pressure::Pressure;
use crate::offline::Offline;
use crate::references::References;
use crate::runtime::Runtime;
use crate::volumes::token::Tokens;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kybern_api::meta::quantity::Quantity;
use kybern_api::object::Object;
use kybern_api::seam::Clock;
use kybern_client::informer::Informer;
use kybern_client::store::{Item, Name};
use kybern_client::transport::Resource;
use kybern_client::write::Writer;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, watch};

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
    /// What the node remembers for a start without servers; None: nothing.
    pub offline: Option<Arc<Offline>>,
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
    /// What pods may request together.
    pub allocatable: Capacity,
    /// Sizes of huge pages whose use the kernel can limit.
    pub huge: Vec<i64>,
    /// All nodes; this one is among them.
    pub nodes: Arc<Informer>,
    /// Orders to pods.
    pub orders: mpsc::Sender<Command>,
    /// Who has been let in.
    pub ledger: Mutex<Ledger>,
    /// Woken whenever one has left.
    pub left: Notify,
    /// What pods may ask of the node.
    pub abilities: Abilities,
    /// Can the kernel filter system calls?
    pub seccomp: bool,
    /// Can pods be wired?
    pub network_ready: watch::Receiver<bool>,
    /// Is the machine going down?
    pub leaving: watch::Receiver<bool>,
    /// What the node runs short of.
    pub pressures: watch::Receiver<Vec<Pressure>>,
    /// The pods resource.
    pub pods: Resource,
    /// The node's uid in the API, once it is known.
    pub node_uid: watch::Receiver<Option<String>>,
    /// The API's pictures of static pods, by the static pods' uids.
    pub mirrors: Mutex<HashMap<String, Object>>,
    /// Which pod to poke when a sandbox or container changes.
    pub known: Mutex<HashMap<String, Arc<Notify>>>,
}

impl Shared {
    pub(super) fn remember(&self, observed: &Observed, poke: &Arc<Notify>) {
        let ids = observed.sandbox.iter().map(|s| &s.id).chain(observed.containers.iter().map(|c| &c.id));
        let mut known = self.known.lock();
        for id in ids {
            known.insert(id.clone(), poke.clone());
        }
    }
    pub(super) fn know(&self, id: &str, poke: &Arc<Notify>) {
        self.known.lock().insert(id.to_owned(), poke.clone());
    }
    /// The node's part in a container's resources.
    pub(super) fn machine(&self) -> Machine<'_> {
        Machine { memory: self.capacity.memory, huge: &self.huge }
    }
    /// The node as the API has it.
    pub(super) fn node(&self) -> Option<Node> {
        self.nodes.get(&Name::new("", &*self.config.name))?.object.view().ok()
    }
    /// What the node has for pods: what the agent counts itself, and what was added to its object.
    pub(super) fn offer(&self, node: Option<&Node>) -> Amounts {
        let added = node.and_then(|n| n.status.as_ref()?.allocatable.as_ref()).into_iter().flatten();
        let added = added.filter_map(|(name, q)| Some((name.clone(), q.0.parse::<Quantity>().ok()?.value())));
        let own = self.allocatable.amounts(self.config.max_pods);
        added.chain(own).collect()
    }
    /// Pods that another agent let in before this one, and that have not had their turn yet.
    fn inherited(&self, ledger: &Ledger, but: &str) -> Vec<(String, Demand)> {
        let strange = |i: &&Item| i.object.head.uid != but && !ledger.has(&i.object.head.uid);
        let store = self.mine.store();
        // A pod that does not decode is not started either.
        let pods = store.iter().filter(strange).filter_map(|i| i.object.view::<Pod>().ok());
        pods.filter(was_let_in).map(|pod| (pod.metadata.uid.clone().unwrap_or_default(), Demand::of(&pod))).collect()
    }
    /// Notes a pod among those of the node, and says who has to go for it; or why it does not fit beside
    /// them. One that `runs` does.
    pub(super) fn enter(
        &self,
        pod: &Pod,
        runs: bool,
        is_static: bool,
        granted: &Granted,
    ) -> Result<Vec<String>, Ending> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") {
            return Ok(Vec::new());
        }
        let mut demand = Demand::of(&resize::effective(pod, granted));
        demand.rank.critical |= is_static;
        let node = self.node();
        let allocatable = self.offer(node.as_ref());
        let mut ledger = self.ledger.lock();
        let inherited = self.inherited(&ledger, uid);
        let mut gone: Vec<String> = Vec::new();
        if !runs {
            let others: Vec<Other<'_>> =
                ledger.others(uid).chain(inherited.iter().map(|(uid, d)| (uid.as_str(), d))).collect();
            let victims = demand.rank.critical.then(|| preempt::victims(&demand, &others, &allocatable)).flatten();
            gone.extend(victims.unwrap_or_default().into_iter().map(str::to_owned));
            let stay = |(uid, _): &&Other<'_>| !gone.iter().any(|g| g == uid);
            let others: Vec<&Demand> = others.iter().filter(stay).map(|(_, d)| *d).collect();
            let place =
                Place { name: &self.config.name, node: node.as_ref(), allocatable: &allocatable, others: &others };
            if let Some(refused) = admit::misfit(pod, &demand, &place, is_static) {
                return Err(refused);
            }
        }
        gone.iter().for_each(|g| ledger.evict(g));
        ledger.enter(uid, demand);
        Ok(gone)
    }
    /// A pod holds nothing more.
    pub(super) fn leave(&self, uid: &str) {
        self.ledger.lock().leave(uid);
        self.left.notify_waiters();
    }
    /// Waits until a pod that was told to make room has done so.
    pub(super) async fn until_left(&self, uid: &str) {
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            if !self.ledger.lock().is_leaving(uid) {
                return;
            }
            left.await;
        }
    }
    /// What the node has for one pod beside its others.
    pub(super) fn room(&self, ledger: &Ledger, uid: &str) -> Room {
        let inherited = self.inherited(ledger, uid);
        let others: Vec<&Demand> = ledger.others(uid).map(|(_, d)| d).chain(inherited.iter().map(|(_, d)| d)).collect();
        let taken = |resource: &str| ledger::sum(others.iter().copied(), resource);
        let allocatable = (self.allocatable.cpu_milli, self.allocatable.memory);
        Room { allocatable, taken: (taken("cpu"), taken("memory")) }
    }
    /// The services a pod's environment names.
    pub(super) fn services_for(&self, pod: &Pod) -> Vec<Service> {
        let store = self.services.store();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api = store.get(&Name::new("default", "kubernetes")).filter(|_| namespace != "default");
        // A service that does not decode is not the pod's fault; it goes without its variables.
        store.in_namespace(namespace).chain(api).filter_map(|i| i.object.view().ok()).collect()
    }
}

/// Has a pod of the API begun here and not ended? Pictures of static pods hold nothing themselves.
fn was_let_in(pod: &Pod) -> bool {
    let is_mirror = pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR));
    let status = pod.status.as_ref();
    let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
    !is_mirror && !matches!(phase, "Succeeded" | "Failed") && status.is_some_and(|s| s.start_time.is_some())
}
