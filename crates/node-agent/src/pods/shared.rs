//! What all pods of the node share.

use super::admit::Abilities;
use super::observe::Observed;
use super::resize::Room;
use super::resources;
use crate::cgroup::Cgroups;
use crate::config::{Config, Paths};
use crate::events::Recorder;
use crate::images::pull::Puller;
use crate::node::capacity::Capacity;
use crate::node::pressure::Pressure;
use crate::references::References;
use crate::runtime::Runtime;
use crate::volumes::token::Tokens;
use k8s_openapi::api::core::v1::{Pod, Service};
use kybern_api::object::Object;
use kybern_api::seam::Clock;
use kybern_client::informer::Informer;
use kybern_client::store::Name;
use kybern_client::transport::Resource;
use kybern_client::write::Writer;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

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
    /// What the node has for one pod beside its others.
    pub(super) fn room(&self, uid: &str) -> Room {
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
    pub(super) fn services_for(&self, pod: &Pod) -> Vec<Service> {
        let store = self.services.store();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api = store.get(&Name::new("default", "kubernetes")).filter(|_| namespace != "default");
        // A service that does not decode is not the pod's fault; it goes without its variables.
        store.in_namespace(namespace).chain(api).filter_map(|i| i.object.view().ok()).collect()
    }
}
