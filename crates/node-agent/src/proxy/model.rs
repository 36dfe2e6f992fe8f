//! What the rules are made of: one entry per service port (and per host port of a pod), from Services,
//! slices and pods.

use super::endpoints::{Candidates, Endpoint, Place};
use super::view::{Pod, PodSpec, Port, Service, addresses, protocol};
use ipnet::Ipv4Net;
use kybern_api::endpoints::{SERVICE_NAME, Slice};
use kybern_api::object::{EventType, Object};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Where traffic comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frontend {
    /// An address and port (cluster IP).
    Cluster(Ipv4Addr, u16),
    /// An address and port from outside (external IP, or a pod's host port at one address).
    External(Ipv4Addr, u16),
    /// An address and port of a load balancer: may be closed to some clients.
    Balancer(Ipv4Addr, u16),
    /// A port of every address of the node.
    Node(u16),
    /// A pod's port of every address of the node, the loopback address too.
    Host(u16),
}

/// How traffic from outside reaches the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// Any endpoint, with the node's address as source.
    Cluster,
    /// This node's endpoints, with the client's address (externalTrafficPolicy Local).
    Local,
    /// One pod of this node, with the client's address (host port).
    Pod,
}

/// One port of one Service: what the rules are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// Where traffic comes in.
    pub frontends: Vec<Frontend>,
    /// All endpoints that this node may use.
    pub cluster: Vec<Endpoint>,
    /// Those of this node, where a policy keeps traffic there.
    pub local: Vec<Endpoint>,
    /// internalTrafficPolicy Local.
    pub internal_local: bool,
    /// How traffic from outside is led.
    pub outside: Outside,
    /// For how many seconds a client keeps its endpoint.
    pub affinity: Option<u32>,
    /// Whom the load balancer's addresses are open to; none: everybody.
    pub sources: Option<Vec<Ipv4Net>>,
}

/// What a load balancer's health check asks of this node for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The node's port to answer on.
    pub port: u16,
    /// Pods of this node that are ready.
    pub local_endpoints: usize,
}

/// All Services and slices, and this node's pods.
#[derive(Debug, Default)]
pub struct Model {
    place: Place,
    services: BTreeMap<String, Service>,
    /// Slices by service, then by slice name.
    slices: BTreeMap<String, BTreeMap<String, Slice>>,
    /// Which service a slice belongs to.
    owners: BTreeMap<String, String>,
    /// Pods with host ports.
    pods: BTreeMap<String, Pod>,
    changed: BTreeSet<String>,
}

/// The label that names a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";
/// For how long a client keeps its endpoint where the service does not say.
const AFFINITY_SECONDS: u32 = 10_800;
/// Before the keys of pods, which no service's key begins with.
const POD: &str = "pod:";

impl Model {
    /// An empty model for the node `node`.
    pub fn new(node: &str) -> Self {
        Self { place: Place { node: node.into(), zone: String::new() }, ..Self::default() }
    }

    /// Takes in a change of a Service.
    ///
    /// # Errors
    /// When the object is no Service; it is left out.
    pub fn service(&mut self, event: EventType, object: &Object) -> Result<(), serde_json::Error> {
        let key = object.head.key();
        let new = (event != EventType::Deleted).then(|| object.view::<Service>()).transpose()?;
        if replace(&mut self.services, &key, new) {
            self.changed.insert(key);
        }
        Ok(())
    }

    /// Takes in a change of an EndpointSlice.
    ///
    /// # Errors
    /// When the object is no EndpointSlice; it is left out.
    pub fn slice(&mut self, event: EventType, object: &Object) -> Result<(), serde_json::Error> {
        let key = object.head.key();
        if let Some(owner) = self.owners.remove(&key) {
            if let Some(slices) = self.slices.get_mut(&owner) {
                slices.remove(&key);
                if slices.is_empty() {
                    self.slices.remove(&owner);
                }
            }
            self.changed.insert(owner);
        }
        let Some(service) = object.head.label(SERVICE_NAME).filter(|_| event != EventType::Deleted) else {
            return Ok(());
        };
        let owner = format!("{}/{service}", object.head.namespace);
        let slice: Slice = object.view()?;
        self.slices.entry(owner.clone()).or_default().insert(key.clone(), slice);
        self.owners.insert(key, owner.clone());
        self.changed.insert(owner);
        Ok(())
    }

