//! The overlay between nodes: one VXLAN device, its entries programmed from the Nodes (nothing is learned,
//! nothing is flooded). Nodes on one link may use plain routes instead (`host-gw`).

use crate::net::link::{Links, Vxlan};
use ipnet::Ipv4Net;
use kybern_api::object::Object;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// The overlay's device.
pub const DEVICE: &str = "kybern.vx";
/// Network identifier and port that all nodes share.
const VNI: u32 = 1;
const PORT: u16 = 8472;
/// Bytes that the outer headers take (IPv4, UDP, VXLAN, Ethernet).
const OVERHEAD: u32 = 50;

/// How pod traffic travels between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Wrapped in UDP: works across any network.
    #[default]
    Vxlan,
    /// Plain routes: nodes must share a link.
    HostGw,
}

/// Another node, as the overlay needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its pods' addresses.
    pub pods: Ipv4Net,
    /// Its own address.
    pub address: Ipv4Addr,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    addresses: Vec<NodeAddress>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

impl Peer {
    /// Reads a Node; None while it has no pod network or address.
    pub fn of(node: &Object) -> Option<Self> {
        let view: Node = node.view().ok()?;
        let address = view.status.addresses.iter().find(|a| a.kind == "InternalIP")?.address.parse().ok()?;
        Some(Self { pods: view.spec.pod_cidr.parse().ok()?, address })
    }

    /// The hardware address of its overlay device, made of its address: nothing has to be announced.
    fn mac(&self) -> [u8; 6] {
        let [a, b, c, d] = self.address.octets();
        [0x02, 0x6b, a, b, c, d]
    }

    /// The overlay device's own address: the network address of its pods.
    fn overlay_address(&self) -> Ipv4Addr {
        self.pods.network()
    }
}

/// The overlay of one node.
#[derive(Debug)]
pub struct Overlay {
    links: Links,
    backend: Backend,
    own: Peer,
    device: String,
    peers: BTreeMap<String, Peer>,
}

impl Overlay {
    /// Makes the device of the node `own`.
    ///
    /// # Errors
    /// When no link has the node's address, or on a netlink failure.
    pub async fn start(own: Peer, backend: Backend) -> io::Result<Self> {
        let links = Links::open()?;
        let under = links.with_address(IpAddr::V4(own.address)).await?;
        let device = match backend {
            Backend::HostGw => {
                links.delete(DEVICE).await?;
                under.name
            }
            Backend::Vxlan => {
                let mtu = under.mtu.saturating_sub(OVERHEAD);
                // A device of an earlier address or parent is of no use.
                links.delete(DEVICE).await?;
                let wanted = Vxlan {
                    name: DEVICE.into(),
                    vni: VNI,
                    port: PORT,
                    local: own.address,
                    device: under.index,
                    mac: own.mac(),
                    mtu,
                };
                links.add_vxlan(&wanted).await?;
                links.add_address(DEVICE, IpAddr::V4(own.overlay_address()), 32).await?;
                DEVICE.into()
            }
        };
        Ok(Self { links, backend, own, device, peers: BTreeMap::new() })
    }

    /// MTU for pods' links in bytes, on a link with this MTU.
    pub fn pod_mtu(under: u32, backend: Backend) -> u32 {
        if backend == Backend::Vxlan { under.saturating_sub(OVERHEAD) } else { under }
    }

