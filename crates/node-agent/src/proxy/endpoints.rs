//! Which endpoints of a Service's port get its traffic.

use super::view::Port;
use kybern_api::endpoints::{self, Hints, Slice};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

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

/// Where this node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: String,
    /// Its zone; empty where it has none.
    pub(super) zone: String,
}

/// An endpoint that may be used, and who should.
#[derive(Debug)]
struct Candidate<'a> {
    endpoint: Endpoint,
    ready: bool,
    hints: &'a Hints,
}

/// The endpoints of one port that may be used: ready ones, and those that still serve while they terminate.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    place: &'a Place,
    all: Vec<Candidate<'a>>,
}

impl<'a> Candidates<'a> {
    pub(super) fn of(place: &'a Place, slices: impl Iterator<Item = &'a Slice>, port: &Port) -> Self {
        let mut all = Vec::new();
        let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
        for slice in slices.filter(|s| s.address_type == "IPv4") {
            let Some(target) = slice.port(&port.name, protocol) else { continue };
            all.extend(slice.endpoints.iter().filter_map(|e| candidate(place, e, target)));
        }
        Self { place, all }
    }

    /// The endpoints in the whole cluster, or those near this node where all of them say whom they are for.
    pub(super) fn cluster(&self) -> Vec<Endpoint> {
        let near = self.near();
        pick(self.all.iter().filter(|c| !c.ready || near.is_none_or(|near| near(self.place, c.hints))))
    }

    /// The endpoints on this node.
    pub(super) fn local(&self) -> Vec<Endpoint> {
        pick(self.all.iter().filter(|c| c.endpoint.local))
    }

    /// How many pods of this node are ready for the service: what health checks of load balancers ask.
    pub(super) fn ready_here(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.all.iter().filter(|c| c.ready && c.endpoint.local).map(|c| c.endpoint.ip)
    }

    /// Hints count when each ready endpoint has them and at least one is meant for this node or zone.
    fn near(&self) -> Option<Near> {
        let has: [(Given, Near); 2] =
            [(|h| !h.for_nodes.is_empty(), for_node), (|h| !h.for_zones.is_empty(), for_zone)];
        let ready = || self.all.iter().filter(|c| c.ready);
        has.into_iter()
            .find(|(has, near)| ready().all(|c| has(c.hints)) && ready().any(|c| near(self.place, c.hints)))
            .map(|(_, near)| near)
    }
}

/// Are there hints of this sort?
type Given = fn(&Hints) -> bool;
/// Is this node meant by them?
type Near = fn(&Place, &Hints) -> bool;

fn for_node(place: &Place, hints: &Hints) -> bool {
    hints.for_nodes.iter().any(|n| n.name == place.node)
}

fn for_zone(place: &Place, hints: &Hints) -> bool {
    hints.for_zones.iter().any(|z| z.name == place.zone)
}

fn candidate<'a>(place: &Place, e: &'a endpoints::Endpoint, port: u16) -> Option<Candidate<'a>> {
    let Some(IpAddr::V4(ip)) = e.address() else { return None };
    let ready = e.is_ready();
    let endpoint = Endpoint { ip, port, local: e.node_name == place.node };
    (ready || e.serves_to_its_end()).then_some(Candidate { endpoint, ready, hints: &e.hints })
}

/// Ready endpoints; where there is none, those that still serve while they terminate.
fn pick<'a>(candidates: impl Iterator<Item = &'a Candidate<'a>>) -> Vec<Endpoint> {
    let (mut ready, mut serving) = (BTreeSet::new(), BTreeSet::new());
    for c in candidates {
        if c.ready {
            ready.insert(c.endpoint)
        } else {
            serving.insert(c.endpoint)
        };
    }
    if ready.is_empty() { serving } else { ready }.into_iter().collect()
}