    /// Takes in a change of a pod; those of other nodes are left out.
    ///
    /// # Errors
    /// When the object is no Pod; it is left out.
    pub fn pod(&mut self, event: EventType, object: &Object) -> Result<(), serde_json::Error> {
        let key = format!("{POD}{}", object.head.key());
        let pod = (event != EventType::Deleted).then(|| object.view::<Pod>()).transpose()?;
        let new = pod.filter(|p| p.spec.node_name == self.place.node && has_host_ports(p));
        if replace(&mut self.pods, &key, new) {
            self.changed.insert(key);
        }
        Ok(())
    }

    /// Takes in a change of a node: the zone of this one decides which endpoints are near.
    ///
    /// # Errors
    /// None; the signature is that of its siblings.
    pub fn node(&mut self, event: EventType, object: &Object) -> Result<(), serde_json::Error> {
        let zone = object.head.label(ZONE).filter(|_| event != EventType::Deleted).unwrap_or_default();
        if object.head.name == self.place.node && zone != self.place.zone {
            self.place.zone = zone.to_owned();
            self.changed.extend(self.services.keys().cloned());
        }
        Ok(())
    }

    /// The services and pods that changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    /// Keys of all services and of the pods with host ports.
    pub fn keys(&self) -> BTreeSet<String> {
        self.services.keys().chain(self.pods.keys()).cloned().collect()
    }

    /// The ports of one service or pod, by `key:port/protocol`; none for a headless service.
    pub fn ports(&self, key: &str) -> BTreeMap<String, ServicePort> {
        if let Some(pod) = self.pods.get(key) {
            return host_ports(key, pod);
        }
        let Some(service) = self.services.get(key) else { return BTreeMap::new() };
        let cluster = cluster_addresses(service);
        if cluster.is_empty() {
            return BTreeMap::new();
        }
        let ports = service.spec.ports.iter().filter_map(|p| Some((p, protocol(&p.protocol)?)));
        ports
            .map(|(p, protocol)| {
                (format!("{key}:{}/{protocol}", p.port), self.port(key, service, p, protocol, &cluster))
            })
            .collect()
    }

    /// What health checks of one service are told, if it has any: those that keep traffic on the node.
    pub fn health(&self, key: &str) -> Option<HealthCheck> {
        let service = self.services.get(key)?;
        let spec = &service.spec;
        let asked = spec.kind == "LoadBalancer" && spec.external_traffic_policy == "Local";
        if !asked || spec.health_check_node_port == 0 {
            return None;
        }
        let ready: BTreeSet<Ipv4Addr> =
            spec.ports.iter().flat_map(|p| self.candidates(key, p).ready_here().collect::<Vec<_>>()).collect();
        Some(HealthCheck { port: spec.health_check_node_port, local_endpoints: ready.len() })
    }

    fn candidates<'a>(&'a self, key: &str, port: &Port) -> Candidates<'a> {
        Candidates::of(&self.place, self.slices.get(key).into_iter().flat_map(BTreeMap::values), port)
    }

    fn port(
        &self,
        key: &str,
        service: &Service,
        p: &Port,
        protocol: &'static str,
        cluster: &[Ipv4Addr],
    ) -> ServicePort {
        let spec = &service.spec;
        let candidates = self.candidates(key, p);
        let (internal_local, external_local) =
            (spec.internal_traffic_policy == "Local", spec.external_traffic_policy == "Local");
        let ranges = &spec.load_balancer_source_ranges;
        let seconds = spec.session_affinity_config.client_ip.timeout_seconds.unwrap_or(AFFINITY_SECONDS);
        ServicePort {
            protocol,
            frontends: frontends(service, p, cluster),
            cluster: candidates.cluster(),
            local: if internal_local || external_local { candidates.local() } else { Vec::new() },
            internal_local,
            outside: if external_local { Outside::Local } else { Outside::Cluster },
            affinity: (spec.session_affinity == "ClientIP").then_some(seconds),
            // Ranges of the other family leave nothing open here.
            sources: (!ranges.is_empty()).then(|| ranges.iter().filter_map(|r| r.trim().parse().ok()).collect()),
        }
    }
}

