//! EndpointSlices for Endpoints that people (or older programs) keep by hand, for Services without a
//! selector.

use super::backend::Port;
use super::slices::{Group, Kept, MANAGED_BY, SERVICE_NAME, SliceWriter, remove};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};
use kybern_client::store::Item;
use kybern_reconcile::Error;
use kybern_reconcile::def::Key;
use kybern_reconcile::plan::{Note, Plan, controller_reference, reference};
use kybern_reconcile::view::{View, World, decode};
use std::collections::BTreeMap;
use std::net::IpAddr;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// On Endpoints whose slices somebody else keeps.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// On Endpoints that are no endpoints but a lock.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that are about the Endpoints object alone.
const OWN: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// Addresses of one subset that are mirrored.
const CAPACITY: usize = 1000;

pub(super) fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut present: BTreeMap<Group, Vec<Kept<'_>>> = BTreeMap::new();
    for slice in mirrored(world.view, key) {
        let (group, kept) = Kept::read(slice)?;
        present.entry(group).or_default().push(kept);
    }
    let mut plan = Plan::none();
    if let Some((item, endpoints)) = source(world.view, key)? {
        let mirror = Mirror::of(&endpoints);
        let owner = controller_reference::<Endpoints>(&item.object);
        let writer = SliceWriter::new(item, owner, labels(&endpoints)).annotated(annotations(&endpoints));
        for (group, endpoints) in mirror.groups {
            let slices = present.remove(&group).unwrap_or_default();
            plan.extend(writer.fit(&group, endpoints, slices)?);
        }
        present.into_values().flatten().for_each(|kept| plan.act(remove(kept.item)));
        // Events tell of changes; what stays as it is has been told of.
        if !plan.is_empty() {
            tell(&mut plan, item, (mirror.invalid, mirror.skipped));
        }
    } else {
        present.into_values().flatten().for_each(|kept| plan.act(remove(kept.item)));
    }
    Ok(plan)
}

fn tell(plan: &mut Plan, item: &Item, (invalid, skipped): (usize, usize)) {
    let mut warn = |reason: &str, message: String| {
        let about = reference::<Endpoints>(&item.object);
        plan.note(Note { about, warning: true, reason: reason.into(), message });
    };
    if invalid > 0 {
        let text = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
        warn("InvalidIPAddress", text);
    }
    if skipped > 0 {
        let text = format!(
            "A max of {CAPACITY} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} addresses were skipped"
        );
        warn("TooManyAddressesToMirror", text);
    }
}

/// The slices this controller keeps for the Endpoints of this name.
fn mirrored<'a>(view: &'a View, key: &'a Key) -> impl Iterator<Item = &'a Item> {
    let all = view.of::<EndpointSlice>().in_namespace(&key.namespace);
    all.filter(|i| {
        let head = &i.object.head;
        head.label(MANAGED_BY) == Some(MANAGER)
            && head.label(SERVICE_NAME) == Some(key.name.as_str())
            && head.deleting.is_none()
    })
}

/// The Endpoints, if they are to be mirrored: those of a Service without a selector.
fn source<'a>(view: &'a View, key: &Key) -> Result<Option<(&'a Item, Endpoints)>, Error> {
    let found = view.get::<Endpoints>(&key.namespace, &key.name);
    let Some(item) = found.filter(|i| i.object.head.deleting.is_none() && i.object.head.label(SKIP) != Some("true"))
    else {
        return Ok(None);
    };
    let Some(service) = view.find::<Service>(&key.namespace, &key.name)? else { return Ok(None) };
    if service.metadata.deletion_timestamp.is_some() || service.spec.is_some_and(|s| s.selector.is_some()) {
        return Ok(None);
    }
    let endpoints: Endpoints = decode(item)?;
    let is_lock = endpoints.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(LEADER));
    Ok((!is_lock).then_some((item, endpoints)))
}

fn labels(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), endpoints.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

fn annotations(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !OWN.contains(&name.as_str()));
    annotations
}

/// What is mirrored.
#[derive(Default)]
struct Mirror {
    groups: BTreeMap<Group, Vec<Endpoint>>,
    invalid: usize,
    skipped: usize,
}

impl Mirror {
    fn of(endpoints: &Endpoints) -> Self {
        let mut mirror = Self::default();
        endpoints.subsets.iter().flatten().for_each(|subset| mirror.add(subset));
        mirror
    }
    fn add(&mut self, subset: &EndpointSubset) {
        let mut ports: Vec<Port> = subset.ports.iter().flatten().map(port).collect();
        ports.sort();
        let mut room = CAPACITY;
        for (addresses, ready) in [(&subset.addresses, true), (&subset.not_ready_addresses, false)] {
            for address in addresses.iter().flatten() {
                let Ok(ip) = address.ip.parse::<IpAddr>() else {
                    self.invalid += 1;
                    continue;
                };
                if room == 0 {
                    self.skipped += 1;
                    continue;
                }
                room -= 1;
                let group = (ip.is_ipv6(), ports.clone());
                self.groups.entry(group).or_default().push(endpoint(address, ready));
            }
        }
    }
}

fn port(port: &EndpointPort) -> Port {
    Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
        number: port.port,
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}
