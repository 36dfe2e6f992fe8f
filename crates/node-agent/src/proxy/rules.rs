//! The ruleset as text: pure functions from service ports to nftables transactions.
//!
//! One table `kybern`. A packet's destination is looked up in one verdict map (constant time, however many
//! services there are); each service port has a chain of its own, so a change touches that chain alone.

use super::model::{Endpoint, Frontend, ServicePort};
use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::net::Ipv4Addr;

/// Packets that must leave with the node's address carry this mark (kube-proxy's bit).
const MASQUERADE: u32 = 0x4000;

/// The addresses that the rules tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// All pods.
    pub pods: Ipv4Net,
    /// Pods of this node, once known.
    pub own_pods: Option<Ipv4Net>,
    /// All services.
    pub services: Ipv4Net,
    /// The cluster's DNS address, served on this node.
    pub dns: Ipv4Addr,
}

/// What has to change in the kernel.
#[derive(Debug, Default)]
pub struct Changes {
    /// Ports to be written.
    pub set: Vec<(String, ServicePort)>,
    /// Earlier forms of ports in `set`: their map elements go first.
    pub stale: Vec<ServicePort>,
    /// Ports that are gone.
    pub removed: Vec<(String, ServicePort)>,
}

/// The table's frame: maps and hooks. Replaces a table of ours that is there.
pub fn base(n: &Network) -> String {
    let (pods, services, dns) = (n.pods, n.services, n.dns);
    let outgoing =
        n.own_pods.map_or_else(String::new, |own| format!("    ip saddr {own} ip daddr != {pods} masquerade\n"));
    format!(
        "table ip kybern\n\
         delete table ip kybern\n\
         table ip kybern {{\n\
         \x20 map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}\n\
         \x20 map external-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}\n\
         \x20 map node-ports {{ type inet_proto . inet_service : verdict; }}\n\
         \x20 chain services {{\n\
         \x20   ip daddr . meta l4proto . th dport vmap @service-ips\n\
         \x20   ip daddr . meta l4proto . th dport vmap @external-ips\n\
         \x20   ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @node-ports\n\
         \x20 }}\n\
         \x20 chain prerouting {{ type nat hook prerouting priority dstnat; jump services; }}\n\
         \x20 chain output {{ type nat hook output priority -100; jump services; }}\n\
         \x20 chain postrouting {{ type nat hook postrouting priority srcnat;\n\
         \x20   meta mark & {MASQUERADE:#x} == {MASQUERADE:#x} meta mark set meta mark & {clear:#x} masquerade fully-random\n\
         {outgoing}\
         \x20 }}\n\
         \x20 chain reject-unknown {{ ct state new ip daddr {services} ip daddr != {dns} reject; }}\n\
         \x20 chain filter-forward {{ type filter hook forward priority filter; jump reject-unknown; }}\n\
         \x20 chain filter-output {{ type filter hook output priority filter; jump reject-unknown; }}\n\
         }}\n",
        clear = !MASQUERADE,
    )
}

/// One transaction for these changes; empty when there are none.
pub fn transaction(n: &Network, changes: &Changes) -> String {
    let mut out = String::new();
    for old in changes.stale.iter().chain(changes.removed.iter().map(|(_, p)| p)) {
        elements(&mut out, "delete", old, None);
    }
    for (key, port) in &changes.set {
        write_port(&mut out, n, key, port);
    }
    for (key, _) in &changes.removed {
        for side in [Side::Internal, Side::External] {
            let chain = chain_name(key, side);
            let _ = writeln!(out, "flush chain ip kybern {chain}\ndelete chain ip kybern {chain}");
        }
    }
    out
}

/// Traffic from inside and from outside may go to different endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Internal,
    External,
}

/// A chain's name: readable in part, unique by digest.
fn chain_name(key: &str, side: Side) -> String {
    let digest = hex::encode(&Sha256::digest(key.as_bytes())[..6]);
    let prefix = if side == Side::Internal { "svc" } else { "ext" };
    let readable: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).take(60).collect();
    format!("{prefix}-{digest}-{readable}")
}

