//! Services and slices as the proxy sees them: narrow views, and from them one entry per service port.

use kybern_api::object::{EventType, Object};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// A Service, as far as the proxy needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Service {
    #[serde(default)]
    spec: ServiceSpec,
    #[serde(default)]
    status: ServiceStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs")]
    external_ips: Vec<String>,
    ports: Vec<Port>,
    internal_traffic_policy: String,
    external_traffic_policy: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    name: String,
    protocol: String,
    port: u16,
    node_port: u16,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceStatus {
    load_balancer: LoadBalancer,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Vec<Ingress>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Ingress {
    ip: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Slice {
    address_type: String,
    endpoints: Vec<SliceEndpoint>,
    ports: Vec<SlicePort>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SliceEndpoint {
    addresses: Vec<String>,
    node_name: String,
    conditions: Conditions,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct SlicePort {
    name: String,
    protocol: String,
    port: u16,
}

/// Where traffic can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Pod address.
    pub ip: Ipv4Addr,
    /// Pod port.
    pub port: u16,
    /// Is it on this node?
    pub local: bool,
}

/// Where traffic comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frontend {
    /// An address and port (cluster IP).
    Cluster(Ipv4Addr, u16),
    /// An address and port from outside (load balancer, external IP).
    External(Ipv4Addr, u16),
    /// A port of every address of the node.
    Node(u16),
}

/// One port of one Service: what the rules are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// Where traffic comes in.
    pub frontends: Vec<Frontend>,
    /// Where traffic from inside the cluster goes.
    pub internal: Vec<Endpoint>,
    /// Where traffic from outside goes; with `keep_source` these are local.
    pub external: Vec<Endpoint>,
    /// externalTrafficPolicy Local: the client's address stays.
    pub keep_source: bool,
}

/// All Services and slices.
#[derive(Debug, Default)]
pub struct Model {
    node: String,
    services: BTreeMap<String, Service>,
    /// Slices by service, then by slice name.
    slices: BTreeMap<String, BTreeMap<String, Slice>>,
    /// Which service a slice belongs to.
    owners: BTreeMap<String, String>,
    changed: BTreeSet<String>,
}

/// The label that names a slice's Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

impl Model {
    /// An empty model for the node `node`.
    pub fn new(node: &str) -> Self {
        Self { node: node.into(), ..Self::default() }
    }

    /// Takes in a change of a Service.
    ///
    /// # Errors
    /// When the object is no Service; it is left out.
    pub fn service(&mut self, event: EventType, object: &Object) -> Result<(), serde_json::Error> {
        let key = object.head.key();
        let new = (event != EventType::Deleted).then(|| object.view::<Service>()).transpose()?;
        let old = match new {
            Some(s) if self.services.get(&key) == Some(&s) => return Ok(()),
            Some(s) => self.services.insert(key.clone(), s),
            None => self.services.remove(&key),
        };
        if old.is_some() || event != EventType::Deleted {
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

    /// The services that changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    /// Keys of all services.
    pub fn services(&self) -> BTreeSet<String> {
        self.services.keys().cloned().collect()
    }

    /// The ports of one service, by `namespace/name:port/protocol`; none for a headless one.
    pub fn ports(&self, key: &str) -> BTreeMap<String, ServicePort> {
        let Some(service) = self.services.get(key) else { return BTreeMap::new() };
        let spec = &service.spec;
        let addresses: Vec<Ipv4Addr> = parse(&spec.cluster_ips);
        if addresses.is_empty() || spec.kind == "ExternalName" {
            return BTreeMap::new();
        }
        spec.ports
            .iter()
            .filter_map(|p| Some((p, protocol(&p.protocol)?)))
            .map(|(p, protocol)| {
                (format!("{key}:{}/{protocol}", p.port), self.port(key, service, p, protocol, &addresses))
            })
            .collect()
    }

    fn port(
        &self,
        key: &str,
        service: &Service,
        p: &Port,
        protocol: &'static str,
        addresses: &[Ipv4Addr],
    ) -> ServicePort {
        let spec = &service.spec;
        let mut frontends: Vec<Frontend> = addresses.iter().map(|a| Frontend::Cluster(*a, p.port)).collect();
        frontends.extend(parse(&spec.external_ips).into_iter().map(|a| Frontend::External(a, p.port)));
        let ingress: Vec<String> = service.status.load_balancer.ingress.iter().map(|i| i.ip.clone()).collect();
        frontends.extend(parse(&ingress).into_iter().map(|a| Frontend::External(a, p.port)));
        if p.node_port != 0 {
            frontends.push(Frontend::Node(p.node_port));
        }
        let all = self.endpoints(key, p, protocol, false);
        let local = |policy: &str| if policy == "Local" { self.endpoints(key, p, protocol, true) } else { all.clone() };
        ServicePort {
            protocol,
            internal: local(&spec.internal_traffic_policy),
            external: local(&spec.external_traffic_policy),
            keep_source: spec.external_traffic_policy == "Local",
            frontends,
        }
    }

    /// Ready endpoints; where there is none, those that still serve while they terminate.
    fn endpoints(&self, key: &str, p: &Port, protocol: &str, local_only: bool) -> Vec<Endpoint> {
        let mut ready = BTreeSet::new();
        let mut serving = BTreeSet::new();
        for slice in self.slices.get(key).into_iter().flat_map(BTreeMap::values).filter(|s| s.address_type == "IPv4") {
            let Some(target) = slice.ports.iter().find(|sp| sp.name == p.name && protocol_is(&sp.protocol, protocol))
            else {
                continue;
            };
            for e in &slice.endpoints {
                let local = e.node_name == self.node;
                let Some(ip) = e.addresses.first().and_then(|a| a.parse().ok()).filter(|_| local || !local_only) else {
                    continue;
                };
                let endpoint = Endpoint { ip, port: target.port, local };
                let c = &e.conditions;
                if c.ready.unwrap_or(true) {
                    ready.insert(endpoint);
                } else if c.terminating == Some(true) && c.serving == Some(true) {
                    serving.insert(endpoint);
                }
            }
        }
        if ready.is_empty() { serving } else { ready }.into_iter().collect()
    }
}

fn parse(texts: &[String]) -> Vec<Ipv4Addr> {
    texts.iter().filter_map(|t| t.parse().ok()).collect()
}

fn protocol(text: &str) -> Option<&'static str> {
    match text {
        "" | "TCP" => Some("tcp"),
        "UDP" => Some("udp"),
        "SCTP" => Some("sctp"),
        _ => None,
    }
}

fn protocol_is(text: &str, expected: &str) -> bool {
    protocol(text) == Some(expected)
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
        assert_eq!(port.internal, [Endpoint { ip: [10, 42, 0, 2].into(), port: 8080, local: true }]);
        assert_eq!(port.frontends, [Frontend::Cluster([10, 43, 0, 7].into(), 80), Frontend::Node(30080)]);
        m.slice(EventType::Modified, &slice("d", &[("10.42.1.2", "n2", Some(false))])).unwrap();
        assert_eq!(
            m.ports("d/web")["d/web:80/tcp"].internal.len(),
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
}
