//! What is answered for which name: the DNS specification of Kubernetes (schema version 1.1.0) as a pure
//! lookup over Services and EndpointSlices.

use kybern_api::endpoints::{Port, SERVICE_NAME, Slice};
use kybern_api::object::{EventType, Object};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

/// What a name holds, before it is put into records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Addresses.
    Addresses(Vec<Ipv4Addr>),
    /// Ports with the names that serve them.
    Services(Vec<(u16, String)>),
    /// Another name (ExternalName).
    Alias(String),
    /// Names of an address.
    Names(Vec<String>),
    /// The name exists, but has nothing of this type.
    Empty,
    /// There is no such name in the cluster's domain.
    NoName,
    /// The name is none of ours.
    Foreign,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A
    Address,
    /// SRV
    Service,
    /// PTR
    Pointer,
    /// Anything else.
    Other,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ServiceView {
    spec: ServiceSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    external_name: String,
    publish_not_ready_addresses: bool,
    ports: Vec<Port>,
}

/// The cluster's names, kept up to date by events.
#[derive(Debug)]
pub struct Zone {
    domain: String,
    services: HashMap<String, ServiceSpec>,
    slices: HashMap<String, BTreeMap<String, Slice>>,
    owners: HashMap<String, String>,
    /// Services by cluster IP, for reverse lookups.
    reverse: HashMap<Ipv4Addr, String>,
}

impl Zone {
    /// An empty zone for `domain`, for example `cluster.local`.
    pub fn new(domain: &str) -> Self {
        let domain = domain.trim_matches('.').to_lowercase();
        Self {
            domain,
            services: HashMap::new(),
            slices: HashMap::new(),
            owners: HashMap::new(),
            reverse: HashMap::new(),
        }
    }

    /// The domain, without dots around it.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Takes in a change of a Service.
    ///
    /// # Errors
    /// When the object is no Service; it is left out.
    pub fn service(&mut self, event: EventType, object: &Object) -> Result<(), serde_json::Error> {
        let key = format!("{}.{}", object.head.name, object.head.namespace);
        if let Some(old) = self.services.remove(&key)
            && let Ok(ip) = old.cluster_ip.parse::<Ipv4Addr>()
        {
            self.reverse.remove(&ip);
        }
        if event != EventType::Deleted {
            let spec = object.view::<ServiceView>()?.spec;
            if let Ok(ip) = spec.cluster_ip.parse() {
                self.reverse.insert(ip, key.clone());
            }
            self.services.insert(key, spec);
        }
        Ok(())
    }

    /// Takes in a change of an EndpointSlice.
    ///
    /// # Errors
    /// When the object is no EndpointSlice; it is left out.
    pub fn slice(&mut self, event: EventType, object: &Object) -> Result<(), serde_json::Error> {
        let key = object.head.key();
        if let Some(owner) = self.owners.remove(&key)
            && let Some(slices) = self.slices.get_mut(&owner)
        {
            slices.remove(&key);
            if slices.is_empty() {
                self.slices.remove(&owner);
            }
        }
        let Some(service) = object.head.label(SERVICE_NAME).filter(|_| event != EventType::Deleted) else {
            return Ok(());
        };
        let owner = format!("{service}.{}", object.head.namespace);
        let view: Slice = object.view()?;
        if view.address_type == "IPv4" {
            self.slices.entry(owner.clone()).or_default().insert(key.clone(), view);
            self.owners.insert(key, owner);
        }
        Ok(())
    }

    /// Answers a lower-case name without its final dot.
    pub fn answer(&self, name: &str, wanted: Wanted) -> Answer {
        if let Some(address) = name.strip_suffix(".in-addr.arpa").and_then(reversed) {
            return self.pointer(address, wanted);
        }
        if name == self.domain {
            return Answer::Empty;
        }
        let Some(rest) = name.strip_suffix(&self.domain).and_then(|r| r.strip_suffix('.')) else {
            return Answer::Foreign;
        };
        let labels: Vec<&str> = rest.split('.').collect();
        match labels.as_slice() {
            ["svc" | "pod"] => Answer::Empty,
            [.., "svc"] => self.service_name(&labels[..labels.len() - 1], wanted),
            [ip, namespace, "pod"] if !namespace.is_empty() => pod(ip, wanted),
            _ => Answer::NoName,
        }
    }

    /// Labels in front of `svc`: `name ns`, `host name ns` or `_port _proto name ns`.
    fn service_name(&self, labels: &[&str], wanted: Wanted) -> Answer {
        match labels {
            [namespace] => self.namespace(namespace),
            [name, namespace] => self.service_records(&format!("{name}.{namespace}"), wanted),
            [port, protocol, name, namespace] if port.starts_with('_') && protocol.starts_with('_') => {
                self.ports(&format!("{name}.{namespace}"), &port[1..], &protocol[1..], wanted)
            }
            [host, name, namespace] => self.host(host, &format!("{name}.{namespace}"), wanted),
            _ => Answer::NoName,
        }
    }

