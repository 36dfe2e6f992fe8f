//! The network of a dev cluster: hosts are network namespaces on a bridge that lives in a namespace of
//! its own. The machine gets one link into it; nothing is forwarded to the machine's other interfaces.

use super::cluster::{Cluster, Host};
use anyhow::{Context, Result};
use kybern_node_agent::net::link::Links;
use kybern_node_agent::net::netns;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

const BRIDGE: &str = "hosts0";
const MTU: u32 = 1500;

/// Makes all namespaces and links; what is there already is kept.
///
/// # Errors
/// When the kernel refuses (root is needed).
pub fn up(cluster: &Cluster) -> Result<()> {
    let bridge = cluster.bridge_netns();
    netns::create(&bridge).context("cannot create a network namespace (root is needed)")?;
    let gateway = cluster.gateway();
    in_ns(&bridge, move || async move {
        let links = Links::open()?;
        links.set_up("lo").await?;
        links.add_bridge(BRIDGE).await?;
        links.add_address(BRIDGE, IpAddr::V4(gateway), 24).await
    })?;
    attach(cluster, "machine", None)?;
    for host in &cluster.hosts {
        netns::create(&cluster.netns(host))?;
        attach(cluster, &host.name, Some(host))?;
    }
    Ok(())
}

/// Removes all namespaces; the links go with them.
///
/// # Errors
/// When a namespace can't be removed.
pub fn down(cluster: &Cluster) -> Result<()> {
    let link = cluster.machine_link();
    in_current(move || async move { Links::open()?.delete(&link).await })?;
    for host in &cluster.hosts {
        netns::delete(&cluster.netns(host))?;
    }
    netns::delete(&cluster.bridge_netns())?;
    Ok(())
}

/// Removes a host's namespace and link; [`up`] makes them anew.
///
/// # Errors
/// When one can't be removed.
pub fn remove(cluster: &Cluster, host: &Host) -> Result<()> {
    let port = port_name(&host.name);
    // The namespace alone would take its end of the link along only some time later.
    in_ns(&cluster.bridge_netns(), move || async move { Links::open()?.delete(&port).await })?;
    Ok(netns::delete(&cluster.netns(host))?)
}

/// Cuts a host off: its port leaves the bridge, so frames go nowhere in both directions.
///
/// # Errors
/// On a netlink failure.
pub fn cut(cluster: &Cluster, host: &Host) -> Result<()> {
    let port = port_name(&host.name);
    in_ns(&cluster.bridge_netns(), move || async move { Links::open()?.clear_master(&port).await })
}

/// Undoes [`cut`].
///
/// # Errors
/// On a netlink failure.
pub fn heal(cluster: &Cluster, host: &Host) -> Result<()> {
    let port = port_name(&host.name);
    in_ns(&cluster.bridge_netns(), move || async move { Links::open()?.set_master(&port, BRIDGE).await })
}

/// The bridge's end of a host's link.
fn port_name(host: &str) -> String {
    format!("p-{host}")
}

/// Makes the link between the bridge and a host (None: the machine itself), unless it is there.
fn attach(cluster: &Cluster, name: &str, host: Option<&Host>) -> Result<()> {
    let port = port_name(name);
    let bridge = cluster.bridge_netns();
    let inner = host.map_or_else(|| cluster.machine_link(), |_| "eth0".to_owned());
    let known = port.clone();
    if in_ns(&bridge, move || async move { Links::open()?.find(&known).await })?.is_none() {
        make_link(cluster, &port, host, &inner)?;
    }
    let up = port.clone();
    in_ns(&bridge, move || async move {
        let links = Links::open()?;
        links.set_master(&up, BRIDGE).await?;
        links.set_up(&up).await
    })?;
    let address = host.map_or_else(|| cluster.machine_address(), |h| h.address);
    let gateway = host.map(|_| cluster.gateway());
    let configure = move || configure(inner, address, gateway);
    match host {
        Some(h) => in_ns(&cluster.netns(h), configure),
        None => {
            in_current(configure)?;
            forbid_forwarding(&cluster.machine_link())
        }
    }
}

/// A veth pair made inside the bridge's namespace, whose other end moves to the host.
fn make_link(cluster: &Cluster, port: &str, host: Option<&Host>, inner: &str) -> Result<()> {
    let target = match host {
        Some(h) => netns::path(&cluster.netns(h)),
        None => "/proc/self/ns/net".into(),
    };
    let (port, temporary, inner) = (port.to_owned(), format!("t-{port}"), inner.to_owned());
    // The machine's own namespace has to be opened before the thread enters the bridge's.
    let home = std::fs::canonicalize(&target).unwrap_or(target);
    let pid_home = if host.is_none() { format!("/proc/{}/ns/net", std::process::id()).into() } else { home };
    in_ns(&cluster.bridge_netns(), move || async move {
        let links = Links::open()?;
        links.add_veth(&port, &temporary, MTU).await?;
        links.rename(&temporary, &inner).await?;
        links.move_to(&inner, &pid_home).await
    })
}

async fn configure(link: String, address: Ipv4Addr, gateway: Option<Ipv4Addr>) -> io::Result<()> {
    let links = Links::open()?;
    links.set_up("lo").await?;
    links.add_address(&link, IpAddr::V4(address), 24).await?;
    links.set_up(&link).await?;
    match gateway {
        Some(_) => links.add_route(ipnet::Ipv4Net::default(), gateway, &link, false).await,
        None => Ok(()),
    }
}

/// The machine never routes between a cluster and its other interfaces.
fn forbid_forwarding(link: &str) -> Result<()> {
    let path = format!("/proc/sys/net/ipv4/conf/{link}/forwarding");
    std::fs::write(&path, "0").with_context(|| format!("cannot write {path}"))
}

fn in_ns<T, F, Fut>(name: &str, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = io::Result<T>>,
{
    netns::run_in_async(&netns::path(name), work).with_context(|| format!("network namespace {name}"))
}

fn in_current<T, F, Fut>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = io::Result<T>>,
{
    netns::run_in_async("/proc/self/ns/net".as_ref(), work).context("the machine's network")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    fn reach(from: &str, to: SocketAddr) -> bool {
        netns::run_in(&netns::path(from), move || {
            TcpStream::connect_timeout(&to, Duration::from_millis(400)).map(|_| true).or(Ok(false))
        })
        .unwrap()
    }

    #[test]
    fn hosts_reach_each_other_until_they_are_cut() {
        let mut cluster = Cluster::plan("unettest", 1, 1, &[]).unwrap();
        cluster.subnet = 250;
        for (i, h) in cluster.hosts.iter_mut().enumerate() {
            h.address = Ipv4Addr::new(10, 89, 250, 11 + i as u8);
        }
        up(&cluster).unwrap();
        up(&cluster).unwrap();
        let (server, node) = (cluster.hosts[0].clone(), cluster.hosts[1].clone());
        let at = SocketAddr::from((server.address, 7000));
        let listener = netns::run_in(&netns::path(&cluster.netns(&server)), move || TcpListener::bind(at)).unwrap();
        let from = cluster.netns(&node);
        let before = reach(&from, at);
        let machine = TcpStream::connect_timeout(&at, Duration::from_millis(400)).is_ok();
        cut(&cluster, &node).unwrap();
        let during = reach(&from, at);
        heal(&cluster, &node).unwrap();
        let after = reach(&from, at);
        drop(listener);
        down(&cluster).unwrap();
        down(&cluster).unwrap();
        assert_eq!((before, machine, during, after), (true, true, false, true));
    }
}
