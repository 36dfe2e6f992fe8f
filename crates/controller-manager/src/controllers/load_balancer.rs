//! Gives Services of type LoadBalancer the addresses of the nodes: those that are ready, and with
//! externalTrafficPolicy Local those that have an endpoint. Each port of the nodes goes to one Service.

use k8s_openapi::api::core::v1::{Node, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kybern_client::store::{Delta, Item};
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Note, Plan, patch_status, reference};
use kybern_reconcile::view::{View, World, decode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// The class of Services that are served here, besides those without one.
const CLASS: &str = "kybern.io/node";
/// On nodes that load balancers shall not use.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "service-controller",
        watches: vec![
            Watch::mapped::<Service>(rivals),
            Watch::mapped::<Node>(balanced),
            Watch::mapped::<EndpointSlice>(of_slice),
        ],
        writes: vec![Access::sub::<Service>("status", &["patch", "update"])],
        seeds: Vec::new(),
        // One at a time: each looks at what the others hold.
        workers: 1,
        plan: Arc::new(plan),
    }
}

/// A Service concerns itself and all that may wait for its ports.
fn rivals(delta: &Delta, view: &View) -> Vec<Key> {
    let ours = |i: &Item| decode::<Service>(i).is_ok_and(|s| is_ours(&s));
    if ![&delta.old, &delta.new].into_iter().flatten().any(ours) {
        return Vec::new();
    }
    let mut keys: Vec<Key> = delta.latest().map(Key::of).into_iter().collect();
    keys.extend(served(view));
    keys
}

/// A node concerns every load balancer, if what they see of it has changed.
fn balanced(delta: &Delta, view: &View) -> Vec<Key> {
    let shown = |i: &Option<Item>| i.as_ref().and_then(|i| decode::<Node>(i).ok()).and_then(|n| addresses_of(&n));
    if shown(&delta.old) == shown(&delta.new) { Vec::new() } else { served(view) }
}

fn of_slice(delta: &Delta, view: &View) -> Vec<Key> {
    let Some(item) = delta.latest() else { return Vec::new() };
    let head = &item.object.head;
    let Some(name) = head.label("kubernetes.io/service-name") else { return Vec::new() };
    let service = view.get::<Service>(&head.namespace, name).and_then(|i| decode::<Service>(i).ok());
    let concerned = service.is_some_and(|s| is_ours(&s) && is_local(&s));
    if concerned { vec![Key::new(head.namespace.clone(), name)] } else { Vec::new() }
}

fn served(view: &View) -> Vec<Key> {
    let ours = |i: &&Item| decode::<Service>(i).is_ok_and(|s| is_ours(&s));
    view.of::<Service>().iter().filter(ours).map(Key::of).collect()
}

fn spec(service: &Service) -> Option<&ServiceSpec> {
    service.spec.as_ref()
}

fn is_ours(service: &Service) -> bool {
    let asks = |s: &ServiceSpec| {
        s.type_.as_deref() == Some("LoadBalancer") && s.load_balancer_class.as_deref().is_none_or(|c| c == CLASS)
    };
    service.metadata.deletion_timestamp.is_none() && spec(service).is_some_and(asks)
}

fn is_local(service: &Service) -> bool {
    spec(service).is_some_and(|s| s.external_traffic_policy.as_deref() == Some("Local"))
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(item) = world.view.get::<Service>(&key.namespace, &key.name) else { return Ok(plan) };
    let service: Service = decode(item)?;
    if !is_ours(&service) {
        return Ok(plan);
    }
    let say = |plan: &mut Plan, warning: bool, reason: &str, message: String| {
        let about = reference::<Service>(&item.object);
        plan.note(Note { about, warning, reason: reason.into(), message });
    };
    let holder = holder(world.view, item, &service)?;
    let wanted = match &holder {
        None => addresses(world.view, key, &service)?,
        Some(_) => Vec::new(),
    };
    if let Some((port, rival)) = holder {
        let text = format!("Error syncing load balancer: port {port} of the nodes belongs to Service {rival}");
        say(&mut plan, true, "SyncLoadBalancerFailed", text);
    }
    if ingress(&service) != wanted {
        let entries: Vec<Value> = wanted.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
        let entries = if entries.is_empty() { Value::Null } else { Value::from(entries) };
        plan.act(patch_status::<Service>(&item.object, json!({"loadBalancer": {"ingress": entries}})));
        if !wanted.is_empty() {
            say(&mut plan, false, "EnsuredLoadBalancer", "Ensured load balancer".to_owned());
        }
    }
    Ok(plan)
}

