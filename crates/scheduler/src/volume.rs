//! Claims and volumes as the scheduler sees them, and what has to be done about a pod's claims when it
//! goes to a node.

use crate::node::NodeInfo;
use crate::plugins::node_affinity::term_matches;
use crate::pod::{ClaimRef, PodInfo};
use k8s_openapi::api::core::v1::{NodeSelector, PersistentVolume, PersistentVolumeClaim, TopologySelectorTerm};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use kybern_api::meta::quantity::Quantity;
use kybern_api::meta::selector::{Labels, Selector};
use kybern_api::object::Object;
use kybern_client::store::Name;
use smol_str::SmolStr;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Says which node a provisioner is to make the volume for.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BOUND: &str = "pv.kubernetes.io/bind-completed";
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// The provisioner of classes whose volumes are made by hand.
const BY_HAND: &str = "kubernetes.io/no-provisioner";

fn bytes(amounts: Option<&BTreeMap<String, Text>>) -> i64 {
    let quantity = |text: &Text| text.0.parse().map_or(0, Quantity::value);
    amounts.and_then(|a| a.get("storage")).map_or(0, quantity)
}

/// A PersistentVolumeClaim.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claim {
    pub(crate) name: Name,
    pub(crate) uid: SmolStr,
    pub(crate) revision: u64,
    pub(crate) class: SmolStr,
    pub(crate) volume: SmolStr,
    /// Bound on both sides.
    pub(crate) bound: bool,
    pub(crate) lost: bool,
    pub(crate) deleting: bool,
    /// For which node it is to be provisioned, or empty.
    pub(crate) selected: SmolStr,
    /// One pod only may use it.
    pub(crate) exclusive: bool,
    modes: Vec<String>,
    block: bool,
    size: i64,
    selector: Option<Selector>,
    owner: SmolStr,
}

fn is_block(mode: Option<&str>) -> bool {
    mode == Some("Block")
}

impl Claim {
    /// Reads a claim.
    pub(crate) fn read(object: &Object) -> Result<Arc<Self>, serde_json::Error> {
        let claim: PersistentVolumeClaim = object.view()?;
        let annotation = |key: &str| claim.metadata.annotations.as_ref().and_then(|a| a.get(key)).cloned();
        let spec = claim.spec.unwrap_or_default();
        let volume: SmolStr = spec.volume_name.unwrap_or_default().into();
        let modes = spec.access_modes.unwrap_or_default();
        let selector = spec.selector.map(serde_json::to_value).transpose()?;
        Ok(Arc::new(Self {
            name: Name::of(object),
            uid: object.head.uid.clone(),
            revision: object.revision,
            class: annotation(OLD_CLASS).or(spec.storage_class_name).unwrap_or_default().into(),
            bound: !volume.is_empty() && annotation(BOUND).is_some(),
            volume,
            lost: claim.status.and_then(|s| s.phase).as_deref() == Some("Lost"),
            deleting: object.head.deleting.is_some(),
            selected: annotation(SELECTED_NODE).unwrap_or_default().into(),
            exclusive: modes.iter().any(|m| m == "ReadWriteOncePod"),
            modes,
            block: is_block(spec.volume_mode.as_deref()),
            size: bytes(spec.resources.and_then(|r| r.requests).as_ref()),
            selector: selector.map(|v| Selector::from_object(Some(&v)).unwrap_or(Selector::Nothing)),
            owner: object.head.controller().map(|o| o.uid.clone()).unwrap_or_default(),
        }))
    }
}

/// A PersistentVolume.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Volume {
    pub(crate) name: SmolStr,
    pub(crate) revision: u64,
    pub(crate) labels: Vec<(SmolStr, SmolStr)>,
    /// Driver and handle of a CSI volume.
    pub(crate) csi: Option<(SmolStr, SmolStr)>,
    class: SmolStr,
    modes: Vec<String>,
    block: bool,
    size: i64,
    affinity: Option<NodeSelector>,
    claim: Option<(Name, SmolStr)>,
    available: bool,
    deleting: bool,
}

