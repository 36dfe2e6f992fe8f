//! Where a proxied request goes: `[scheme:]NAME[:PORT]` of a pod, service or node, as an address and the
//! node to connect from.

use crate::cache::Selector;
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::server::ApiServer;
use crate::verbs::{get, no_such_path};
use kybern_api::endpoints::{Endpoint, Port, SERVICE_NAME, Slice, may_be_led_to};
use kybern_api::error::{Reason, Status};
use kybern_api::object::Object;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::{IpAddr, SocketAddr};

/// The agent's own paths are asked for without a port or with this one.
const KUBELET: u16 = 10250;

/// Where it goes.
#[derive(Debug, PartialEq)]
pub(super) enum Place {
    /// The paths that the agent of this node serves itself.
    Kubelet(String),
    /// An address.
    Address(Address),
}

/// An address, and how to get there.
#[derive(Debug, PartialEq)]
pub(super) struct Address {
    /// From this node.
    pub(super) node: String,
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    /// Over TLS; whose certificate it is does not matter, as in Kubernetes.
    pub(super) tls: bool,
}

impl Address {
    /// As it stands in a URL.
    pub(super) fn authority(&self) -> String {
        SocketAddr::new(self.ip, self.port).to_string()
    }
}

/// The name's parts.
#[derive(Debug, PartialEq)]
struct Asked<'a> {
    tls: bool,
    name: &'a str,
    port: &'a str,
}

impl<'a> Asked<'a> {
    fn of(text: &'a str, what: &str) -> Result<Self, Status> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => ("?", "", ""),
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            return Err(Status::bad_request(format!("invalid {what} request \"{text}\"")));
        }
        Ok(Self { tls: scheme == "https", name, port })
    }
    fn number(&self) -> Result<u16, Status> {
        let number = self.port.parse().ok().filter(|p| *p > 0);
        number.ok_or_else(|| Status::bad_request(format!("invalid port \"{}\"", self.port)))
    }
    fn usual_port(&self) -> u16 {
        if self.tls { 443 } else { 80 }
    }
}

/// Finds the place that a request names.
pub(super) async fn of(server: &ApiServer, resource: &Resource, auth: &Authorized) -> Result<Place, Status> {
    server.0.read_barrier().await?;
    let plural = resource.def().plural.as_str();
    let asked = Asked::of(auth.name(), plural.trim_end_matches('s'))?;
    let object = get::current(&server.0, resource, auth.namespace(), asked.name)?;
    match plural {
        "pods" => pod(&view(&object)?, &asked).map(Place::Address),
        "services" => service(server, &object, &asked).map(Place::Address),
        "nodes" => node(&object, &asked),
        _ => Err(no_such_path()),
    }
}

fn view<T: DeserializeOwned>(object: &Object) -> Result<T, Status> {
    object.view().map_err(|e| Status::internal(e.to_string()))
}

fn unavailable(text: String) -> Status {
    Status::new(Reason::ServiceUnavailable, text)
}

