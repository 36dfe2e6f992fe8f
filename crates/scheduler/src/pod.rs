//! What the scheduler needs of a pod, read once per event.

use k8s_openapi::api::core::v1::{NodeAffinity, Toleration};
use kybern_api::meta::quantity::Quantity;
use kybern_api::object::Object;
use kybern_client::store::Name;
use serde::Deserialize;
use serde_json::Value;
use smol_str::SmolStr;
use std::collections::BTreeMap;

pub(crate) const CPU: &str = "cpu";
pub(crate) const MEMORY: &str = "memory";
pub(crate) const PODS: &str = "pods";
/// What a container without a request is taken to need when nodes are compared: millicores, bytes.
const ASSUMED_CPU: i64 = 100;
const ASSUMED_MEMORY: i64 = 200 << 20;

/// Amounts by resource name: millicores of CPU, whole units of everything else.
pub(crate) type Amounts = BTreeMap<SmolStr, i64>;

/// A port taken on the node itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) ip: SmolStr,
    pub(crate) protocol: SmolStr,
    pub(crate) port: i32,
}

impl HostPort {
    /// Can both not be on one node?
    pub(crate) fn collides(&self, other: &Self) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

/// What a pod takes from its node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Footprint {
    /// Requests, including one of `pods`.
    pub(crate) requests: Amounts,
    /// Millicores and bytes for comparing nodes; containers without requests count with an assumed one.
    pub(crate) weight: (i64, i64),
    pub(crate) ports: Vec<HostPort>,
    /// Uid of the managing controller: pods of one controller are spread.
    pub(crate) family: SmolStr,
}

/// A pod as the scheduler sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PodInfo {
    pub(crate) name: Name,
    pub(crate) uid: SmolStr,
    pub(crate) footprint: Footprint,
    pub(crate) priority: i32,
    /// spec.nodeName or empty.
    pub(crate) node: SmolStr,
    pub(crate) scheduler: SmolStr,
    pub(crate) selector: BTreeMap<SmolStr, SmolStr>,
    pub(crate) affinity: Option<NodeAffinity>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) images: Vec<SmolStr>,
    pub(crate) gated: bool,
    /// Has it ended (or will it never run)?
    pub(crate) ended: bool,
    pub(crate) deleting: bool,
    /// Message of the PodScheduled condition, if that is false.
    pub(crate) complaint: Option<String>,
}

#[derive(Deserialize)]
struct Parts {
    spec: Spec,
    #[serde(default)]
    status: Status,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: SmolStr,
    scheduler_name: SmolStr,
    priority: i32,
    node_selector: BTreeMap<SmolStr, SmolStr>,
    affinity: Affinity,
    tolerations: Vec<Toleration>,
    scheduling_gates: Vec<Value>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    overhead: BTreeMap<SmolStr, Value>,
    resources: Resources,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Affinity {
    node_affinity: Option<NodeAffinity>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    image: SmolStr,
    resources: Resources,
    ports: Vec<Port>,
    restart_policy: SmolStr,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct Resources {
    requests: BTreeMap<SmolStr, Value>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    host_port: i32,
    #[serde(rename = "hostIP")]
    host_ip: SmolStr,
    protocol: SmolStr,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    phase: SmolStr,
    conditions: Vec<Condition>,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: SmolStr,
    status: SmolStr,
    message: String,
}

impl PodInfo {
    /// Reads a pod.
    pub(crate) fn read(object: &Object) -> Result<Self, serde_json::Error> {
        let Parts { spec, status } = object.view()?;
        let complaint = status.conditions.into_iter().find(|c| c.kind == "PodScheduled" && c.status == "False");
        Ok(Self {
            name: Name::of(object),
            uid: object.head.uid.clone(),
            footprint: Footprint {
                weight: weight(&spec),
                requests: requests(&spec),
                ports: ports(&spec),
                family: object.head.controller().map(|o| o.uid.clone()).unwrap_or_default(),
            },
            priority: spec.priority,
            node: spec.node_name,
            scheduler: spec.scheduler_name,
            selector: spec.node_selector,
            affinity: spec.affinity.node_affinity,
            tolerations: spec.tolerations,
            images: spec.containers.into_iter().map(|c| c.image).collect(),
            gated: !spec.scheduling_gates.is_empty(),
            ended: matches!(status.phase.as_str(), "Succeeded" | "Failed"),
            deleting: object.head.deleting.is_some(),
            complaint: complaint.map(|c| c.message),
        })
    }
    /// Does it wait for our decision?
    pub(crate) fn is_waiting(&self) -> bool {
        self.node.is_empty() && !self.ended && !self.deleting && self.scheduler == crate::SCHEDULER_NAME
    }
}

/// Millicores for CPU, whole units for everything else. What is no quantity cannot be stored.
pub(crate) fn amount(resource: &str, value: &Value) -> i64 {
    let quantity = Quantity::from_value(value).unwrap_or(Quantity::ZERO);
    if resource == CPU { quantity.milli() } else { quantity.value() }
}

fn amounts(resources: &BTreeMap<SmolStr, Value>) -> Amounts {
    resources.iter().map(|(name, value)| (name.clone(), amount(name, value))).collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, n) in more {
        let sum = to.entry(name.clone()).or_insert(0);
        *sum = sum.saturating_add(*n);
    }
}

fn raise(to: &mut Amounts, at_least: &Amounts) {
    for (name, n) in at_least {
        let value = to.entry(name.clone()).or_insert(0);
        *value = (*value).max(*n);
    }
}

/// What the pod needs at its peak: all containers and sidecars together, or an init container beside
/// the sidecars started before it; requests of the pod as a whole win; overhead on top.
fn requests(spec: &Spec) -> Amounts {
    let mut total = Amounts::new();
    spec.containers.iter().for_each(|c| add(&mut total, &amounts(&c.resources.requests)));
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for init in &spec.init_containers {
        let own = amounts(&init.resources.requests);
        if init.restart_policy == "Always" {
            add(&mut sidecars, &own);
            raise(&mut peak, &sidecars);
        } else {
            let mut with_sidecars = sidecars.clone();
            add(&mut with_sidecars, &own);
            raise(&mut peak, &with_sidecars);
        }
    }
    add(&mut total, &sidecars);
    raise(&mut total, &peak);
    total.extend(amounts(&spec.resources.requests));
    add(&mut total, &amounts(&spec.overhead));
    total.insert(PODS.into(), 1);
    total.retain(|_, n| *n != 0);
    total
}

/// CPU and memory for comparing nodes.
fn weight(spec: &Spec) -> (i64, i64) {
    let of =
        |c: &Container, name: &str, assumed: i64| c.resources.requests.get(name).map_or(assumed, |v| amount(name, v));
    let sum = |name: &str, assumed: i64| spec.containers.iter().map(|c| of(c, name, assumed)).sum();
    (sum(CPU, ASSUMED_CPU), sum(MEMORY, ASSUMED_MEMORY))
}

fn ports(spec: &Spec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().filter(|c| c.restart_policy == "Always");
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| &c.ports).filter(|p| p.host_port > 0);
    ports.map(|p| HostPort { ip: p.host_ip.clone(), protocol: p.protocol.clone(), port: p.host_port }).collect()
}