impl Volume {
    /// Reads a volume.
    pub(crate) fn read(object: &Object) -> Result<Arc<Self>, serde_json::Error> {
        let volume: PersistentVolume = object.view()?;
        let class = volume.metadata.annotations.as_ref().and_then(|a| a.get(OLD_CLASS)).cloned();
        let spec = volume.spec.unwrap_or_default();
        let claim = spec.claim_ref.map(|c| {
            let name = Name::new(c.namespace.unwrap_or_default(), c.name.unwrap_or_default());
            (name, c.uid.unwrap_or_default().into())
        });
        Ok(Arc::new(Self {
            name: object.head.name.clone(),
            revision: object.revision,
            labels: object.head.labels.clone(),
            csi: spec.csi.map(|c| (c.driver.into(), c.volume_handle.into())),
            class: class.or(spec.storage_class_name).unwrap_or_default().into(),
            modes: spec.access_modes.unwrap_or_default(),
            block: is_block(spec.volume_mode.as_deref()),
            size: bytes(spec.capacity.as_ref()),
            affinity: spec.node_affinity.and_then(|a| a.required),
            claim,
            available: volume.status.and_then(|s| s.phase).as_deref() == Some("Available"),
            deleting: object.head.deleting.is_some(),
        }))
    }
    /// Can it be reached from a node?
    pub(crate) fn reaches(&self, node: &NodeInfo) -> bool {
        self.affinity.as_ref().is_none_or(|s| s.node_selector_terms.iter().any(|t| term_matches(t, node)))
    }
    fn is_for(&self, claim: &Claim) -> bool {
        self.claim.as_ref().is_some_and(|(name, uid)| *name == claim.name && (uid.is_empty() || *uid == claim.uid))
    }
    /// Could it serve a claim that has none yet, seen from a node?
    fn suits(&self, claim: &Claim, node: &NodeInfo) -> bool {
        let modes = claim.modes.iter().all(|m| self.modes.contains(m));
        let fits = self.size >= claim.size && self.block == claim.block && modes && self.reaches(node);
        let chosen = match &self.claim {
            Some(_) => self.is_for(claim),
            None => {
                let selected = claim.selector.as_ref().is_none_or(|s| s.matches(self.labels.as_slice()));
                self.available && self.class == claim.class && selected
            }
        };
        fits && chosen && !self.deleting
    }
}

/// A StorageClass.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Class {
    pub(crate) provisioner: SmolStr,
    /// Claims wait for their first pod.
    pub(crate) waits: bool,
    topologies: Vec<TopologySelectorTerm>,
}

impl Class {
    /// Reads a class.
    pub(crate) fn read(object: &Object) -> Result<Self, serde_json::Error> {
        let class: StorageClass = object.view()?;
        Ok(Self {
            provisioner: class.provisioner.into(),
            waits: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            topologies: class.allowed_topologies.unwrap_or_default(),
        })
    }
    fn allows(&self, node: &NodeInfo) -> bool {
        let fits = |term: &TopologySelectorTerm| {
            let all = term.match_label_expressions.as_deref().unwrap_or_default();
            all.iter().all(|e| node.label(&e.key).is_some_and(|v| e.values.iter().any(|w| w == v)))
        };
        self.topologies.is_empty() || self.topologies.iter().any(fits)
    }
}

/// How many volumes of each driver a node can take.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Limits(pub(crate) HashMap<SmolStr, i64>);

impl Limits {
    /// Reads a CSINode.
    pub(crate) fn read(object: &Object) -> Result<Self, serde_json::Error> {
        let node: CSINode = object.view()?;
        let limit = |a: k8s_openapi::api::storage::v1::VolumeNodeResources| a.count.map(i64::from);
        let drivers = node.spec.drivers.into_iter();
        Ok(Self(drivers.filter_map(|d| Some((d.name.into(), d.allocatable.and_then(limit)?))).collect()))
    }
}

/// Does a driver say how much room it has?
pub(crate) fn tracks_capacity(object: &Object) -> Result<bool, serde_json::Error> {
    Ok(object.view::<CSIDriver>()?.spec.storage_capacity.unwrap_or(false))
}

/// How much room a class has somewhere.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Capacity {
    class: SmolStr,
    nodes: Option<Selector>,
    largest: i64,
}

impl Capacity {
    /// Reads a CSIStorageCapacity.
    pub(crate) fn read(object: &Object) -> Result<Self, serde_json::Error> {
        let capacity: CSIStorageCapacity = object.view()?;
        let nodes = capacity.node_topology.map(serde_json::to_value).transpose()?;
        let largest = capacity.maximum_volume_size.or(capacity.capacity);
        Ok(Self {
            class: capacity.storage_class_name.into(),
            nodes: nodes.map(|v| Selector::from_object(Some(&v)).unwrap_or(Selector::Nothing)),
            largest: largest.map_or(0, |text| text.0.parse().map_or(0, Quantity::value)),
        })
    }
}