    fn namespace(&self, namespace: &str) -> Answer {
        let suffix = format!(".{namespace}");
        if self.services.keys().any(|k| k.ends_with(&suffix)) { Answer::Empty } else { Answer::NoName }
    }

    fn service_records(&self, key: &str, wanted: Wanted) -> Answer {
        let Some(spec) = self.services.get(key) else { return Answer::NoName };
        if spec.kind == "ExternalName" {
            return Answer::Alias(spec.external_name.trim_end_matches('.').to_owned());
        }
        match wanted {
            Wanted::Address => match spec.cluster_ip.parse() {
                Ok(ip) => Answer::Addresses(vec![ip]),
                Err(_) => addresses(self.endpoints(key, spec).map(|(ip, _, _)| ip)),
            },
            Wanted::Service => self.all_ports(key, spec, |_| true),
            _ => Answer::Empty,
        }
    }

    fn ports(&self, key: &str, port: &str, protocol: &str, wanted: Wanted) -> Answer {
        let Some(spec) = self.services.get(key) else { return Answer::NoName };
        let is = |p: &Port| p.name == port && p.protocol().eq_ignore_ascii_case(protocol);
        match (self.all_ports(key, spec, is), wanted) {
            (Answer::Empty, _) => Answer::NoName,
            (found, Wanted::Service) => found,
            _ => Answer::Empty,
        }
    }

    fn all_ports(&self, key: &str, spec: &ServiceSpec, is: impl Fn(&Port) -> bool) -> Answer {
        let base = format!("{key}.svc.{}", self.domain);
        let found: BTreeSet<(u16, String)> = if spec.cluster_ip.parse::<Ipv4Addr>().is_ok() {
            spec.ports.iter().filter(|p| is(p)).map(|p| (p.port, base.clone())).collect()
        } else {
            self.endpoints(key, spec)
                .flat_map(|(ip, host, ports)| ports.iter().map(move |p| (ip, host, p)))
                .filter(|(_, _, p)| is(p))
                .map(|(ip, host, p)| (p.port, format!("{}.{base}", host_label(ip, host))))
                .collect()
        };
        if found.is_empty() { Answer::Empty } else { Answer::Services(found.into_iter().collect()) }
    }

    /// One endpoint of a service by its host name.
    fn host(&self, host: &str, key: &str, wanted: Wanted) -> Answer {
        let Some(spec) = self.services.get(key) else { return Answer::NoName };
        match addresses(self.endpoints(key, spec).filter(|(ip, h, _)| host_label(*ip, h) == host).map(|(ip, _, _)| ip))
        {
            Answer::Empty => Answer::NoName,
            found if wanted == Wanted::Address => found,
            _ => Answer::Empty,
        }
    }

    fn endpoints<'a>(
        &'a self,
        key: &str,
        spec: &'a ServiceSpec,
    ) -> impl Iterator<Item = (Ipv4Addr, &'a str, &'a [Port])> + 'a {
        self.slices.get(key).into_iter().flat_map(BTreeMap::values).flat_map(move |s| {
            let listed = s.endpoints.iter();
            let ready = listed.filter(|e| spec.publish_not_ready_addresses || e.is_ready());
            ready.filter_map(|e| Some((e.addresses.first()?.parse().ok()?, e.hostname.as_str(), s.ports.as_slice())))
        })
    }

    fn pointer(&self, address: Ipv4Addr, wanted: Wanted) -> Answer {
        let mut names: BTreeSet<String> = BTreeSet::new();
        if let Some(key) = self.reverse.get(&address) {
            names.insert(format!("{key}.svc.{}", self.domain));
        }
        for (key, spec) in self.services.iter().filter(|(_, s)| s.cluster_ip == "None") {
            let hosts = self.endpoints(key, spec).filter(|(ip, _, _)| *ip == address);
            names.extend(hosts.map(|(ip, h, _)| format!("{}.{key}.svc.{}", host_label(ip, h), self.domain)));
        }
        match (names.is_empty(), wanted) {
            (true, _) => Answer::Foreign,
            (false, Wanted::Pointer) => Answer::Names(names.into_iter().collect()),
            _ => Answer::Empty,
        }
    }
}

fn addresses(found: impl Iterator<Item = Ipv4Addr>) -> Answer {
    let set: BTreeSet<Ipv4Addr> = found.collect();
    if set.is_empty() { Answer::Empty } else { Answer::Addresses(set.into_iter().collect()) }
}

/// An endpoint's label: its host name, or its address with dashes.
fn host_label(ip: Ipv4Addr, hostname: &str) -> String {
    if hostname.is_empty() { ip.to_string().replace('.', "-") } else { hostname.to_lowercase() }
}

/// `10-42-0-5.ns.pod`: the address is in the name.
fn pod(label: &str, wanted: Wanted) -> Answer {
    match (label.replace('-', ".").parse(), wanted) {
        (Ok(ip), Wanted::Address) => Answer::Addresses(vec![ip]),
        (Ok(_), _) => Answer::Empty,
        (Err(_), _) => Answer::NoName,
    }
}

