//! A Service's EndpointSlices: at most 100 endpoints each, changed as little as possible.

use super::backend::{Backend, Port, backends};
use super::{is_ours, publishes_not_ready, service_labels};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kybern_client::store::Item;
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::def::Key;
use kybern_reconcile::plan::{Action, Plan, change, controller_reference, create, delete};
use kybern_reconcile::view::{View, World, decode};
use std::collections::BTreeMap;

pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Endpoints per slice.
const CAPACITY: usize = 100;

/// What the endpoints of a slice share: family (true: IPv6) and ports.
pub(super) type Group = (bool, Vec<Port>);

/// A slice there is and the endpoints it will hold.
pub(super) struct Kept<'a> {
    pub(super) item: &'a Item,
    slice: EndpointSlice,
    endpoints: Vec<Endpoint>,
}

impl<'a> Kept<'a> {
    /// A slice by what its endpoints share.
    pub(super) fn read(item: &'a Item) -> Result<(Group, Self), Error> {
        let slice: EndpointSlice = decode(item)?;
        Ok((group_of(&slice), Self { item, slice, endpoints: Vec::new() }))
    }
}

pub(super) fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let Some(item) = world.view.get::<Service>(&key.namespace, &key.name) else { return Ok(Plan::none()) };
    let service: Service = decode(item)?;
    if !is_ours(&service, &key.namespace) {
        return Ok(Plan::none());
    }
    let mut present: BTreeMap<Group, Vec<Kept<'_>>> = BTreeMap::new();
    for slice in slices_of(world.view, item) {
        let (group, kept) = Kept::read(slice)?;
        present.entry(group).or_default().push(kept);
    }
    let mut wanted = wanted(world.view, item, &service)?;
    // A Service without endpoints keeps one empty slice, so that readers can tell "none" from "unknown".
    if wanted.is_empty() {
        let group = present.keys().next().cloned().unwrap_or_else(|| (families(&service)[0], Vec::new()));
        wanted.insert(group, Vec::new());
    }
    let mut plan = Plan::none();
    let writer = SliceWriter::new(item, controller_reference::<Service>(&item.object), labels(&service));
    for (group, endpoints) in wanted {
        let slices = present.remove(&group).unwrap_or_default();
        plan.extend(writer.fit(&group, endpoints, slices)?);
    }
    present.into_values().flatten().for_each(|kept| plan.act(remove(kept.item)));
    Ok(plan)
}

/// The slices this controller keeps for the Service.
fn slices_of<'a>(view: &'a View, service: &'a Item) -> impl Iterator<Item = &'a Item> {
    let owned = view.of::<EndpointSlice>().owned(&service.object.head.uid);
    owned.filter(|s| s.object.head.label(MANAGED_BY) == Some(MANAGER) && s.object.head.deleting.is_none())
}

/// Writes the slices of one owner.
pub(super) struct SliceWriter<'a> {
    item: &'a Item,
    owner: OwnerReference,
    labels: BTreeMap<String, String>,
    /// None: whatever annotations a slice has are left alone.
    annotations: Option<BTreeMap<String, String>>,
}

impl<'a> SliceWriter<'a> {
    pub(super) fn new(item: &'a Item, owner: OwnerReference, labels: BTreeMap<String, String>) -> Self {
        Self { item, owner, labels, annotations: None }
    }
    /// The same with these annotations on every slice.
    pub(super) fn annotated(self, annotations: BTreeMap<String, String>) -> Self {
        Self { annotations: Some(annotations), ..self }
    }

    /// Fits endpoints of one group into the slices there are, then into new ones. Endpoints stay
    /// where they are; new ones fill slices that change anyway, then the emptiest.
    pub(super) fn fit(
        &self,
        group: &Group,
        endpoints: Vec<Endpoint>,
        mut slices: Vec<Kept<'_>>,
    ) -> Result<Plan, Error> {
        let mut left: BTreeMap<String, Endpoint> = endpoints.into_iter().map(|e| (identity(&e), e)).collect();
        for kept in &mut slices {
            kept.endpoints = kept.slice.endpoints.iter().flatten().filter_map(|e| left.remove(&identity(e))).collect();
        }
        slices.sort_by_key(|k| (k.slice.endpoints.as_ref() == Some(&k.endpoints), k.endpoints.len()));
        for kept in &mut slices {
            let room = CAPACITY.saturating_sub(kept.endpoints.len());
            kept.endpoints.extend(std::iter::from_fn(|| left.pop_first()).take(room).map(|(_, e)| e));
        }
        let mut plan = Plan::none();
        let rest: Vec<Endpoint> = left.into_values().collect();
        if slices.is_empty() && rest.is_empty() {
            plan.act(create(&self.slice(group, &[]), None)?);
        }
        for chunk in rest.chunks(CAPACITY) {
            plan.act(create(&self.slice(group, chunk), None)?);
        }
        let some_filled = !rest.is_empty() || slices.iter().any(|k| !k.endpoints.is_empty());
        for (i, kept) in slices.into_iter().enumerate() {
            // An emptied slice goes, unless it is the last one.
            let superfluous = kept.endpoints.is_empty() && (some_filled || i > 0);
            plan.act(if superfluous { Some(remove(kept.item)) } else { self.update(kept)? });
        }
        Ok(plan)
    }

