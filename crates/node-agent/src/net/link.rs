//! Links, addresses, routes, forwarding entries by rtnetlink. Each call is idempotent: what is there
//! already (or is gone already) is fine.

use futures::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourState};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;

/// A netlink connection to the network namespace in which it was opened.
#[derive(Debug, Clone)]
pub struct Links {
    handle: Handle,
}

/// A link as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Hardware address.
    pub mac: [u8; 6],
    /// MTU in bytes.
    pub mtu: u32,
}

/// What a VXLAN device needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// Device name.
    pub name: String,
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Our address on the underlying link.
    pub local: Ipv4Addr,
    /// The underlying link's index.
    pub device: u32,
    /// Hardware address to use.
    pub mac: [u8; 6],
    /// MTU in bytes.
    pub mtu: u32,
}

fn ok_if(result: Result<(), rtnetlink::Error>, fine: &[i32]) -> io::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(rtnetlink::Error::NetlinkError(e)) if fine.contains(&e.raw_code().abs()) => Ok(()),
        Err(e) => Err(to_io(e)),
    }
}

fn to_io(e: rtnetlink::Error) -> io::Error {
    match e {
        rtnetlink::Error::NetlinkError(m) => m.to_io(),
        other => io::Error::other(other),
    }
}

impl Links {
    /// Opens a connection in the calling thread's network namespace; must run inside a tokio runtime.
    ///
    /// # Errors
    /// When the socket can't be opened.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// A link by name.
    ///
    /// # Errors
    /// On a netlink failure; an absent link is `Ok(None)`.
    pub async fn find(&self, name: &str) -> io::Result<Option<Link>> {
        match self.handle.link().get().match_name(name).execute().try_next().await {
            Ok(found) => Ok(found.map(|m| describe(&m))),
            Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code().abs() == ENODEV => Ok(None),
            Err(e) => Err(to_io(e)),
        }
    }

    /// A link by name that must be there.
    ///
    /// # Errors
    /// `NotFound` with the name, or a netlink failure.
    pub async fn get(&self, name: &str) -> io::Result<Link> {
        self.find(name).await?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no link named {name}")))
    }

