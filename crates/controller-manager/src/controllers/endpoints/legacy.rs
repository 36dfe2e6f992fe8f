//! A Service's Endpoints object.

use super::backend::{Backend, Port, backends};
use super::{is_ours, publishes_not_ready, service_labels};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::def::Key;
use kybern_reconcile::plan::{Plan, change, create, delete};
use kybern_reconcile::view::{World, decode};
use std::collections::BTreeMap;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
/// Addresses one object may hold; further ones are left out and it is marked as truncated.
const CAPACITY: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

pub(super) fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let present = world.view.get::<Endpoints>(&key.namespace, &key.name);
    let mut plan = Plan::none();
    let Some(item) = world.view.get::<Service>(&key.namespace, &key.name) else {
        if let Some(endpoints) = present.filter(|e| e.object.head.label(MANAGED_BY) == Some(MANAGER)) {
            plan.act(delete(&typed::resource::<Endpoints>(), &endpoints.object, None));
        }
        return Ok(plan);
    };
    let service: Service = decode(item)?;
    if !is_ours(&service, &key.namespace) {
        return Ok(plan);
    }
    let old = present.map(decode::<Endpoints>).transpose()?;
    let backends = backends(world.view, item, &service)?;
    let new = filled(old.clone().unwrap_or_else(|| empty(key)), &service, &backends);
    plan.act(match &old {
        Some(old) => change(old, &new, "")?,
        None => Some(create(&new, None)?),
    });
    Ok(plan)
}

fn empty(key: &Key) -> Endpoints {
    let (name, namespace) = (Some(key.name.to_string()), Some(key.namespace.to_string()));
    Endpoints { metadata: ObjectMeta { name, namespace, ..ObjectMeta::default() }, subsets: None }
}

fn filled(mut endpoints: Endpoints, service: &Service, backends: &[Backend]) -> Endpoints {
    let publish_not_ready = publishes_not_ready(service);
    let mut usable: Vec<&Backend> = backends.iter().filter(|b| publish_not_ready || !b.terminating).collect();
    if usable.len() > CAPACITY {
        // Those that can be used are kept first.
        usable.sort_by_key(|b| !b.ready(publish_not_ready));
    }
    let subsets = subsets(&usable[..usable.len().min(CAPACITY)], publish_not_ready);
    endpoints.subsets = (!subsets.is_empty()).then_some(subsets);
    let mut labels = service_labels(service);
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    endpoints.metadata.labels = Some(labels);
    let mut annotations = endpoints.metadata.annotations.take().unwrap_or_default();
    annotations.remove(OVER_CAPACITY);
    if usable.len() > CAPACITY {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    }
    endpoints.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    endpoints
}

/// The backends by their ports, ready and not ready apart, in order of address.
fn subsets(backends: &[&Backend], publish_not_ready: bool) -> Vec<EndpointSubset> {
    let mut groups: BTreeMap<&[Port], (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    for backend in backends {
        let Some(ip) = backend.ips.first() else { continue };
        let address = EndpointAddress {
            ip: ip.to_string(),
            hostname: backend.hostname.clone(),
            node_name: backend.node.clone(),
            target_ref: Some(backend.target.clone()),
        };
        let (ready, not_ready) = groups.entry(&backend.ports).or_default();
        if backend.ready(publish_not_ready) { ready.push(address) } else { not_ready.push(address) }
    }
    let some = |mut addresses: Vec<EndpointAddress>| {
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        (!addresses.is_empty()).then_some(addresses)
    };
    groups
        .into_iter()
        .map(|(ports, (ready, not_ready))| EndpointSubset {
            addresses: some(ready),
            not_ready_addresses: some(not_ready),
            ports: (!ports.is_empty()).then(|| ports.iter().map(port).collect()),
        })
        .collect()
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()).filter(|n| !n.is_empty()),
        port: port.number,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}
