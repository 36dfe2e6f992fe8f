//! What pods hold of the node. A pod is weighed against those before it when it comes, one at a time:
//! two that come together are neither both let in nor both refused.

use super::resources;
use super::spec::{self, Role};
use crate::cgroup::Qos;
use crate::node::guard::CRITICAL;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kybern_api::quota;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The resource that every pod takes one of.
pub const PODS: &str = "pods";
/// In this order the first that is short is named; all others follow.
const ORDER: [&str; 4] = [PODS, "cpu", "memory", "ephemeral-storage"];

/// Amounts by resource: millicores of CPU, whole units of everything else.
pub type Amounts = BTreeMap<String, i64>;

/// A port of the node itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    ip: String,
    protocol: String,
    port: i32,
}

impl HostPort {
    fn collides(&self, other: &Self) -> bool {
        let any = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
        (self.port, &self.protocol) == (other.port, &other.protocol)
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

/// What one pod holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Who yields to whom.
    pub rank: Rank,
    amounts: Amounts,
    ports: Vec<HostPort>,
}

/// What decides which of two pods stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// The class of its resources.
    pub qos: Qos,
    /// Its priority.
    pub priority: i32,
    /// Does the cluster, or the node, need it?
    pub critical: bool,
}

impl Demand {
    /// Of a pod, as its spec says.
    pub fn of(pod: &Pod) -> Self {
        let tree = serde_json::to_value(&pod.spec).unwrap_or_default();
        let requests = quota::pod::total(&tree, "requests").into_iter();
        let mut amounts: Amounts = requests
            .map(|(name, q)| (name.to_string(), if name == "cpu" { q.milli() } else { q.value() }))
            .filter(|(_, amount)| *amount > 0)
            .collect();
        amounts.insert(PODS.into(), 1);
        let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
        let rank = Rank { qos: resources::qos(pod), priority, critical: priority >= CRITICAL };
        Self { rank, amounts, ports: pod.spec.as_ref().map(ports).unwrap_or_default() }
    }
    /// Of one resource.
    pub fn amount(&self, resource: &str) -> i64 {
        self.amounts.get(resource).copied().unwrap_or(0)
    }
}

fn ports(spec: &PodSpec) -> Vec<HostPort> {
    let running = spec::declared(spec).filter(|(_, role)| *role != Role::Init);
    let ports = running.flat_map(|(c, _)| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            Some(HostPort {
                ip: p.host_ip.clone().unwrap_or_default(),
                protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()),
                port: p.host_port.filter(|port| *port > 0)?,
            })
        })
        .collect()
}

/// A resource of which a pod asks for more than is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// Its name.
    pub resource: String,
    /// What the pod asks for.
    pub requested: i64,
    /// What the others hold.
    pub used: i64,
    /// What there is for pods.
    pub capacity: i64,
}

/// The pods that have been let in, by uid.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    held: HashMap<String, Demand>,
    /// Those that were told to make room: they run a little longer.
    leaving: BTreeSet<String>,
}

impl Ledger {
    /// Notes what a pod holds (from now on).
    pub fn enter(&mut self, uid: &str, demand: Demand) {
        self.held.insert(uid.to_owned(), demand);
    }
    /// A pod holds nothing more.
    pub fn leave(&mut self, uid: &str) {
        self.held.remove(uid);
        self.leaving.remove(uid);
    }
    /// A pod is to make room: another gets what it holds.
    pub fn evict(&mut self, uid: &str) {
        self.held.remove(uid);
        self.leaving.insert(uid.to_owned());
    }
    /// Does a pod that is to make room still run?
    pub fn is_leaving(&self, uid: &str) -> bool {
        self.leaving.contains(uid)
    }
    /// Is it noted?
    pub fn has(&self, uid: &str) -> bool {
        self.held.contains_key(uid) || self.leaving.contains(uid)
    }
    /// All pods but this one: uid, and what they hold.
    pub fn others<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = (&'a str, &'a Demand)> {
        self.held.iter().filter(move |(other, _)| *other != uid).map(|(uid, demand)| (uid.as_str(), demand))
    }
}

/// Sum of what these hold of a resource.
pub fn sum<'a>(of: impl IntoIterator<Item = &'a Demand>, resource: &str) -> i64 {
    of.into_iter().map(|d| d.amount(resource)).fold(0, i64::saturating_add)
}

