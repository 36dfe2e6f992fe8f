//! The ruleset as text: pure functions from service ports to nftables transactions.
//!
//! One table `kybern`. A packet's destination is looked up in one verdict map (constant time, however many
//! services there are); each service port has chains of its own ([`super::chains`]), so a change touches
//! those alone.

use super::chains::{MASQUERADE, Parts};
use super::model::ServicePort;
use ipnet::Ipv4Net;
use std::fmt::Write;
use std::net::Ipv4Addr;

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

/// One service port that is to be written, rewritten or taken away.
#[derive(Debug, Clone)]
pub struct Change {
    /// The port's key.
    pub key: String,
    /// What the kernel has.
    pub old: Option<ServicePort>,
    /// What it shall have.
    pub new: Option<ServicePort>,
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
         \x20 map host-ports {{ type inet_proto . inet_service : verdict; }}\n\
         \x20 chain services {{\n\
         \x20   ip daddr . meta l4proto . th dport vmap @service-ips\n\
         \x20   ip daddr . meta l4proto . th dport vmap @external-ips\n\
         \x20   fib daddr type != local return\n\
         \x20   ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @node-ports\n\
         \x20   meta l4proto . th dport vmap @host-ports\n\
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
         \x20 chain martians {{ type filter hook prerouting priority raw;\n\
         \x20   iifname != \"lo\" ip daddr 127.0.0.0/8 drop\n\
         \x20   iifname != \"lo\" ip saddr 127.0.0.0/8 drop\n\
         \x20 }}\n\
         }}\n",
        clear = !MASQUERADE,
    )
}

/// One transaction for these changes; empty when there are none.
///
/// What pointed elsewhere before is taken out first, so that ports can change hands in one transaction;
/// chains and sets that nothing uses any more go last.
pub fn transaction(n: &Network, changes: &[Change]) -> String {
    let parts = |port: &Option<ServicePort>, key: &str| port.as_ref().map(|p| Parts::of(n, key, p)).unwrap_or_default();
    let both: Vec<(Parts, Parts)> = changes.iter().map(|c| (parts(&c.old, &c.key), parts(&c.new, &c.key))).collect();
    let mut out = String::new();
    for (old, new) in &both {
        for (map, element, _) in old.elements.iter().filter(|e| !new.elements.contains(e)) {
            let _ = writeln!(out, "delete element ip kybern {map} {{ {element} }}");
        }
    }
    for (old, new) in &both {
        write_chains(&mut out, old, new);
    }
    for (old, new) in &both {
        for (map, element, chain) in new.elements.iter().filter(|e| !old.elements.contains(e)) {
            let _ = writeln!(out, "add element ip kybern {map} {{ {element} : goto {chain} }}");
        }
    }
    for (old, new) in &both {
        take_away(&mut out, old, new);
    }
    out
}

/// Chains that stay as they are, and what sets remember, are left alone.
fn write_chains(out: &mut String, old: &Parts, new: &Parts) {
    for (set, seconds) in new.sets.iter().filter(|s| !old.sets.contains(s)) {
        let _ =
            writeln!(out, "add set ip kybern {set} {{ type ipv4_addr; flags dynamic, timeout; timeout {seconds}s; }}");
    }
    let changed = || new.chains.iter().filter(|c| !old.chains.contains(c));
    for (chain, _) in changed() {
        let _ = writeln!(out, "add chain ip kybern {chain}\nflush chain ip kybern {chain}");
    }
    for (chain, rules) in changed() {
        for rule in rules {
            let _ = writeln!(out, "add rule ip kybern {chain} {rule}");
        }
    }
}

fn take_away(out: &mut String, old: &Parts, new: &Parts) {
    let gone = || old.chains.iter().map(|(c, _)| c).filter(|c| !new.chains.iter().any(|(n, _)| n == *c));
    for chain in gone() {
        let _ = writeln!(out, "flush chain ip kybern {chain}");
    }
    for chain in gone() {
        let _ = writeln!(out, "delete chain ip kybern {chain}");
    }
    for (set, _) in old.sets.iter().filter(|s| !new.sets.contains(s)) {
        let _ = writeln!(out, "delete set ip kybern {set}");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::proxy::Endpoint;
    use crate::proxy::model::{Frontend, Outside};

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
            local: all.iter().filter(|e| e.local).copied().collect(),
            cluster: all,
            internal_local: false,
            outside: Outside::Cluster,
            affinity: None,
            sources: None,
        }
    }

    fn change(old: Option<ServicePort>, new: Option<ServicePort>) -> String {
        transaction(&network(), &[Change { key: "d/web:80/tcp".into(), old, new }])
    }

    const TWO: [[u8; 4]; 2] = [[10, 42, 1, 2], [10, 42, 2, 2]];

    #[test]
    fn a_change_touches_its_own_chains_and_elements_only() {
        let text = change(Some(port(&[])), Some(port(&TWO)));
        assert!(!text.contains("delete") && !text.contains("element"), "frontends have not changed: {text}");
        assert!(text.contains("numgen random mod 2 map { 0 : 10.42.1.2 . 8080, 1 : 10.42.2.2 . 8080 }"), "{text}");
        assert!(text.contains("ip saddr { 10.42.1.2 } meta mark set"), "a local endpoint reaches itself: {text}");
        assert_eq!(change(Some(port(&TWO)), Some(port(&TWO))), "");
        let moved = ServicePort { frontends: vec![Frontend::Node(30081)], ..port(&TWO) };
        let text = change(Some(port(&TWO)), Some(moved));
        assert_eq!(text.lines().filter(|l| l.starts_with("delete element")).count(), 2, "{text}");
    }

    #[test]
    fn a_client_is_remembered_while_other_endpoints_come_and_go() {
        let sticky = |e: &[[u8; 4]]| ServicePort { affinity: Some(60), ..port(e) };
        let text = change(None, Some(sticky(&TWO)));
        assert_eq!(text.lines().filter(|l| l.starts_with("add set") && l.contains("timeout 60s")).count(), 2, "{text}");
        let text = change(Some(sticky(&TWO)), Some(sticky(&TWO[..1])));
        assert!(!text.contains("add set"), "{text}");
        assert_eq!(text.lines().filter(|l| l.starts_with("delete set")).count(), 1, "{text}");
        assert_eq!(text.lines().filter(|l| l.starts_with("delete chain")).count(), 1, "{text}");
        let longer = ServicePort { affinity: Some(61), ..sticky(&TWO) };
        let text = change(Some(sticky(&TWO)), Some(longer));
        assert_eq!(
            text.lines().filter(|l| l.starts_with("delete set")).count(),
            2,
            "another time, another set: {text}"
        );
    }

    #[test]
    fn what_comes_from_outside_keeps_its_source_or_is_dropped() {
        let local = |e: &[[u8; 4]]| ServicePort { outside: Outside::Local, ..port(e) };
        let text = change(None, Some(local(&TWO)));
        let ext: Vec<&str> = text.lines().filter(|l| l.starts_with("add rule ip kybern ext-")).collect();
        assert!(ext[1].contains("ip saddr 10.42.0.0/16 goto all-"), "pods use all endpoints: {ext:?}");
        assert!(ext[2].contains("fib saddr type local meta mark set"), "{ext:?}");
        assert!(ext.last().unwrap().ends_with("dnat ip to 10.42.1.2:8080"), "{ext:?}");
        let text = change(None, Some(local(&TWO[1..])));
        assert!(text.lines().any(|l| l.starts_with("add rule ip kybern ext-") && l.ends_with(" drop")), "{text}");
        let text = change(None, Some(local(&[])));
        assert!(!text.contains(" drop"), "no endpoint anywhere is a refusal: {text}");
    }

    #[test]
    fn a_balancer_is_open_to_its_sources_only() {
        let closed = ServicePort {
            frontends: vec![Frontend::Balancer([192, 0, 2, 1].into(), 80)],
            sources: Some(vec!["198.51.100.0/24".parse().unwrap()]),
            ..port(&TWO)
        };
        let text = change(None, Some(closed.clone()));
        assert!(text.contains("ip saddr != { 198.51.100.0/24 } drop"), "{text}");
        assert!(text.contains("192.0.2.1 . tcp . 80 : goto lb-"), "{text}");
        let none = ServicePort { sources: Some(Vec::new()), ..closed };
        assert!(
            change(None, Some(none)).lines().any(|l| l.starts_with("add rule ip kybern lb-") && l.ends_with(" drop"))
        );
    }
}
