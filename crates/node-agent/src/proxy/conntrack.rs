//! Connections that the kernel remembers. A UDP client that goes on sending keeps its old endpoint for ever,
//! also when that is gone, or when there was none at first: such entries are removed.

use super::model::{Frontend, ServicePort};
use super::rules::Change;
use crate::net::netfilter::{ACK, DONE, DUMP, ERROR, NESTED, REQUEST, Socket, acknowledged, attribute, find, messages};
use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;

/// Netlink subsystem of connection tracking, and its messages.
const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
/// Attributes of an entry, of a tuple and of its parts.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const UDP: u8 = 17;

/// Where the entries of a port may lead.
#[derive(Debug)]
struct Port {
    addresses: BTreeSet<(Ipv4Addr, u16)>,
    node_ports: BTreeSet<u16>,
    endpoints: BTreeSet<(Ipv4Addr, u16)>,
}

/// Source or destination by address and port.
type End = (Ipv4Addr, u16);

/// A remembered UDP connection.
#[derive(Debug, PartialEq, Eq)]
struct Flow<'a> {
    /// Where the client sent to.
    to: End,
    /// Who answers.
    from: End,
    /// The attributes that name it.
    original: &'a [u8],
    id: &'a [u8],
}

/// Removes entries that lead where they no longer should. A failure is logged: the rules are in force, and
/// old entries end when their clients pause.
pub(super) async fn forget(changes: &[Change]) {
    let ports: Vec<Port> = changes.iter().filter_map(stale).collect();
    if ports.is_empty() {
        return;
    }
    let outcome = tokio::task::spawn_blocking(move || clean(&ports)).await.map_err(io::Error::other);
    if let Err(e) = outcome.and_then(|o| o) {
        tracing::warn!("old UDP connections may keep endpoints that are gone: {e}");
    }
}

/// The port whose entries are looked at, if the change is one of where UDP goes.
fn stale(change: &Change) -> Option<Port> {
    let both = || change.old.iter().chain(&change.new);
    let targets = |p: &ServicePort| p.cluster.iter().chain(&p.local).map(|e| (e.ip, e.port)).collect::<BTreeSet<End>>();
    let (before, after) = (change.old.as_ref().map(targets), change.new.as_ref().map(targets));
    if before == after || both().all(|p| p.protocol != "udp") {
        return None;
    }
    let mut port =
        Port { addresses: BTreeSet::new(), node_ports: BTreeSet::new(), endpoints: after.unwrap_or_default() };
    for frontend in both().flat_map(|p| &p.frontends) {
        match *frontend {
            Frontend::Cluster(a, p) | Frontend::External(a, p) | Frontend::Balancer(a, p) => {
                port.addresses.insert((a, p));
            }
            Frontend::Node(p) | Frontend::Host(p) => {
                port.node_ports.insert(p);
            }
        }
    }
    Some(port)
}

impl Port {
    fn leads_astray(&self, flow: &Flow<'_>) -> bool {
        let ours = self.addresses.contains(&flow.to) || self.node_ports.contains(&flow.to.1);
        ours && !self.endpoints.contains(&flow.from)
    }
}

fn clean(ports: &[Port]) -> io::Result<()> {
    let (list, delete) = (Socket::open()?, Socket::open()?);
    list.send(GET, REQUEST | DUMP, &[])?;
    receive(&list, |entry| {
        let Some(flow) = flow(entry).filter(|f| ports.iter().any(|p| p.leads_astray(f))) else { return Ok(()) };
        let mut named = attribute(ORIGINAL | NESTED, flow.original);
        named.extend(attribute(ID, flow.id));
        delete.send(DELETE, REQUEST | ACK, &named)?;
        match receive(&delete, |_| Ok(())) {
            // It ended by itself meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    })
}

/// Hands each message's attributes out, until the kernel says that it is done.
fn receive(socket: &Socket, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        for message in messages(socket.receive(&mut buffer)?) {
            match message.kind {
                DONE => return Ok(()),
                ERROR => return acknowledged(message.body),
                _ => each(message.attributes())?,
            }
        }
    }
}

/// An entry, if it is one of UDP.
fn flow(entry: &[u8]) -> Option<Flow<'_>> {
    let (original, reply) = (find(entry, ORIGINAL)?, find(entry, REPLY)?);
    let protocol = *find(find(original, TUPLE_PROTOCOL)?, 1)?.first()?;
    let (to, from) = (end(original, 2, 3)?, end(reply, 1, 2)?);
    (protocol == UDP).then_some(Flow { to, from, original, id: find(entry, ID)? })
}

/// An end of a tuple, by the types of its address and port.
fn end(tuple: &[u8], address: u16, port: u16) -> Option<End> {
    let ip: [u8; 4] = *find(find(tuple, TUPLE_IP)?, address)?.first_chunk()?;
    let port = u16::from_be_bytes(*find(find(tuple, TUPLE_PROTOCOL)?, port)?.first_chunk()?);
    Some((ip.into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(from: End, to: End) -> Vec<u8> {
        let mut ip = attribute(1, &from.0.octets());
        ip.extend(attribute(2, &to.0.octets()));
        let mut protocol = attribute(1, &[UDP]);
        protocol.extend(attribute(2, &from.1.to_be_bytes()));
        protocol.extend(attribute(3, &to.1.to_be_bytes()));
        let mut out = attribute(TUPLE_IP | NESTED, &ip);
        out.extend(attribute(TUPLE_PROTOCOL | NESTED, &protocol));
        out
    }

    const CLIENT: End = (Ipv4Addr::new(10, 42, 0, 9), 4000);
    const SERVICE: End = (Ipv4Addr::new(10, 43, 0, 7), 53);
    const POD: End = (Ipv4Addr::new(10, 42, 1, 2), 5353);

    #[test]
    fn an_entry_astray_is_one_of_the_port_that_no_endpoint_answers() {
        let mut entry = attribute(ORIGINAL | NESTED, &tuple(CLIENT, SERVICE));
        entry.extend(attribute(REPLY | NESTED, &tuple(POD, CLIENT)));
        entry.extend(attribute(ID, &[0, 0, 0, 7]));
        let found = flow(&entry).unwrap();
        assert_eq!((found.to, found.from, found.id), (SERVICE, POD, &[0, 0, 0, 7][..]));
        let port = |endpoints: &[End]| Port {
            addresses: [SERVICE].into(),
            node_ports: BTreeSet::new(),
            endpoints: endpoints.iter().copied().collect(),
        };
        assert!(port(&[]).leads_astray(&found) && !port(&[POD]).leads_astray(&found));
        assert_eq!(flow(&entry[..entry.len() - 8]), None, "cut short");
    }
}