fn write_port(out: &mut String, n: &Network, key: &str, port: &ServicePort) {
    for side in [Side::Internal, Side::External] {
        let chain = chain_name(key, side);
        let _ = writeln!(out, "add chain ip kybern {chain}\nflush chain ip kybern {chain}");
        let endpoints = if side == Side::Internal { &port.internal } else { &port.external };
        if endpoints.is_empty() {
            // Falls through to the reject of unknown service addresses, or to the closed node port.
            continue;
        }
        for e in endpoints.iter().filter(|e| e.local) {
            let _ =
                writeln!(out, "add rule ip kybern {chain} ip saddr {} meta mark set meta mark | {MASQUERADE:#x}", e.ip);
        }
        match side {
            Side::Internal => {
                let _ = writeln!(
                    out,
                    "add rule ip kybern {chain} ip saddr != {} meta mark set meta mark | {MASQUERADE:#x}",
                    n.pods
                );
            }
            Side::External if !port.keep_source => {
                let _ = writeln!(out, "add rule ip kybern {chain} meta mark set meta mark | {MASQUERADE:#x}");
            }
            Side::External => {}
        }
        let _ = writeln!(out, "add rule ip kybern {chain} {}", dnat(endpoints));
    }
    elements(out, "add", port, Some(key));
}

fn dnat(endpoints: &[Endpoint]) -> String {
    if let [only] = endpoints {
        return format!("meta l4proto {{ tcp, udp, sctp }} dnat ip to {}:{}", only.ip, only.port);
    }
    let map: Vec<String> = endpoints.iter().enumerate().map(|(i, e)| format!("{i} : {} . {}", e.ip, e.port)).collect();
    let n = endpoints.len();
    format!("meta l4proto {{ tcp, udp, sctp }} dnat ip to numgen random mod {n} map {{ {} }}", map.join(", "))
}

/// Adds or deletes the map elements of a port's frontends.
fn elements(out: &mut String, verb: &str, port: &ServicePort, key: Option<&str>) {
    for f in &port.frontends {
        let (map, element, side) = match f {
            Frontend::Cluster(ip, p) => ("service-ips", format!("{ip} . {} . {p}", port.protocol), Side::Internal),
            Frontend::External(ip, p) => ("external-ips", format!("{ip} . {} . {p}", port.protocol), Side::External),
            Frontend::Node(p) => ("node-ports", format!("{} . {p}", port.protocol), Side::External),
        };
        let verdict = key.map_or_else(String::new, |k| format!(" : goto {}", chain_name(k, side)));
        let _ = writeln!(out, "{verb} element ip kybern {map} {{ {element}{verdict} }}");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn network() -> Network {
        Network {
            pods: "10.42.0.0/16".parse().unwrap(),
            own_pods: Some("10.42.1.0/24".parse().unwrap()),
            services: "10.43.0.0/16".parse().unwrap(),
            dns: [10, 43, 0, 10].into(),
        }
    }

    fn port(endpoints: &[[u8; 4]]) -> ServicePort {
        let all: Vec<Endpoint> =
            endpoints.iter().map(|ip| Endpoint { ip: (*ip).into(), port: 8080, local: ip[2] == 1 }).collect();
        ServicePort {
            protocol: "tcp",
            frontends: vec![Frontend::Cluster([10, 43, 0, 7].into(), 80), Frontend::Node(30080)],
            internal: all.clone(),
            external: all,
            keep_source: false,
        }
    }

    #[test]
    fn a_change_touches_its_own_chains_and_elements_only() {
        let changes = Changes {
            set: vec![("d/web:80/tcp".into(), port(&[[10, 42, 1, 2], [10, 42, 2, 2]]))],
            stale: vec![port(&[])],
            removed: Vec::new(),
        };
        let text = transaction(&network(), &changes);
        let verbs: Vec<&str> = text.lines().map(|l| l.split(' ').next().unwrap()).collect();
        assert_eq!(verbs.iter().filter(|v| **v == "delete").count(), 2, "{text}");
        assert!(text.contains("numgen random mod 2 map { 0 : 10.42.1.2 . 8080, 1 : 10.42.2.2 . 8080 }"), "{text}");
        assert!(text.contains("ip saddr 10.42.1.2 meta mark set"), "a local endpoint reaches itself: {text}");
        assert!(!text.contains("flush table"));
    }

    #[test]
    fn chain_names_differ_where_their_readable_part_is_cut() {
        let long = "n/".to_owned() + &"a".repeat(80);
        assert_ne!(chain_name(&format!("{long}1"), Side::Internal), chain_name(&format!("{long}2"), Side::Internal));
        assert!(chain_name(&long, Side::External).len() <= 127);
    }
}