/// An address that a request may be sent to: never this machine's own.
fn proxyable(ip: &str) -> Result<IpAddr, Status> {
    // An IPv4 address may stand in IPv6's clothes (CVE-2020-8562 and its like).
    let ip = ip.parse::<IpAddr>().ok().filter(may_be_led_to).map(|ip| ip.to_canonical());
    ip.ok_or_else(|| Status::bad_request("address not allowed"))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pod {
    spec: PodSpec,
    status: PodStatus,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    containers: Vec<Container>,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct Container {
    ports: Vec<ContainerPort>,
}
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    container_port: u16,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct PodStatus {
    #[serde(rename = "podIP")]
    pod_ip: String,
}

/// Without a port it is the first that a container names.
fn pod(pod: &Pod, asked: &Asked<'_>) -> Result<Address, Status> {
    let first = || pod.spec.containers.iter().flat_map(|c| &c.ports).map(|p| p.container_port).next();
    let port = if asked.port.is_empty() { first().unwrap_or(asked.usual_port()) } else { asked.number()? };
    Ok(Address { node: pod.spec.node_name.clone(), ip: proxyable(&pod.status.pod_ip)?, port, tls: asked.tls })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Node {
    status: NodeStatus,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeStatus {
    addresses: Vec<NodeAddress>,
}
#[derive(Deserialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

fn node(object: &Object, asked: &Asked<'_>) -> Result<Place, Status> {
    let node = asked.name.to_owned();
    let port = if asked.port.is_empty() { KUBELET } else { asked.number()? };
    if port == KUBELET {
        return Ok(Place::Kubelet(node));
    }
    let addresses = view::<Node>(object)?.status.addresses;
    let internal = addresses.iter().find(|a| a.kind == "InternalIP");
    let internal = internal.ok_or_else(|| unavailable(format!("node \"{node}\" has no address yet")))?;
    Ok(Place::Address(Address { node, ip: proxyable(&internal.address)?, port, tls: asked.tls }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Service {
    spec: ServiceSpec,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct ServiceSpec {
    ports: Vec<Port>,
}
/// One of the ready endpoints, another one each time.
fn service(server: &ApiServer, object: &Object, asked: &Asked<'_>) -> Result<Address, Status> {
    let slices = slices(server, object)?;
    let port = port_name(&view::<Service>(object)?, asked)?;
    let mut found = endpoints(&slices, &port);
    if found.is_empty() {
        return Err(unavailable(format!("no endpoints available for service \"{}\"", asked.name)));
    }
    let (endpoint, port) = found.swap_remove(rand::random_range(0..found.len()));
    // An endpoint that is no pod's is reached from any node.
    let anywhere = || server.0.nodes.connected().into_iter().next();
    let node = Some(endpoint.node_name.clone()).filter(|n| !n.is_empty()).or_else(anywhere);
    let node = node.ok_or_else(|| unavailable("no node is connected to this server".into()))?;
    let ip = proxyable(endpoint.addresses.first().map(String::as_str).unwrap_or_default())?;
    Ok(Address { node, ip, port, tls: asked.tls })
}

fn slices(server: &ApiServer, service: &Object) -> Result<Vec<Slice>, Status> {
    let kind = server.0.kinds.resource("discovery.k8s.io", "endpointslices").ok_or_else(no_such_path)?;
    let labels = format!("{SERVICE_NAME}={}", service.head.name);
    let selector = Selector::parse(&kind.def, &labels, "")?;
    let snapshot = kind.cache.snapshot(server.0.caches.applied());
    let prefix = kind.cache.keys().namespace(Some(&service.head.namespace));
    snapshot.range(&prefix, None).map(|(_, o)| o).filter(|o| selector.matches(&o.head)).map(view).collect()
}

/// The name of the port asked for, which slices know it by.
fn port_name(service: &Service, asked: &Asked<'_>) -> Result<String, Status> {
    let Ok(number) = asked.port.parse::<u16>() else { return Ok(asked.port.to_owned()) };
    let port = service.spec.ports.iter().find(|p| p.port == number);
    let missing = || unavailable(format!("no service port {number} found for service \"{}\"", asked.name));
    Ok(port.ok_or_else(missing)?.name.clone())
}

fn endpoints<'a>(slices: &'a [Slice], port: &str) -> Vec<(&'a Endpoint, u16)> {
    let ready = |e: &&Endpoint| e.is_ready() && !e.addresses.is_empty();
    let of = |s: &'a Slice| s.port(port, "TCP").map(|n| s.endpoints.iter().filter(ready).map(move |e| (e, n)));
    slices.iter().filter_map(of).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    #[test]
    fn names_may_carry_a_scheme_and_a_port() {
        let asked = |text| Asked::of(text, "pod").map_err(|s| s.message);
        let want = |tls, name, port| Ok(Asked { tls, name, port });
        assert_eq!(asked("web"), want(false, "web", ""));
        assert_eq!(asked("web:8080"), want(false, "web", "8080"));
        assert_eq!(asked("https:web:"), want(true, "web", ""));
        assert_eq!(asked("http:web:http"), want(false, "web", "http"));
        for wrong in ["", ":80", "ftp:web:21", "a:b:c:d"] {
            assert_eq!(asked(wrong), Err(format!("invalid pod request \"{wrong}\"")));
        }
    }

    #[test]
    fn a_pod_is_reached_at_its_address_and_first_port() {
        let of = |name: &str, ip: &str| {
            let it: Value = json!({"spec": {"nodeName": "n1", "containers": [{}, {"ports": [{"containerPort": 8080}]}]},
                "status": {"podIP": ip}});
            let asked = Asked::of(name, "pod").expect("a name");
            pod(&from_value(it).expect("a pod"), &asked).map(|a| a.authority()).map_err(|s| (s.code, s.message))
        };
        assert_eq!(of("web", "10.42.0.7"), Ok("10.42.0.7:8080".into()));
        assert_eq!(of("web:81", "fd00::7"), Ok("[fd00::7]:81".into()));
        let refused = Err((400, "address not allowed".into()));
        for ip in
            ["", "127.0.0.1", "169.254.169.254", "::1", "fe80::1", "0.0.0.0", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe"]
        {
            assert_eq!(of("web", ip), refused, "{ip}");
        }
        assert_eq!(of("web:http", "10.42.0.7"), Err((400, "invalid port \"http\"".into())));
    }

    #[test]
    fn a_service_port_is_found_by_name_and_number() {
        let service: Service = from_value(json!({"spec": {"ports": [{"name": "http", "port": 80}]}})).expect("service");
        let name = |text| port_name(&service, &Asked::of(text, "service").expect("a name")).map_err(|s| s.message);
        assert_eq!(name("web:80"), Ok("http".into()));
        assert_eq!(name("web:http"), Ok("http".into()));
        assert_eq!(name("web:81"), Err("no service port 81 found for service \"web\"".into()));
        let slices: Vec<Slice> = from_value(json!([{
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["10.42.0.7"]}, {"addresses": ["10.42.0.8"], "conditions": {"ready": false}}],
        }]))
        .expect("slices");
        let found =
            |port| endpoints(&slices, port).iter().map(|(e, p)| (e.addresses[0].clone(), *p)).collect::<Vec<_>>();
        assert_eq!(found("http"), [("10.42.0.7".into(), 8080)]);
        assert_eq!(found(""), []);
    }
}