    fn update(&self, mut kept: Kept<'_>) -> Result<Option<Action>, Error> {
        // An absent list of endpoints and an empty one are the same.
        kept.slice.endpoints.get_or_insert_default();
        let mut updated = kept.slice.clone();
        updated.endpoints = Some(kept.endpoints);
        updated.metadata.labels = Some(self.labels.clone());
        if let Some(annotations) = &self.annotations {
            updated.metadata.annotations = (!annotations.is_empty()).then(|| annotations.clone());
        }
        change(&kept.slice, &updated, "")
    }

    fn slice(&self, group: &Group, endpoints: &[Endpoint]) -> EndpointSlice {
        EndpointSlice {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", self.item.object.head.name)),
                namespace: Some(self.item.object.head.namespace.to_string()),
                labels: Some(self.labels.clone()),
                annotations: self.annotations.clone().filter(|a| !a.is_empty()),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            address_type: if group.0 { "IPv6" } else { "IPv4" }.into(),
            endpoints: Some(endpoints.to_vec()),
            ports: (!group.1.is_empty()).then(|| group.1.iter().map(port).collect()),
        }
    }
}

pub(super) fn remove(slice: &Item) -> Action {
    delete(&typed::resource::<EndpointSlice>(), &slice.object, None)
}

/// The endpoints the Service should have, by family and ports.
fn wanted(view: &View, item: &Item, service: &Service) -> Result<BTreeMap<Group, Vec<Endpoint>>, Error> {
    let publish_not_ready = publishes_not_ready(service);
    let mut wanted: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    for backend in backends(view, item, service)? {
        let zone = backend.node.as_deref().and_then(|node| zone_of(view, node));
        for v6 in families(service) {
            let Some(address) = backend.address(v6) else { continue };
            let mut endpoint = endpoint(&backend, address, publish_not_ready, zone.clone());
            endpoint.hints = hints(service, &endpoint);
            wanted.entry((v6, backend.ports.clone())).or_default().push(endpoint);
        }
    }
    Ok(wanted)
}

fn endpoint(backend: &Backend, address: &str, publish_not_ready: bool, zone: Option<String>) -> Endpoint {
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready(publish_not_ready)),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        target_ref: Some(backend.target.clone()),
        zone,
        ..Endpoint::default()
    }
}

/// Whom an endpoint is for, where the Service asks that traffic stays near. Only those that get traffic say so.
fn hints(service: &Service, endpoint: &Endpoint) -> Option<EndpointHints> {
    let wanted = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    if endpoint.conditions.as_ref().and_then(|c| c.ready) != Some(true) {
        return None;
    }
    let zones = || endpoint.zone.clone().map(|name| vec![ForZone { name }]);
    let nodes = || endpoint.node_name.clone().map(|name| vec![ForNode { name }]);
    let hints = match wanted {
        "PreferClose" | "PreferSameZone" => EndpointHints { for_zones: zones(), for_nodes: None },
        "PreferSameNode" => EndpointHints { for_zones: zones(), for_nodes: nodes() },
        _ => return None,
    };
    (hints != EndpointHints::default()).then_some(hints)
}

fn zone_of(view: &View, node: &str) -> Option<String> {
    view.get::<Node>("", node)?.object.head.label(ZONE).map(str::to_owned)
}

/// What makes two endpoints the same one: the pod and its address.
fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref().and_then(|t| t.uid.as_deref()).unwrap_or_default();
    format!("{}|{target}", endpoint.addresses.join(","))
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.number),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

fn group_of(slice: &EndpointSlice) -> Group {
    let port = |p: &EndpointPort| Port {
        name: p.name.clone().unwrap_or_default(),
        protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()),
        number: p.port.unwrap_or(0),
        app_protocol: p.app_protocol.clone(),
    };
    let mut ports: Vec<Port> = slice.ports.iter().flatten().map(port).collect();
    ports.sort();
    (slice.address_type == "IPv6", ports)
}

/// The Service's address families; true: IPv6.
fn families(service: &Service) -> Vec<bool> {
    let families = service.spec.as_ref().and_then(|s| s.ip_families.clone()).filter(|f| !f.is_empty());
    families.map_or_else(|| vec![false], |f| f.iter().map(|f| f == "IPv6").collect())
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service_labels(service);
    labels.insert(SERVICE_NAME.into(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}