impl Labels for NodeInfo {
    fn value(&self, key: &str) -> Option<&str> {
        self.label(key)
    }
}

/// What has to be done about a pod's claims before it can be bound.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct VolumePlan {
    /// Volumes to be given to claims.
    pub(crate) bind: Vec<(Arc<Volume>, Arc<Claim>)>,
    /// Claims to be provisioned for the node.
    pub(crate) provision: Vec<Arc<Claim>>,
}

impl VolumePlan {
    /// Is there nothing to do?
    pub(crate) fn is_empty(&self) -> bool {
        self.bind.is_empty() && self.provision.is_empty()
    }
}

/// A pod's claims by what has to be done about them.
#[derive(Debug, Default)]
pub(crate) struct PodClaims {
    bound: Vec<Arc<Claim>>,
    open: Vec<Arc<Claim>>,
}

/// Everything about storage.
#[derive(Debug, Default)]
pub(crate) struct VolumeWorld {
    pub(crate) classes: HashMap<SmolStr, Class>,
    pub(crate) limits: HashMap<SmolStr, Limits>,
    /// Drivers, and whether they say how much room they have.
    pub(crate) tracked: HashMap<SmolStr, bool>,
    pub(crate) capacities: HashMap<Name, Capacity>,
    claims: HashMap<Name, Arc<Claim>>,
    volumes: HashMap<SmolStr, Arc<Volume>>,
    by_class: HashMap<SmolStr, HashSet<SmolStr>>,
    /// Volumes that decisions have promised to a claim, and claims that they have promised to a node.
    promised: HashMap<SmolStr, Name>,
    destined: HashMap<Name, SmolStr>,
}

impl VolumeWorld {
    /// A claim, as decided where that is not yet seen.
    pub(crate) fn claim(&self, name: &Name) -> Option<&Arc<Claim>> {
        self.claims.get(name)
    }
    /// A volume.
    pub(crate) fn volume(&self, name: &str) -> Option<&Arc<Volume>> {
        self.volumes.get(name)
    }
    /// Adds, replaces or removes a claim.
    pub(crate) fn set_claim(&mut self, name: Name, claim: Option<Arc<Claim>>) {
        match claim {
            Some(claim) => _ = self.claims.insert(name, claim),
            None => _ = self.claims.remove(&name),
        }
    }
    /// Adds, replaces or removes a volume.
    pub(crate) fn set_volume(&mut self, name: SmolStr, volume: Option<Arc<Volume>>) {
        if let Some(old) = self.volumes.remove(&name)
            && let Some(names) = self.by_class.get_mut(&old.class)
        {
            names.remove(&name);
        }
        if let Some(volume) = volume {
            self.by_class.entry(volume.class.clone()).or_default().insert(name.clone());
            self.volumes.insert(name, volume);
        }
    }
    /// Counts with a plan that is being carried out.
    pub(crate) fn assume(&mut self, plan: &VolumePlan, node: &SmolStr) {
        for (volume, claim) in &plan.bind {
            self.promised.insert(volume.name.clone(), claim.name.clone());
        }
        for claim in &plan.provision {
            self.destined.insert(claim.name.clone(), node.clone());
        }
    }
    /// A plan has been carried out, or has failed.
    pub(crate) fn settle(&mut self, plan: &VolumePlan) {
        plan.bind.iter().for_each(|(volume, _)| _ = self.promised.remove(&volume.name));
        plan.provision.iter().for_each(|claim| _ = self.destined.remove(&claim.name));
    }

