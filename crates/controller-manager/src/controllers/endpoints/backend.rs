//! The pods behind a Service, as both kinds of endpoints need them.

use crate::rows::{PodRow, SelectorRow};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodSpec, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kybern_client::store::Item;
use kybern_reconcile::Error;
use kybern_reconcile::view::{View, decode};
use serde::Deserialize;
use smol_str::SmolStr;

/// One published port of one backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) number: i32,
    pub(super) app_protocol: Option<String>,
}

/// One pod behind a Service.
pub(super) struct Backend {
    pub(super) ips: Vec<SmolStr>,
    pub(super) ports: Vec<Port>,
    /// Is the pod ready?
    pub(super) serving: bool,
    pub(super) terminating: bool,
    pub(super) node: Option<String>,
    /// The pod's host name, if it asked for one under this Service's name.
    pub(super) hostname: Option<String>,
    pub(super) target: ObjectReference,
}

impl Backend {
    /// Should it get new connections?
    pub(super) fn ready(&self, publish_not_ready: bool) -> bool {
        publish_not_ready || (self.serving && !self.terminating)
    }
    /// Its address of a family.
    pub(super) fn address(&self, v6: bool) -> Option<&SmolStr> {
        self.ips.iter().find(|ip| ip.contains(':') == v6)
    }
}

/// The pods that the Service selects, that have an address and have not ended; by name.
pub(super) fn backends(view: &View, item: &Item, service: &Service) -> Result<Vec<Backend>, Error> {
    let Some(SelectorRow(selector)) = item.row() else { return Ok(Vec::new()) };
    let ports = service.spec.as_ref().and_then(|s| s.ports.clone()).unwrap_or_default();
    let named = ports.iter().any(|p| matches!(p.target_port, Some(IntOrString::String(_))));
    let pods = view.of::<Pod>().in_namespace(&item.object.head.namespace);
    pods.filter(|p| selector.matches(&*p.object.head))
        .filter_map(|p| p.row::<PodRow>().map(|row| (p, row)))
        .filter(|(_, row)| !row.phase.is_terminal() && !row.ips.is_empty())
        .map(|(pod, row)| {
            let spec = if named { Some(pod_spec(pod)?) } else { None };
            Ok(backend(pod, row, &item.object.head.name, resolve(&ports, spec.as_ref())))
        })
        .collect()
}

fn backend(pod: &Item, row: &PodRow, service: &str, ports: Vec<Port>) -> Backend {
    let head = &pod.object.head;
    Backend {
        ips: row.ips.clone(),
        ports,
        serving: row.ready,
        terminating: head.deleting.is_some(),
        node: (!row.node.is_empty()).then(|| row.node.to_string()),
        hostname: row.host.as_ref().filter(|(_, sub)| sub == service).map(|(host, _)| host.to_string()),
        target: ObjectReference {
            kind: Some(<Pod as k8s_openapi::Resource>::KIND.into()),
            namespace: Some(head.namespace.to_string()),
            name: Some(head.name.to_string()),
            uid: Some(head.uid.to_string()),
            ..ObjectReference::default()
        },
    }
}

fn pod_spec(pod: &Item) -> Result<PodSpec, Error> {
    #[derive(Deserialize)]
    struct Parts {
        spec: PodSpec,
    }
    decode::<Parts>(pod).map(|p| p.spec)
}

/// The Service's ports as this pod serves them; a named port that the pod lacks is left out.
fn resolve(ports: &[ServicePort], spec: Option<&PodSpec>) -> Vec<Port> {
    let resolve = |p: &ServicePort| {
        let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into());
        let number = match &p.target_port {
            None => p.port,
            Some(IntOrString::Int(n)) => *n,
            Some(IntOrString::String(name)) => named_port(spec?, name, &protocol)?,
        };
        Some(Port { name: p.name.clone().unwrap_or_default(), protocol, number, app_protocol: p.app_protocol.clone() })
    };
    let mut resolved: Vec<Port> = ports.iter().filter_map(resolve).collect();
    resolved.sort();
    resolved
}

fn named_port(spec: &PodSpec, name: &str, protocol: &str) -> Option<i32> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let port = ports.find(|p| p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol);
    port.map(|p| p.container_port)
}