/// The addresses a Service has.
fn ingress(service: &Service) -> Vec<String> {
    let entries = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()).and_then(|l| l.ingress.as_ref());
    entries.into_iter().flatten().filter_map(|i| i.ip.clone()).collect()
}

fn ports(service: &Service) -> impl Iterator<Item = (i32, &str)> {
    let ports = spec(service).and_then(|s| s.ports.as_ref()).into_iter().flatten();
    ports.map(|p| (p.port, p.protocol.as_deref().unwrap_or("TCP")))
}

/// The Service that has one of these ports already, and which. Who has addresses goes before who has none,
/// then the older one.
fn holder(view: &View, item: &Item, service: &Service) -> Result<Option<(String, String)>, Error> {
    let rank = |i: &Item, s: &Service| {
        let created = s.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (ingress(s).is_empty(), created, i.object.head.key())
    };
    let own = rank(item, service);
    for other in view.of::<Service>().iter().filter(|o| o.object.head.uid != item.object.head.uid) {
        let rival: Service = decode(other)?;
        let shared = ports(&rival).find(|p| ports(service).any(|own| own == *p));
        if let Some((port, protocol)) = shared
            && is_ours(&rival)
            && rank(other, &rival) < own
        {
            return Ok(Some((format!("{port}/{protocol}"), other.object.head.key())));
        }
    }
    Ok(None)
}

/// The addresses of the nodes that serve a Service, in order.
fn addresses(view: &View, key: &Key, service: &Service) -> Result<Vec<String>, Error> {
    let with_endpoints = if is_local(service) { Some(nodes_with_endpoints(view, key)?) } else { None };
    let mut all = BTreeSet::new();
    for item in view.of::<Node>().iter() {
        if with_endpoints.as_ref().is_some_and(|n| !n.contains(item.object.head.name.as_str())) {
            continue;
        }
        all.extend(addresses_of(&decode::<Node>(item)?).unwrap_or_default());
    }
    let families = spec(service).and_then(|s| s.ip_families.clone()).unwrap_or_default();
    let wanted = |ip: &IpAddr| families.is_empty() || families.iter().any(|f| (f == "IPv6") == ip.is_ipv6());
    Ok(all.into_iter().filter(wanted).map(|ip| ip.to_string()).collect())
}

/// The addresses a node offers to load balancers: those outside the cluster if it names any. None: it is
/// not to be used.
fn addresses_of(node: &Node) -> Option<BTreeSet<IpAddr>> {
    let status = node.status.as_ref()?;
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let excluded = node.metadata.labels.as_ref().is_some_and(|l| l.contains_key(EXCLUDED));
    if !ready || excluded || node.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let of = |kind: &str| -> BTreeSet<IpAddr> {
        let all = status.addresses.iter().flatten();
        all.filter(|a| a.type_ == kind).filter_map(|a| a.address.parse().ok()).collect()
    };
    let external = of("ExternalIP");
    Some(if external.is_empty() { of("InternalIP") } else { external })
}

fn nodes_with_endpoints(view: &View, key: &Key) -> Result<BTreeSet<String>, Error> {
    let mut nodes = BTreeSet::new();
    let slices = view.of::<EndpointSlice>().in_namespace(&key.namespace);
    let own = slices.filter(|s| s.object.head.label("kubernetes.io/service-name") == Some(key.name.as_str()));
    for slice in own {
        let slice: EndpointSlice = decode(slice)?;
        let ready = |c: Option<bool>| c.unwrap_or(true);
        let endpoints = slice.endpoints.into_iter().flatten();
        let usable = endpoints.filter(|e| ready(e.conditions.as_ref().and_then(|c| c.ready)));
        nodes.extend(usable.filter_map(|e| e.node_name));
    }
    Ok(nodes)
}