/// Puts in what is new, takes out what is not; has anything changed?
fn replace<T: PartialEq>(map: &mut BTreeMap<String, T>, key: &str, new: Option<T>) -> bool {
    if map.get(key) == new.as_ref() {
        return false;
    }
    match new {
        Some(new) => map.insert(key.to_owned(), new),
        None => map.remove(key),
    };
    true
}

fn cluster_addresses(service: &Service) -> Vec<Ipv4Addr> {
    if service.spec.kind == "ExternalName" {
        return Vec::new();
    }
    addresses(service.spec.cluster_ips.iter().map(String::as_str))
}

fn frontends(service: &Service, p: &Port, cluster: &[Ipv4Addr]) -> Vec<Frontend> {
    let spec = &service.spec;
    let mut all: Vec<Frontend> = cluster.iter().map(|a| Frontend::Cluster(*a, p.port)).collect();
    // Before external IPs: an address that is both is closed to whom the load balancer is closed to.
    if spec.kind == "LoadBalancer" {
        // "Proxy" asks that traffic goes out to the load balancer itself.
        let ingress = service.status.load_balancer.ingress.iter().filter(|i| i.ip_mode != "Proxy");
        all.extend(addresses(ingress.map(|i| i.ip.as_str())).into_iter().map(|a| Frontend::Balancer(a, p.port)));
    }
    let external = addresses(spec.external_ips.iter().map(String::as_str));
    all.extend(external.into_iter().map(|a| Frontend::External(a, p.port)));
    if p.node_port != 0 {
        all.push(Frontend::Node(p.node_port));
    }
    all
}

fn has_host_ports(pod: &Pod) -> bool {
    !pod.spec.host_network
        && !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed")
        && published(&pod.spec).next().is_some()
}

/// The ports of a pod that its node shows, of its containers and sidecars.
fn published(spec: &PodSpec) -> impl Iterator<Item = &super::view::ContainerPort> {
    let sidecars = spec.init_containers.iter().filter(|c| c.restart_policy == "Always");
    spec.containers.iter().chain(sidecars).flat_map(|c| &c.ports).filter(|p| p.host_port != 0)
}

