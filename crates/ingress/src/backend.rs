//! Where the requests of a Service's port go: its ready endpoints, taken from EndpointSlices.

use arc_swap::ArcSwap;
use kybern_api::endpoints::{SERVICE_NAME, Slice};
pub use kybern_api::ingress::Protocol;
use kybern_api::ingress::{Backend as Wanted, Port};
use kybern_api::object::Object;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use smol_str::SmolStr;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// How a port speaks that says it itself.
fn protocol(app_protocol: &str) -> Protocol {
    match app_protocol {
        "kubernetes.io/h2c" | "grpc" | "h2c" => Protocol::H2c,
        _ => Protocol::Http1,
    }
}

/// The endpoints at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoints {
    /// Addresses, sorted.
    pub addresses: Vec<SocketAddr>,
    /// How they speak.
    pub protocol: Protocol,
}

/// One port of a Service.
#[derive(Debug, Default)]
pub struct Backend {
    endpoints: ArcSwap<Endpoints>,
    turn: AtomicUsize,
}

impl Backend {
    /// With these endpoints.
    pub fn new(endpoints: Endpoints) -> Self {
        Self { endpoints: ArcSwap::from_pointee(endpoints), turn: AtomicUsize::new(0) }
    }
    /// The endpoints now.
    pub fn endpoints(&self) -> Arc<Endpoints> {
        self.endpoints.load_full()
    }
    /// Takes over other endpoints.
    pub fn set(&self, endpoints: Endpoints) {
        if **self.endpoints.load() != endpoints {
            self.endpoints.store(Arc::new(endpoints));
        }
    }
    /// Which endpoint is next, where `count` are to choose from.
    pub fn next(&self, count: usize) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(count).unwrap_or_default()
    }
}

/// What a sticky client shows to come back to an endpoint. It tells nobody the address.
pub fn mark(endpoint: &SocketAddr) -> String {
    hex::encode(&Sha256::digest(endpoint.to_string())[..8])
}

/// Namespace, service and port.
type Key = (SmolStr, Wanted);

/// The backends in use. A table holds its backends; what no table holds is forgotten.
#[derive(Debug, Default)]
pub struct Backends {
    known: HashMap<Key, Weak<Backend>>,
}

impl Backends {
    /// The backend of this name, and whether it is new and has to be filled.
    pub fn get(&mut self, namespace: &SmolStr, wanted: &Wanted) -> (Arc<Backend>, bool) {
        let key = (namespace.clone(), wanted.clone());
        if let Some(known) = self.known.get(&key).and_then(Weak::upgrade) {
            return (known, false);
        }
        let new = Arc::new(Backend::default());
        self.known.insert(key, Arc::downgrade(&new));
        (new, true)
    }
    /// Forgets what nobody uses.
    pub fn sweep(&mut self) {
        self.known.retain(|_, b| b.strong_count() > 0);
    }
    /// The backends of a Service.
    pub fn of<'a>(
        &'a self,
        namespace: &'a str,
        service: &'a str,
    ) -> impl Iterator<Item = (&'a Wanted, Arc<Backend>)> + 'a {
        let of = move |((ns, wanted), backend): (&'a Key, &'a Weak<Backend>)| {
            (ns == namespace && wanted.service == service).then(|| Some((wanted, backend.upgrade()?)))?
        };
        self.known.iter().filter_map(of)
    }
}

/// The Service that a slice belongs to.
pub fn service_of(slice: &Object) -> Option<&str> {
    slice.head.label(SERVICE_NAME)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Service {
    spec: ServiceSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: String,
    ports: Vec<ServicePort>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ServicePort {
    name: SmolStr,
    port: u16,
    protocol: String,
    app_protocol: String,
}

/// The endpoints of a Service's port: the ready ones, and where there is none those that still serve while
/// they end. None for a port that the Service has not.
///
/// # Errors
/// When the Service or a slice cannot be read.
pub fn endpoints<'a>(
    service: &Object,
    wanted: &Port,
    slices: impl Iterator<Item = &'a Object>,
) -> Result<Endpoints, serde_json::Error> {
    let view: Service = service.view()?;
    let is_wanted = |p: &&ServicePort| {
        matches!(p.protocol.as_str(), "" | "TCP")
            && match wanted {
                Port::Name(name) => p.name == *name,
                Port::Number(number) => p.port == *number,
            }
    };
    let Some(port) = view.spec.ports.iter().find(is_wanted).filter(|_| view.spec.kind != "ExternalName") else {
        return Ok(Endpoints::default());
    };
    let (mut ready, mut serving) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices {
        let slice: Slice = slice.view()?;
        let Some(target) = slice.port(&port.name, "TCP") else { continue };
        for e in &slice.endpoints {
            let Some(ip) = e.address() else { continue };
            if e.is_ready() {
                ready.insert(SocketAddr::new(ip, target));
            } else if e.serves_to_its_end() {
                serving.insert(SocketAddr::new(ip, target));
            }
        }
    }
    let chosen = if ready.is_empty() { serving } else { ready };
    Ok(Endpoints { addresses: chosen.into_iter().collect(), protocol: protocol(&port.app_protocol) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(body: Value) -> Object {
        Object { head: Arc::default(), revision: 1, bytes: body.to_string().into() }
    }

    fn found(port: &Port, endpoints: Value) -> (Vec<String>, Protocol) {
        let service = object(json!({ "spec": { "ports": [
            { "name": "http", "port": 80, "protocol": "TCP" },
            { "name": "grpc", "port": 90, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c" },
        ] } }));
        let slice = object(json!({ "endpoints": endpoints, "ports": [
            { "name": "http", "port": 8080 }, { "name": "grpc", "port": 9090 } ] }));
        let found = super::endpoints(&service, port, [&slice].into_iter()).expect("endpoints");
        (found.addresses.iter().map(ToString::to_string).collect(), found.protocol)
    }

    #[test]
    fn ready_endpoints_win_over_terminating_ones() {
        let ending = json!({ "addresses": ["10.42.0.3"],
            "conditions": { "ready": false, "serving": true, "terminating": true } });
        let ready = json!({ "addresses": ["10.42.0.2"], "conditions": { "ready": true } });
        let http = Port::Number(80);
        assert_eq!(found(&http, json!([ending, ready])).0, ["10.42.0.2:8080"]);
        assert_eq!(found(&http, json!([ending])).0, ["10.42.0.3:8080"]);
        assert_eq!(found(&Port::Name("grpc".into()), json!([ready])), (vec!["10.42.0.2:9090".into()], Protocol::H2c));
        assert!(found(&Port::Number(81), json!([ready])).0.is_empty(), "a port that the service has not");
    }

    #[test]
    fn the_node_itself_is_no_endpoint() {
        assert!(found(&Port::Number(80), json!([{ "addresses": ["127.0.0.1"] }])).0.is_empty());
    }

    #[test]
    fn a_backend_lives_as_long_as_somebody_uses_it() {
        let mut backends = Backends::default();
        let wanted = Wanted { service: "web".into(), port: Port::Number(80) };
        let (first, new) = backends.get(&"ns".into(), &wanted);
        assert!(new && !backends.get(&"ns".into(), &wanted).1);
        assert_eq!((backends.of("ns", "web").count(), backends.of("other", "web").count()), (1, 0));
        drop(first);
        backends.sweep();
        assert_eq!(backends.of("ns", "web").count(), 0);
    }
}