/// `5.0.42.10` is the address 10.42.0.5.
pub(super) fn reversed(text: &str) -> Option<Ipv4Addr> {
    let [d, c, b, a] = text.parse::<Ipv4Addr>().ok()?.octets();
    Some(Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use kybern_api::object::Head;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn object(name: &str, labels: &[(&str, &str)], body: &Value) -> Object {
        let labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let head = Head { name: name.into(), namespace: "d".into(), labels, ..Head::default() };
        Object { head: Arc::new(head), revision: 1, bytes: body.to_string().into() }
    }

    pub(in crate::dns) fn zone() -> Zone {
        let mut z = Zone::new("cluster.local.");
        let ports = json!([{ "name": "http", "port": 80, "protocol": "TCP" }]);
        let mut add = |name: &str, spec: Value| {
            z.service(EventType::Added, &object(name, &[], &json!({ "spec": spec }))).unwrap();
        };
        add("web", json!({ "clusterIP": "10.43.0.7", "ports": ports }));
        add("db", json!({ "clusterIP": "None", "ports": ports }));
        add("out", json!({ "type": "ExternalName", "externalName": "example.org" }));
        let slice = json!({ "addressType": "IPv4", "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }], "endpoints": [
            { "addresses": ["10.42.0.5"], "hostname": "db-0", "conditions": { "ready": true } },
            { "addresses": ["10.42.1.5"], "conditions": { "ready": true } },
            { "addresses": ["10.42.1.6"], "conditions": { "ready": false } } ] });
        z.slice(EventType::Added, &object("db-x", &[(SERVICE_NAME, "db")], &slice)).unwrap();
        z
    }

    #[test]
    fn names_follow_the_specification() {
        let ip = |t: &str| -> Ipv4Addr { t.parse().unwrap() };
        let z = zone();
        let base = "d.svc.cluster.local";
        let cases: Vec<(String, Wanted, Answer)> = vec![
            (format!("web.{base}"), Wanted::Address, Answer::Addresses(vec![ip("10.43.0.7")])),
            (format!("web.{base}"), Wanted::Other, Answer::Empty),
            (format!("_http._tcp.web.{base}"), Wanted::Service, Answer::Services(vec![(80, format!("web.{base}"))])),
            (format!("_http._udp.web.{base}"), Wanted::Service, Answer::NoName),
            (format!("db.{base}"), Wanted::Address, Answer::Addresses(vec![ip("10.42.0.5"), ip("10.42.1.5")])),
            (format!("db-0.db.{base}"), Wanted::Address, Answer::Addresses(vec![ip("10.42.0.5")])),
            (format!("10-42-1-5.db.{base}"), Wanted::Address, Answer::Addresses(vec![ip("10.42.1.5")])),
            (
                format!("_http._tcp.db.{base}"),
                Wanted::Service,
                Answer::Services(vec![(8080, format!("10-42-1-5.db.{base}")), (8080, format!("db-0.db.{base}"))]),
            ),
            (format!("out.{base}"), Wanted::Address, Answer::Alias("example.org".into())),
            (format!("none.{base}"), Wanted::Address, Answer::NoName),
            (base.into(), Wanted::Address, Answer::Empty),
            ("e.svc.cluster.local".into(), Wanted::Address, Answer::NoName),
            ("10-42-0-9.d.pod.cluster.local".into(), Wanted::Address, Answer::Addresses(vec![ip("10.42.0.9")])),
            ("cluster.local".into(), Wanted::Address, Answer::Empty),
            ("notcluster.local".into(), Wanted::Address, Answer::Foreign),
            ("example.org".into(), Wanted::Address, Answer::Foreign),
            ("7.0.43.10.in-addr.arpa".into(), Wanted::Pointer, Answer::Names(vec![format!("web.{base}")])),
            ("5.0.42.10.in-addr.arpa".into(), Wanted::Pointer, Answer::Names(vec![format!("db-0.db.{base}")])),
            ("1.1.1.1.in-addr.arpa".into(), Wanted::Pointer, Answer::Foreign),
        ];
        for (name, wanted, expected) in cases {
            assert_eq!(z.answer(&name, wanted), expected, "{name} {wanted:?}");
        }
    }

    #[test]
    fn what_is_deleted_is_answered_no_more() {
        let mut z = zone();
        z.service(EventType::Deleted, &object("web", &[], &json!({}))).unwrap();
        z.slice(EventType::Deleted, &object("db-x", &[(SERVICE_NAME, "db")], &json!({}))).unwrap();
        assert_eq!(z.answer("web.d.svc.cluster.local", Wanted::Address), Answer::NoName);
        assert_eq!(z.answer("7.0.43.10.in-addr.arpa", Wanted::Pointer), Answer::Foreign);
        assert_eq!(z.answer("db.d.svc.cluster.local", Wanted::Address), Answer::Empty);
    }
}
