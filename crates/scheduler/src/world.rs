//! What decisions need to know beside nodes and pods: namespaces, what selects pods, volumes, budgets.

use crate::framework::Happening;
use crate::pod::PodInfo;
use crate::pod::terms::LabelList;
use crate::volume::{Capacity, Claim, Class, Limits, Volume, VolumeWorld};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, ReplicationController, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};
use kybern_api::meta::selector::{Requirement, Selector};
use kybern_api::object::Object;
use kybern_client::store::{Delta, Name};
use kybern_client::transport::Resource;
use kybern_client::typed;
use serde::Deserialize;
use serde_json::Value;
use smol_str::SmolStr;
use std::collections::HashMap;

/// A kind that decisions rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Topic {
    Namespace,
    Service,
    ReplicationController,
    ReplicaSet,
    StatefulSet,
    Claim,
    Volume,
    Class,
    CsiNode,
    CsiDriver,
    Capacity,
    Budget,
}

/// Every topic with its resource.
pub(crate) fn topics() -> Vec<(Topic, Resource)> {
    vec![
        (Topic::Namespace, typed::resource::<Namespace>()),
        (Topic::Service, typed::resource::<Service>()),
        (Topic::ReplicationController, typed::resource::<ReplicationController>()),
        (Topic::ReplicaSet, typed::resource::<ReplicaSet>()),
        (Topic::StatefulSet, typed::resource::<StatefulSet>()),
        (Topic::Claim, typed::resource::<PersistentVolumeClaim>()),
        (Topic::Volume, typed::resource::<PersistentVolume>()),
        (Topic::Class, typed::resource::<StorageClass>()),
        (Topic::CsiNode, typed::resource::<CSINode>()),
        (Topic::CsiDriver, typed::resource::<CSIDriver>()),
        (Topic::Capacity, typed::resource::<CSIStorageCapacity>()),
        (Topic::Budget, typed::resource::<PodDisruptionBudget>()),
    ]
}

/// A PodDisruptionBudget.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    selector: Selector,
    /// How many pods may go.
    pub(crate) allowed: i64,
    /// Pods that are going already.
    disrupted: Vec<SmolStr>,
}