    /// All links.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn list(&self) -> io::Result<Vec<Link>> {
        let all: Vec<LinkMessage> = self.handle.link().get().execute().try_collect().await.map_err(to_io)?;
        Ok(all.iter().map(describe).collect())
    }

    /// The link that carries an address.
    ///
    /// # Errors
    /// `NotFound` when no link does, or a netlink failure.
    pub async fn with_address(&self, address: IpAddr) -> io::Result<Link> {
        let mut found = self.handle.address().get().set_address_filter(address).execute();
        let Some(message) = found.try_next().await.map_err(to_io)? else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no link has the address {address}")));
        };
        let mut links = self.handle.link().get().match_index(message.header.index).execute();
        let link = links.try_next().await.map_err(to_io)?;
        link.map(|m| describe(&m)).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the link is gone"))
    }

    /// Makes a bridge and sets it up.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn add_bridge(&self, name: &str) -> io::Result<Link> {
        ok_if(self.handle.link().add(LinkBridge::new(name).up().build()).execute().await, &[EEXIST])?;
        self.set_up(name).await?;
        self.get(name).await
    }

    /// Makes a veth pair; both ends are down and in this namespace.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn add_veth(&self, name: &str, peer: &str, mtu: u32) -> io::Result<()> {
        ok_if(self.handle.link().add(LinkVeth::new(name, peer).mtu(mtu).build()).execute().await, &[EEXIST])
    }

    /// Makes a VXLAN device without learning, and sets it up.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn add_vxlan(&self, v: &Vxlan) -> io::Result<Link> {
        let message = LinkVxlan::new(&v.name, v.vni)
            .dev(v.device)
            .port(v.port)
            .local(v.local)
            .learning(false)
            .mtu(v.mtu)
            .address(v.mac.to_vec())
            .up()
            .build();
        ok_if(self.handle.link().add(message).execute().await, &[EEXIST])?;
        self.set_up(&v.name).await?;
        self.get(&v.name).await
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn set_up(&self, name: &str) -> io::Result<()> {
        self.change(name, |b| b.up()).await
    }

    /// Puts a link under a bridge.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn set_master(&self, name: &str, bridge: &str) -> io::Result<()> {
        let index = self.get(bridge).await?.index;
        self.change(name, |b| b.controller(index)).await
    }

    /// Takes a link off its bridge; frames through it go nowhere.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn clear_master(&self, name: &str) -> io::Result<()> {
        self.change(name, |b| b.nocontroller()).await
    }

    /// Lets a bridge port send frames back where they came from, so that a pod reaches itself through a
    /// Service.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn set_hairpin(&self, name: &str) -> io::Result<()> {
        let index = self.get(name).await?.index;
        let message = LinkBridgePort::new(index).hairpin(true).build();
        self.handle.link().set_port(message).execute().await.map_err(to_io)
    }

    /// Renames a link (which must be down).
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn rename(&self, name: &str, to: &str) -> io::Result<()> {
        self.change(name, |b| b.name(to)).await
    }

    /// Moves a link into another network namespace.
    ///
    /// # Errors
    /// When the namespace can't be opened, or on a netlink failure.
    pub async fn move_to(&self, name: &str, netns: &Path) -> io::Result<()> {
        let file = std::fs::File::open(netns)?;
        self.change(name, |b| b.setns_by_fd(file.as_raw_fd())).await
    }

    /// Deletes a link by name; absent is fine.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn delete(&self, name: &str) -> io::Result<()> {
        match self.find(name).await? {
            Some(l) => ok_if(self.handle.link().del(l.index).execute().await, &[ENODEV]),
            None => Ok(()),
        }
    }

    /// Adds an address to a link.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn add_address(&self, name: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
        let index = self.get(name).await?.index;
        ok_if(self.handle.address().add(index, address, prefix).execute().await, &[EEXIST])
    }

    /// Adds (or replaces) a route. Without a gateway it is on-link through `device`.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn add_route(
        &self,
        to: ipnet::Ipv4Net,
        gateway: Option<Ipv4Addr>,
        device: &str,
        onlink: bool,
    ) -> io::Result<()> {
        let index = self.get(device).await?.index;
        let mut m = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .output_interface(index);
        if let Some(g) = gateway {
            m = m.gateway(g);
        }
        if onlink {
            m = m.onlink();
        }
        ok_if(self.handle.route().add(m.build()).replace().execute().await, &[EEXIST])
    }

    /// Deletes a route; absent is fine.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn delete_route(&self, to: ipnet::Ipv4Net, device: &str) -> io::Result<()> {
        let Some(link) = self.find(device).await? else { return Ok(()) };
        let m = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .output_interface(link.index);
        ok_if(self.handle.route().del(m.build()).execute().await, &[ESRCH, ENOENT])
    }

    /// A permanent neighbour entry: `address` has hardware address `mac` behind `device`.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn add_neighbour(&self, device: &str, address: IpAddr, mac: [u8; 6]) -> io::Result<()> {
        let index = self.get(device).await?.index;
        let request = self
            .handle
            .neighbours()
            .add(index, address)
            .link_layer_address(&mac)
            .state(NeighbourState::Permanent)
            .replace();
        ok_if(request.execute().await, &[EEXIST])
    }

    /// A VXLAN forwarding entry: frames to `mac` are sent to the host `remote`.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn add_forward(&self, device: &str, mac: [u8; 6], remote: IpAddr) -> io::Result<()> {
        let index = self.get(device).await?.index;
        let request = self
            .handle
            .neighbours()
            .add_bridge(index, &mac)
            .destination(remote)
            .flags(NeighbourFlags::Own)
            .state(NeighbourState::Permanent)
            .replace();
        ok_if(request.execute().await, &[EEXIST])
    }

    /// Removes the forwarding entry of a VXLAN peer; absent is fine.
    ///
    /// # Errors
    /// On a netlink failure.
    pub async fn delete_neighbours(&self, device: &str, mac: [u8; 6]) -> io::Result<()> {
        let index = self.get(device).await?.index;
        for family in [AddressFamily::Inet, AddressFamily::Bridge] {
            let get = self.handle.neighbours().get().set_address_family(family);
            let all: Vec<_> = get.execute().try_collect().await.map_err(to_io)?;
            for n in all.into_iter().filter(|n| n.header.ifindex == index && has_mac(n, mac)) {
                ok_if(self.handle.neighbours().del(n).execute().await, &[ENOENT, ESRCH])?;
            }
        }
        Ok(())
    }

    async fn change<F>(&self, name: &str, edit: F) -> io::Result<()>
    where
        F: FnOnce(rtnetlink::LinkMessageBuilder<LinkUnspec>) -> rtnetlink::LinkMessageBuilder<LinkUnspec>,
    {
        let index = self.get(name).await?.index;
        let message = edit(LinkUnspec::new_with_index(index)).build();
        self.handle.link().change(message).execute().await.map_err(to_io)
    }
}