    /// Takes in a node: where it is now, or that it is gone. Overlapping pod networks are refused.
    ///
    /// # Errors
    /// `InvalidInput` for an overlap (the node stays unreachable), or a netlink failure.
    pub async fn set(&mut self, name: &str, peer: Option<Peer>) -> io::Result<()> {
        if self.peers.get(name).copied() == peer {
            return Ok(());
        }
        if let Some(old) = self.peers.remove(name) {
            self.links.delete_route(old.pods, &self.device).await?;
            if self.backend == Backend::Vxlan {
                self.links.delete_neighbours(&self.device, old.mac()).await?;
            }
        }
        let Some(new) = peer else { return Ok(()) };
        let others = self.peers.values().chain([&self.own]);
        if let Some(other) = others.into_iter().find(|o| o.pods.contains(&new.pods) || new.pods.contains(&o.pods)) {
            let text = format!("pod network {} of node {name} overlaps {} of {}", new.pods, other.pods, other.address);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        match self.backend {
            Backend::HostGw => self.links.add_route(new.pods, Some(new.address), &self.device, true).await?,
            Backend::Vxlan => {
                let inner = new.overlay_address();
                self.links.add_neighbour(&self.device, IpAddr::V4(inner), new.mac()).await?;
                self.links.add_forward(&self.device, new.mac(), IpAddr::V4(new.address)).await?;
                self.links.add_route(new.pods, Some(inner), &self.device, true).await?;
            }
        }
        self.peers.insert(name.to_owned(), new);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::netns;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::path::PathBuf;
    use std::time::Duration;

    fn peer(i: u8) -> Peer {
        Peer { pods: Ipv4Net::new([10, 42, i, 0].into(), 24).unwrap(), address: [10, 89, 240, i].into() }
    }

    /// Two namespaces joined by a veth pair play two nodes; each has an address of its pod network on lo.
    fn two_nodes(tag: &str) -> [String; 2] {
        let names = [1, 2].map(|i| format!("kybern-v{tag}{i}-{}", std::process::id()));
        for n in &names {
            netns::create(n).unwrap();
        }
        let other: PathBuf = netns::path(&names[1]);
        netns::run_in_async(&netns::path(&names[0]), move || async move {
            let links = Links::open()?;
            links.add_veth("eth0", "peer0", 1500).await?;
            links.move_to("peer0", &other).await
        })
        .unwrap();
        for (i, n) in names.iter().enumerate() {
            let me = peer(i as u8 + 1);
            netns::run_in_async(&netns::path(n), move || async move {
                let links = Links::open()?;
                if links.find("eth0").await?.is_none() {
                    links.rename("peer0", "eth0").await?;
                }
                links.set_up("lo").await?;
                links.set_up("eth0").await?;
                links.add_address("eth0", IpAddr::V4(me.address), 24).await?;
                links.add_address("lo", IpAddr::V4(me.pods.hosts().next().unwrap()), 32).await
            })
            .unwrap();
        }
        names
    }

    fn connects(from: &str, to: SocketAddr) -> bool {
        netns::run_in(&netns::path(from), move || {
            Ok(TcpStream::connect_timeout(&to, Duration::from_millis(600)).is_ok())
        })
        .unwrap()
    }

    fn pods_reach_each_other(tag: &str, backend: Backend) {
        let names = two_nodes(tag);
        let target = SocketAddr::from((peer(2).pods.hosts().next().unwrap(), 7070));
        let listener = netns::run_in(&netns::path(&names[1]), move || TcpListener::bind(target)).unwrap();
        let before = connects(&names[0], target);
        for (i, n) in names.iter().enumerate() {
            let (me, they) = (peer(i as u8 + 1), peer(2 - i as u8));
            netns::run_in_async(&netns::path(n), move || async move {
                let mut o = Overlay::start(me, backend).await?;
                o.set("other", Some(they)).await?;
                o.set("other", Some(they)).await?;
                assert!(o.set("clash", Some(they)).await.is_err());
                Ok(())
            })
            .unwrap();
        }
        let during = connects(&names[0], target);
        let gone = netns::run_in_async(&netns::path(&names[0]), move || async move {
            let mut o =
                Overlay { links: Links::open()?, backend, own: peer(1), device: String::new(), peers: BTreeMap::new() };
            o.device = if backend == Backend::Vxlan { DEVICE.into() } else { "eth0".into() };
            o.peers.insert("other".into(), peer(2));
            o.set("other", None).await
        });
        let after = connects(&names[0], target);
        drop(listener);
        for n in &names {
            netns::delete(n).unwrap();
        }
        gone.unwrap();
        assert_eq!((before, during, after), (false, true, false));
    }

    #[test]
    fn pods_reach_each_other_through_vxlan() {
        pods_reach_each_other("x", Backend::Vxlan);
    }

    #[test]
    fn pods_reach_each_other_through_plain_routes() {
        pods_reach_each_other("g", Backend::HostGw);
    }
}