/// The resources of which there is too little, in the order in which they are told. What only others than the agent count (extended
/// resources) and the node does not have is left out of account.
pub fn lacks(demand: &Demand, others: &[&Demand], allocatable: &Amounts) -> impl Iterator<Item = Lack> {
    let rest = demand.amounts.keys().map(String::as_str).filter(|name| !ORDER.contains(name));
    ORDER.into_iter().chain(rest).filter_map(move |resource| {
        let (requested, used) = (demand.amount(resource), sum(others.iter().copied(), resource));
        let capacity = match allocatable.get(resource) {
            Some(capacity) => *capacity,
            None if resource.contains('/') => return None,
            None => 0,
        };
        let short = requested > 0 && requested.saturating_add(used) > capacity;
        short.then(|| Lack { resource: resource.to_owned(), requested, used, capacity })
    })
}

/// Is one of its ports taken?
pub fn port_taken(demand: &Demand, others: &[&Demand]) -> bool {
    demand.ports.iter().any(|port| others.iter().any(|o| o.ports.iter().any(|taken| port.collides(taken))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn demand(containers: serde_json::Value) -> Demand {
        let pod = json!({"metadata": {}, "spec": {"containers": containers}});
        Demand::of(&serde_json::from_value(pod).unwrap())
    }
    fn asking(requests: serde_json::Value) -> Demand {
        demand(json!([{"name": "a", "resources": {"requests": requests}}]))
    }
    fn node() -> Amounts {
        [(PODS, 3), ("cpu", 2000), ("memory", 1 << 30)].map(|(k, v)| (k.to_owned(), v)).into()
    }

    #[test]
    fn the_first_resource_that_is_short_is_named() {
        let held = asking(json!({"cpu": "1500m", "memory": "1Gi"}));
        let lacks = |wanted: &Demand, others: &[&Demand]| super::lacks(wanted, others, &node()).next();
        assert_eq!(lacks(&asking(json!({"cpu": "2"})), &[]), None);
        let short = lacks(&asking(json!({"cpu": "600m", "memory": "1"})), &[&held]).unwrap();
        assert_eq!(short, Lack { resource: "cpu".into(), requested: 600, used: 1500, capacity: 2000 });
        assert_eq!(lacks(&asking(json!({"memory": "1"})), &[&held]).unwrap().resource, "memory");
        let none = asking(json!({}));
        assert_eq!(lacks(&none, &[&held]), None, "who asks for nothing fits");
        assert_eq!(lacks(&none, &[&held, &none, &none]).unwrap().resource, PODS);
        // The node has no huge pages; of what others count it knows nothing.
        assert_eq!(lacks(&asking(json!({"hugepages-2Mi": "2Mi"})), &[]).unwrap().resource, "hugepages-2Mi");
        assert_eq!(lacks(&asking(json!({"example.com/gpu": "1"})), &[]), None);
    }

    #[test]
    fn ports_collide_by_protocol_and_address() {
        let with = |port: i32, protocol: &str, ip: &str| {
            let port = json!({"containerPort": 1, "hostPort": port, "protocol": protocol, "hostIP": ip});
            demand(json!([{"name": "a", "ports": [port]}]))
        };
        let taken = with(80, "TCP", "192.0.2.1");
        assert!(port_taken(&with(80, "TCP", "192.0.2.1"), &[&taken]));
        assert!(port_taken(&with(80, "TCP", ""), &[&taken]) && port_taken(&with(80, "TCP", "0.0.0.0"), &[&taken]));
        assert!(!port_taken(&with(80, "TCP", "192.0.2.2"), &[&taken]));
        assert!(!port_taken(&with(80, "UDP", ""), &[&taken]) && !port_taken(&with(81, "TCP", ""), &[&taken]));
    }

    #[test]
    fn the_ledger_forgets_who_leaves() {
        let mut ledger = Ledger::default();
        ledger.enter("a", asking(json!({"cpu": "1"})));
        ledger.enter("b", asking(json!({"cpu": "2"})));
        let held = |ledger: &Ledger, but: &str| sum(ledger.others(but).map(|(_, d)| d), "cpu");
        assert_eq!((held(&ledger, "c"), held(&ledger, "a")), (3000, 2000));
        ledger.leave("b");
        assert_eq!((held(&ledger, "a"), ledger.has("b")), (0, false));
    }

    #[test]
    fn who_makes_room_holds_nothing_and_is_known_until_it_is_gone() {
        let mut ledger = Ledger::default();
        ledger.enter("a", asking(json!({"cpu": "1"})));
        ledger.evict("a");
        assert_eq!(ledger.others("b").count(), 0);
        assert!(ledger.has("a") && ledger.is_leaving("a"));
        ledger.leave("a");
        assert!(!ledger.has("a") && !ledger.is_leaving("a"));
    }
}
