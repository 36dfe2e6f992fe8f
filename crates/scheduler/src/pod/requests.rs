//! What a pod takes from its node.

use super::spec::{Container, ContainerStatus, Spec, Status};
use kybern_api::meta::quantity::Quantity;
use serde_json::Value;
use smol_str::SmolStr;
use std::collections::BTreeMap;

pub(crate) const CPU: &str = "cpu";
pub(crate) const MEMORY: &str = "memory";
pub(crate) const PODS: &str = "pods";
/// What a container without a request is taken to need when nodes are compared: millicores, bytes.
const ASSUMED: [(&str, i64); 2] = [(CPU, 100), (MEMORY, 200 << 20)];

/// The most that anything counts as: more than any machine has, and so little that the sums of a node
/// with a thousand such pods are numbers still. Whoever asks for more fits nowhere either way.
const MOST: i64 = 1 << 53;

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

/// Millicores for CPU, whole units for everything else. What is no quantity cannot be stored.
fn amount(resource: &str, value: &Value) -> i64 {
    let quantity = Quantity::from_value(value).unwrap_or(Quantity::ZERO);
    let amount = if resource == CPU { quantity.milli() } else { quantity.value() };
    amount.clamp(0, MOST)
}

/// Reads a resource list.
pub(crate) fn amounts(resources: &BTreeMap<SmolStr, Value>) -> Amounts {
    resources.iter().map(|(name, value)| (name.clone(), amount(name, value))).collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, n) in more {
        let sum = to.entry(name.clone()).or_insert(0);
        *sum = (*sum + *n).min(MOST);
    }
}

fn raise(to: &mut Amounts, at_least: &Amounts) {
    for (name, n) in at_least {
        let value = to.entry(name.clone()).or_insert(0);
        *value = (*value).max(*n);
    }
}

/// What the pod needs at its peak, including one of `pods`.
pub(super) fn requests(spec: &Spec, status: &Status) -> Amounts {
    let mut total = peak(spec, status, &[]);
    total.insert(PODS.into(), 1);
    total.retain(|_, n| *n != 0);
    total
}

/// Millicores and bytes for comparing nodes; containers without requests count with assumed ones.
pub(super) fn weight(spec: &Spec, status: &Status) -> (i64, i64) {
    let total = peak(spec, status, &ASSUMED);
    (total.get(CPU).copied().unwrap_or(0), total.get(MEMORY).copied().unwrap_or(0))
}

/// All containers and sidecars together, or an init container beside the sidecars started before it;
/// requests of the pod as a whole win; overhead on top.
fn peak(spec: &Spec, status: &Status, assumed: &[(&str, i64)]) -> Amounts {
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &one(container, &status.container_statuses, assumed));
    }
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for init in &spec.init_containers {
        if init.is_sidecar() {
            add(&mut sidecars, &one(init, &status.init_container_statuses, assumed));
            raise(&mut peak, &sidecars);
        } else {
            let mut with_sidecars = sidecars.clone();
            add(&mut with_sidecars, &one(init, &[], assumed));
            raise(&mut peak, &with_sidecars);
        }
    }
    add(&mut total, &sidecars);
    raise(&mut total, &peak);
    let of_pod = amounts(&spec.resources.requests).into_iter();
    total.extend(of_pod.filter(|(name, _)| name == CPU || name == MEMORY || name.starts_with("hugepages-")));
    add(&mut total, &amounts(&spec.overhead));
    total
}

/// A container's requests: while it is being resized, the larger of what it has and what it wants.
fn one(container: &Container, statuses: &[ContainerStatus], assumed: &[(&str, i64)]) -> Amounts {
    let mut own = amounts(&container.resources.requests);
    if let Some(status) = statuses.iter().find(|s| s.name == container.name) {
        raise(&mut own, &amounts(&status.resources.requests));
        raise(&mut own, &amounts(&status.allocated_resources));
    }
    for (name, amount) in assumed {
        own.entry((*name).into()).or_insert(*amount);
    }
    own
}

pub(super) fn ports(spec: &Spec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().filter(|c| c.is_sidecar());
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| &c.ports).filter(|p| p.host_port > 0);
    ports.map(|p| HostPort { ip: p.host_ip.clone(), protocol: p.protocol.clone(), port: p.host_port }).collect()
}