impl Budget {
    /// Does it protect a pod that is not going yet?
    pub(crate) fn protects(&self, pod: &PodInfo) -> bool {
        !self.selector.is_everything()
            && self.selector.matches(pod.labels.as_slice())
            && !self.disrupted.contains(&pod.name.name)
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Selecting {
    spec: SelectingSpec,
    status: BudgetStatus,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct SelectingSpec {
    selector: Option<Value>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BudgetStatus {
    disruptions_allowed: i64,
    disrupted_pods: HashMap<SmolStr, Value>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) storage: VolumeWorld,
    namespaces: HashMap<SmolStr, LabelList>,
    services: HashMap<SmolStr, HashMap<SmolStr, Selector>>,
    workloads: HashMap<(&'static str, Name), Selector>,
    budgets: HashMap<SmolStr, HashMap<SmolStr, Budget>>,
}

/// Puts something into a map, or takes it out.
fn set<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

fn set_in<V>(map: &mut HashMap<SmolStr, HashMap<SmolStr, V>>, name: Name, value: Option<V>) {
    let inner = map.entry(name.namespace.clone()).or_default();
    set(inner, name.name, value);
    if inner.is_empty() {
        map.remove(&name.namespace);
    }
}

impl World {
    /// A namespace's labels.
    pub(crate) fn namespace(&self, name: &str) -> Option<&LabelList> {
        self.namespaces.get(name)
    }
    /// The budgets of a namespace.
    pub(crate) fn budgets(&self, namespace: &str) -> impl Iterator<Item = &Budget> {
        self.budgets.get(namespace).into_iter().flat_map(HashMap::values)
    }
    /// Is there any budget?
    pub(crate) fn has_budgets(&self) -> bool {
        !self.budgets.is_empty()
    }
    /// What selects a pod together with its like: the services it belongs to and its controller. None:
    /// nothing does.
    pub(crate) fn family(&self, pod: &PodInfo) -> Option<Selector> {
        let mut all: Vec<Requirement> = Vec::new();
        let mut add = |selector: &Selector| {
            let Selector::All(requirements) = selector else { return };
            for r in requirements.iter().filter(|r| !all.contains(r)).cloned().collect::<Vec<_>>() {
                all.push(r);
            }
        };
        let services = self.services.get(&pod.name.namespace).into_iter().flat_map(HashMap::values);
        services.filter(|s| s.matches(pod.labels.as_slice())).for_each(&mut add);
        if let Some(owner) = &pod.controller {
            let name = Name::new(pod.name.namespace.clone(), owner.name.clone());
            let kind = ["ReplicaSet", "StatefulSet", "ReplicationController"].into_iter().find(|k| owner.kind == *k);
            if let Some(selector) = kind.and_then(|kind| self.workloads.get(&(kind, name))) {
                add(selector);
            }
        }
        all.sort_by(|a, b| (&a.key, &a.values).cmp(&(&b.key, &b.values)));
        if all.is_empty() { None } else { Some(Selector::All(all)) }
    }

    /// Takes a change in; what it may mean for refused pods is told to `tell`.
    ///
    /// # Errors
    /// When the object cannot be read; nothing has changed then.
    pub(crate) fn apply(
        &mut self,
        topic: Topic,
        delta: &Delta,
        tell: &mut dyn FnMut(&Happening<'_>),
    ) -> Result<(), serde_json::Error> {
        let Some(latest) = delta.latest() else { return Ok(()) };
        let name = Name::of(&latest.object);
        let new = delta.new.as_ref().map(|i| &i.object);
        match topic {
            Topic::Namespace => {
                let labels = new.map(|o| o.head.labels.clone());
                if set(&mut self.namespaces, name.name, labels.clone()) != labels {
                    tell(&Happening::Namespace);
                }
            }
            Topic::Service => {
                let selector = |o: &Object| Ok(Selector::from_map(selector_of(o)?.spec.selector.as_ref()));
                let selector = new.map(selector).transpose()?;
                set_in(&mut self.services, name, selector.filter(|s| *s != Selector::Nothing));
            }
            Topic::ReplicationController => {
                self.workload("ReplicationController", name, new, Selector::from_map)?;
            }
            Topic::ReplicaSet => self.workload("ReplicaSet", name, new, label_selector)?,
            Topic::StatefulSet => self.workload("StatefulSet", name, new, label_selector)?,
            Topic::Budget => {
                let budget = |o: &Object| {
                    let Selecting { spec, status } = selector_of(o)?;
                    let disrupted = status.disrupted_pods.into_keys().collect();
                    let selector = label_selector(spec.selector.as_ref());
                    Ok(Budget { selector, allowed: status.disruptions_allowed, disrupted })
                };
                set_in(&mut self.budgets, name, new.map(budget).transpose()?);
            }
            Topic::Claim => {
                self.storage.set_claim(name.clone(), new.map(Claim::read).transpose()?);
                tell(&Happening::Claim(&name));
            }
            Topic::Volume => {
                self.storage.set_volume(name.name, new.map(Volume::read).transpose()?);
                tell(&Happening::Volume);
            }
            Topic::Class => {
                set(&mut self.storage.classes, name.name, new.map(Class::read).transpose()?);
                tell(&Happening::Storage);
            }
            Topic::CsiNode => {
                set(&mut self.storage.limits, name.name, new.map(Limits::read).transpose()?);
                tell(&Happening::CsiNode);
            }
            Topic::CsiDriver => {
                let tracks = new.map(crate::volume::tracks_capacity).transpose()?;
                set(&mut self.storage.tracked, name.name, tracks);
                tell(&Happening::Storage);
            }
            Topic::Capacity => {
                set(&mut self.storage.capacities, name, new.map(Capacity::read).transpose()?);
                tell(&Happening::Storage);
            }
        }
        Ok(())
    }

    fn workload(
        &mut self,
        kind: &'static str,
        name: Name,
        new: Option<&Object>,
        read: impl Fn(Option<&Value>) -> Selector,
    ) -> Result<(), serde_json::Error> {
        let selector = new.map(|o| Ok(read(selector_of(o)?.spec.selector.as_ref()))).transpose()?;
        set(&mut self.workloads, (kind, name), selector);
        Ok(())
    }
}

fn selector_of(object: &Object) -> Result<Selecting, serde_json::Error> {
    object.view()
}

fn label_selector(value: Option<&Value>) -> Selector {
    // Validation has let only known operators through.
    Selector::from_object(value).unwrap_or(Selector::Nothing)
}