    /// The pod's claims, or why it cannot go anywhere now.
    pub(crate) fn claims_of(&self, pod: &PodInfo) -> Result<PodClaims, String> {
        let mut sorted = PodClaims::default();
        let mut immediate = false;
        for wanted in &pod.claims {
            let claim = self.usable(wanted, pod)?;
            let waits = self.classes.get(&claim.class).is_some_and(|c| c.waits);
            if claim.bound {
                sorted.bound.push(Arc::clone(claim));
            } else if waits && claim.volume.is_empty() {
                sorted.open.push(Arc::clone(claim));
            } else {
                immediate = true;
            }
        }
        if immediate { Err("pod has unbound immediate PersistentVolumeClaims".into()) } else { Ok(sorted) }
    }
    fn usable(&self, wanted: &ClaimRef, pod: &PodInfo) -> Result<&Arc<Claim>, String> {
        let name = &wanted.name.name;
        let Some(claim) = self.claims.get(&wanted.name) else {
            return Err(if wanted.ephemeral {
                format!("waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\"")
            } else {
                not_found(name)
            });
        };
        if claim.lost {
            let volume = &claim.volume;
            return Err(format!(
                "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
            ));
        }
        if claim.deleting {
            return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
        }
        if wanted.ephemeral && claim.owner != pod.uid {
            let (space, of) = (&wanted.name.namespace, &pod.name.name);
            return Err(format!("PVC {space}/{name} was not created for pod {space}/{of} (pod is not owner)"));
        }
        Ok(claim)
    }

    /// What has to be done about the claims if the pod goes to this node, or why it cannot.
    pub(crate) fn plan(&self, claims: &PodClaims, node: &NodeInfo) -> Result<VolumePlan, Vec<&'static str>> {
        let mut why = Vec::new();
        let volumes = || claims.bound.iter().map(|c| self.volumes.get(&c.volume));
        if volumes().flatten().any(|v| !v.reaches(node)) {
            why.push("node(s) had volume node affinity conflict");
        }
        let plan = self.plan_open(&claims.open, node);
        if let Err(reason) = &plan {
            why.push(reason);
        }
        if volumes().any(|v| v.is_none()) {
            why.push("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");
        }
        match plan {
            Ok(plan) if why.is_empty() => Ok(plan),
            _ => Err(why),
        }
    }
    fn plan_open(&self, open: &[Arc<Claim>], node: &NodeInfo) -> Result<VolumePlan, &'static str> {
        const NO_VOLUME: &str = "node(s) didn't find available persistent volumes to bind";
        let mut plan = VolumePlan::default();
        let mut seeking: Vec<&Arc<Claim>> = Vec::new();
        for claim in open {
            let destined = self.destined.get(&claim.name).unwrap_or(&claim.selected);
            if destined.is_empty() {
                seeking.push(claim);
            } else if *destined == node.name {
                plan.provision.push(Arc::clone(claim));
            } else {
                return Err(NO_VOLUME);
            }
        }
        // The smallest claim takes the smallest volume, so that large ones are left for large claims.
        seeking.sort_by_key(|c| c.size);
        for claim in seeking {
            match self.best_volume(claim, node, &plan) {
                Some(volume) => plan.bind.push((Arc::clone(volume), Arc::clone(claim))),
                None => plan.provision.push(Arc::clone(claim)),
            }
        }
        for claim in &plan.provision {
            let class = self.classes.get(&claim.class).filter(|c| c.provisioner != BY_HAND && c.allows(node));
            let Some(class) = class else { return Err(NO_VOLUME) };
            if !self.has_room(claim, class, node) {
                return Err("node(s) did not have enough free storage");
            }
        }
        Ok(plan)
    }
    fn best_volume(&self, claim: &Claim, node: &NodeInfo, plan: &VolumePlan) -> Option<&Arc<Volume>> {
        let names = self.by_class.get(&claim.class).into_iter().flatten();
        let free = |v: &&Arc<Volume>| {
            let taken = plan.bind.iter().any(|(other, _)| other.name == v.name);
            !taken && self.promised.get(&v.name).is_none_or(|c| *c == claim.name)
        };
        let fitting = names.filter_map(|n| self.volumes.get(n)).filter(|v| v.suits(claim, node)).filter(free);
        // One that was made for this claim goes before the smallest.
        fitting.min_by(|a, b| (!a.is_for(claim), a.size, &a.name).cmp(&(!b.is_for(claim), b.size, &b.name)))
    }
    fn has_room(&self, claim: &Claim, class: &Class, node: &NodeInfo) -> bool {
        if !self.tracked.get(&class.provisioner).copied().unwrap_or(false) {
            return true;
        }
        self.capacities.values().any(|c| {
            c.class == claim.class && c.largest >= claim.size && c.nodes.as_ref().is_some_and(|s| s.matches(node))
        })
    }
}

/// What the API says of a claim that is not there.
pub(crate) fn not_found(claim: &str) -> String {
    format!("persistentvolumeclaim \"{claim}\" not found")
}