fn host_ports(key: &str, pod: &Pod) -> BTreeMap<String, ServicePort> {
    let Some(ip) = addresses(pod.status.pod_ips.iter().map(|i| i.ip.as_str())).first().copied() else {
        return BTreeMap::new();
    };
    published(&pod.spec)
        .filter_map(|p| {
            let protocol = protocol(&p.protocol)?;
            let everywhere = matches!(p.host_ip.as_str(), "" | "0.0.0.0");
            let frontend = match everywhere {
                true => Frontend::Host(p.host_port),
                false => Frontend::External(p.host_ip.parse().ok()?, p.host_port),
            };
            let port = ServicePort {
                protocol,
                frontends: vec![frontend],
                cluster: vec![Endpoint { ip, port: p.container_port, local: true }],
                local: Vec::new(),
                internal_local: false,
                outside: Outside::Pod,
                affinity: None,
                sources: None,
            };
            Some((format!("{key}:{}:{}/{protocol}", p.host_ip, p.host_port), port))
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use kybern_api::object::Head;
    use serde_json::{Value, json};
    use std::sync::Arc;

    pub(crate) fn object(namespace: &str, name: &str, labels: &[(&str, &str)], body: Value) -> Object {
        let head = Head {
            name: name.into(),
            namespace: namespace.into(),
            labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            ..Head::default()
        };
        Object { head: Arc::new(head), revision: 1, bytes: body.to_string().into() }
    }

    pub(crate) fn web(namespace: &str, ip: &str, node_port: u16) -> Object {
        let spec = json!({ "type": "NodePort", "clusterIPs": [ip],
            "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "nodePort": node_port }] });
        object(namespace, "web", &[], json!({ "spec": spec }))
    }

    pub(crate) fn slice(namespace: &str, endpoints: &[(&str, &str, Option<bool>)]) -> Object {
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|(ip, node, ready)| {
                json!({ "addresses": [ip], "nodeName": node, "conditions": { "ready": ready,
                "serving": true, "terminating": ready == &Some(false) } })
            })
            .collect();
        let body = json!({ "addressType": "IPv4", "endpoints": endpoints, "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }] });
        object(namespace, "web-x", &[(SERVICE_NAME, "web")], body)
    }

    #[test]
    fn ready_endpoints_win_over_terminating_ones() {
        let mut m = Model::new("n1");
        m.service(EventType::Added, &web("d", "10.43.0.7", 30080)).unwrap();
        m.slice(EventType::Added, &slice("d", &[("10.42.0.2", "n1", Some(true)), ("10.42.1.2", "n2", Some(false))]))
            .unwrap();
        let port = &m.ports("d/web")["d/web:80/tcp"];
        assert_eq!(port.cluster, [Endpoint { ip: [10, 42, 0, 2].into(), port: 8080, local: true }]);
        assert_eq!(port.frontends, [Frontend::Cluster([10, 43, 0, 7].into(), 80), Frontend::Node(30080)]);
        m.slice(EventType::Modified, &slice("d", &[("10.42.1.2", "n2", Some(false))])).unwrap();
        assert_eq!(
            m.ports("d/web")["d/web:80/tcp"].cluster.len(),
            1,
            "a terminating endpoint serves while it is the last"
        );
    }

    #[test]
    fn only_what_changed_is_named() {
        let mut m = Model::new("n1");
        m.service(EventType::Added, &web("d", "10.43.0.7", 0)).unwrap();
        assert_eq!(m.take_changed().len(), 1);
        m.service(EventType::Modified, &web("d", "10.43.0.7", 0)).unwrap();
        assert!(m.take_changed().is_empty(), "an equal service is no change");
        m.slice(EventType::Deleted, &slice("d", &[])).unwrap();
        assert!(m.take_changed().is_empty(), "an unknown slice is no change");
    }

    #[test]
    fn headless_and_external_name_services_have_no_rules() {
        let mut m = Model::new("n1");
        m.service(EventType::Added, &web("d", "None", 0)).unwrap();
        assert!(m.ports("d/web").is_empty());
    }

    #[test]
    fn hints_count_where_all_ready_endpoints_have_them_and_one_is_for_this_place() {
        let hinted = |zones: [&str; 2]| {
            let endpoint = |i: usize| {
                let hints = json!({"forZones": [{"name": zones[i]}]});
                let ip = format!("10.42.{i}.2");
                json!({"addresses": [ip], "nodeName": format!("n{i}"), "conditions": {"ready": true},
                    "hints": if zones[i].is_empty() { json!({}) } else { hints }})
            };
            let body = json!({"addressType": "IPv4", "endpoints": [endpoint(0), endpoint(1)],
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]});
            object("d", "web-x", &[(SERVICE_NAME, "web")], body)
        };
        let mut m = Model::new("n1");
        m.service(EventType::Added, &web("d", "10.43.0.7", 0)).unwrap();
        m.node(EventType::Added, &object("", "n1", &[(ZONE, "b")], json!({}))).unwrap();
        for (zones, want) in [(["a", "b"], 1), (["a", ""], 2), (["a", "a"], 2), (["b", "b"], 2)] {
            m.slice(EventType::Modified, &hinted(zones)).unwrap();
            assert_eq!(m.ports("d/web")["d/web:80/tcp"].cluster.len(), want, "{zones:?}");
        }
        m.slice(EventType::Modified, &hinted(["a", "b"])).unwrap();
        m.take_changed();
        m.node(EventType::Modified, &object("", "n1", &[(ZONE, "a")], json!({}))).unwrap();
        assert_eq!(m.take_changed().len(), 1, "another zone, other endpoints");
        assert_eq!(m.ports("d/web")["d/web:80/tcp"].cluster[0].ip, Ipv4Addr::new(10, 42, 0, 2));
    }

    #[test]
    fn endpoints_where_no_pod_can_be_are_left_out() {
        let mut m = Model::new("n1");
        m.service(EventType::Added, &web("d", "10.43.0.7", 0)).unwrap();
        let bad = [("127.0.0.1", "n1", Some(true)), ("169.254.0.1", "n1", Some(true)), ("224.0.0.1", "n1", Some(true))];
        m.slice(EventType::Added, &slice("d", &bad)).unwrap();
        assert!(m.ports("d/web")["d/web:80/tcp"].cluster.is_empty());
    }
}