fn has_mac(n: &netlink_packet_route::neighbour::NeighbourMessage, mac: [u8; 6]) -> bool {
    n.attributes.iter().any(|a| matches!(a, NeighbourAttribute::LinkLayerAddress(l) if l.as_slice() == mac))
}

fn describe(m: &LinkMessage) -> Link {
    let mut link = Link { index: m.header.index, name: String::new(), mac: [0; 6], mtu: 0 };
    for a in &m.attributes {
        match a {
            LinkAttribute::IfName(n) => link.name.clone_from(n),
            LinkAttribute::Mtu(n) => link.mtu = *n,
            LinkAttribute::Address(a) => {
                if let Ok(mac) = a.as_slice().try_into() {
                    link.mac = mac;
                }
            }
            _ => {}
        }
    }
    link
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::netns;

    #[test]
    fn links_are_made_and_wired_in_a_private_namespace() {
        let name = format!("kybern-ul-{}", std::process::id());
        netns::create(&name).unwrap();
        let result = netns::run_in_async(&netns::path(&name), || async {
            let links = Links::open()?;
            let bridge = links.add_bridge("br0").await?;
            links.add_bridge("br0").await?;
            links.add_address("br0", "10.9.0.1".parse().unwrap(), 24).await?;
            links.add_veth("v0", "v1", 1450).await?;
            links.set_master("v0", "br0").await?;
            links.set_up("v0").await?;
            links.set_up("v1").await?;
            links.add_route("10.8.0.0/24".parse().unwrap(), Some("10.9.0.2".parse().unwrap()), "br0", false).await?;
            let mac = [2, 0, 0, 0, 0, 7];
            let vxlan = Vxlan {
                name: "vx0".into(),
                vni: 7,
                port: 8472,
                local: "10.9.0.1".parse().unwrap(),
                device: bridge.index,
                mac,
                mtu: 1400,
            };
            let made = links.add_vxlan(&vxlan).await?;
            links.add_neighbour("vx0", "10.8.0.0".parse().unwrap(), mac).await?;
            links.add_forward("vx0", mac, "10.9.0.2".parse().unwrap()).await?;
            links.delete_route("10.8.0.0/24".parse().unwrap(), "br0").await?;
            links.delete_route("10.8.0.0/24".parse().unwrap(), "br0").await?;
            links.delete("v0").await?;
            links.delete("v0").await?;
            Ok((made, links.find("v1").await?))
        });
        netns::delete(&name).unwrap();
        let (vxlan, peer) = result.unwrap();
        assert_eq!((vxlan.mac, vxlan.mtu), ([2, 0, 0, 0, 0, 7], 1400));
        assert_eq!(peer, None);
    }
}
