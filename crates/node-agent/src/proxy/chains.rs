//! One service port as named parts of the table: chains with their rules, sets, and map elements.
//!
//! `svc-` is entered through the cluster address, `ext-` from outside, `lb-` before it where a load balancer
//! is closed to some, `all-` leads to every endpoint where `ext-` does not, `ep-` to one endpoint, with the
//! set `aff-` of the clients that keep it.

use super::endpoints::Endpoint;
use super::model::{Frontend, Outside, ServicePort};
use super::rules::Network;
use sha2::{Digest, Sha256};
use std::fmt::Display;

/// Packets that must leave with the node's address carry this mark (kube-proxy's bit).
pub(super) const MASQUERADE: u32 = 0x4000;

/// What the kernel holds for one service port.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Name and rules.
    pub(super) chains: Vec<(String, Vec<String>)>,
    /// Name and seconds.
    pub(super) sets: Vec<(String, u32)>,
    /// Map, element, and the chain it leads to.
    pub(super) elements: Vec<(&'static str, String, String)>,
}

impl Parts {
    pub(super) fn of(n: &Network, key: &str, port: &ServicePort) -> Self {
        let mut parts = Self::default();
        parts.inside(n, key, port);
        parts.outside(n, key, port);
        parts.affinity(key, port);
        parts.elements = port.frontends.iter().map(|f| element(key, port, *f)).collect();
        parts
    }

    fn inside(&mut self, n: &Network, key: &str, port: &ServicePort) {
        if !port.frontends.iter().any(|f| matches!(f, Frontend::Cluster(..))) {
            return;
        }
        let mut rules = hairpin(port);
        rules.push(format!("ip saddr != {} {}", n.pods, mark()));
        rules.extend(lead(key, port, if port.internal_local { &port.local } else { &port.cluster }));
        self.chains.push((chain("svc", key), if port.cluster.is_empty() { Vec::new() } else { rules }));
    }

    fn outside(&mut self, n: &Network, key: &str, port: &ServicePort) {
        if port.frontends.iter().all(|f| matches!(f, Frontend::Cluster(..))) {
            return;
        }
        let mut rules = hairpin(port);
        match port.outside {
            Outside::Cluster => {
                rules.push(mark());
                rules.extend(lead(key, port, &port.cluster));
            }
            Outside::Pod => {
                // No answer finds its way back to the node's own loopback address.
                rules.push(format!("ip saddr 127.0.0.0/8 {}", mark()));
                rules.extend(lead(key, port, &port.cluster));
            }
            Outside::Local => {
                // Who is inside is not from outside: it reaches every endpoint, as in kube-proxy.
                let all = chain("all", key);
                rules.push(format!("ip saddr {} goto {all}", n.pods));
                rules.push(format!("fib saddr type local {} goto {all}", mark()));
                rules.extend(lead(key, port, &port.local));
                self.chains.push((all, lead(key, port, &port.cluster)));
            }
        }
        let outside = chain("ext", key);
        if let Some(sources) = &port.sources {
            let open = match sources.is_empty() {
                true => "drop".to_owned(),
                false => format!("ip saddr != {{ {} }} drop", list(sources)),
            };
            self.chains.push((chain("lb", key), vec![open, format!("goto {outside}")]));
        }
        // Falls through to the reject of unknown service addresses, or to the closed port of the node.
        self.chains.push((outside, if port.cluster.is_empty() { Vec::new() } else { rules }));
    }

    /// Endpoints that clients keep have chains of their own.
    fn affinity(&mut self, key: &str, port: &ServicePort) {
        let Some(seconds) = port.affinity else { return };
        let mut all: Vec<&Endpoint> = port.cluster.iter().chain(&port.local).collect();
        all.sort();
        all.dedup();
        for e in all {
            let set = clients(key, e, seconds);
            let keep = format!("update @{set} {{ ip saddr }}");
            self.chains.push((endpoint(key, e), vec![keep, translate(e)]));
            self.sets.push((set, seconds));
        }
    }
}

/// A local endpoint that reaches itself must not see its own address as the client's.
fn hairpin(port: &ServicePort) -> Vec<String> {
    let mut own: Vec<String> =
        port.cluster.iter().chain(&port.local).filter(|e| e.local).map(|e| e.ip.to_string()).collect();
    own.sort();
    own.dedup();
    if own.is_empty() { Vec::new() } else { vec![format!("ip saddr {{ {} }} {}", list(&own), mark())] }
}

/// The rules that choose among endpoints. None here, though there are some elsewhere: the packet is lost, so
/// that its sender tries another way.
fn lead(key: &str, port: &ServicePort, endpoints: &[Endpoint]) -> Vec<String> {
    if endpoints.is_empty() {
        return if port.cluster.is_empty() { Vec::new() } else { vec!["drop".to_owned()] };
    }
    let n = endpoints.len();
    if let Some(seconds) = port.affinity {
        let kept = |e: &Endpoint| format!("ip saddr @{} goto {}", clients(key, e, seconds), endpoint(key, e));
        let mut rules: Vec<String> = endpoints.iter().map(kept).collect();
        let choice = endpoints.iter().enumerate().map(|(i, e)| format!("{i} : goto {}", endpoint(key, e)));
        rules.push(match endpoints {
            [only] => format!("goto {}", endpoint(key, only)),
            _ => format!("numgen random mod {n} vmap {{ {} }}", list(choice)),
        });
        return rules;
    }
    if let [only] = endpoints {
        return vec![translate(only)];
    }
    let choice = endpoints.iter().enumerate().map(|(i, e)| format!("{i} : {} . {}", e.ip, e.port));
    vec![format!("meta l4proto {{ tcp, udp, sctp }} dnat ip to numgen random mod {n} map {{ {} }}", list(choice))]
}

fn translate(e: &Endpoint) -> String {
    format!("meta l4proto {{ tcp, udp, sctp }} dnat ip to {}:{}", e.ip, e.port)
}

fn mark() -> String {
    format!("meta mark set meta mark | {MASQUERADE:#x}")
}

fn list(items: impl IntoIterator<Item: Display>) -> String {
    let texts: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    texts.join(", ")
}

/// Where a frontend is looked up and where it leads.
fn element(key: &str, port: &ServicePort, frontend: Frontend) -> (&'static str, String, String) {
    let protocol = port.protocol;
    match frontend {
        Frontend::Cluster(ip, p) => ("service-ips", format!("{ip} . {protocol} . {p}"), chain("svc", key)),
        Frontend::External(ip, p) => ("external-ips", format!("{ip} . {protocol} . {p}"), chain("ext", key)),
        Frontend::Balancer(ip, p) => {
            let first = if port.sources.is_some() { "lb" } else { "ext" };
            ("external-ips", format!("{ip} . {protocol} . {p}"), chain(first, key))
        }
        Frontend::Node(p) => ("node-ports", format!("{protocol} . {p}"), chain("ext", key)),
        Frontend::Host(p) => ("host-ports", format!("{protocol} . {p}"), chain("ext", key)),
    }
}

/// A chain's name: readable in part, unique by digest.
fn chain(prefix: &str, key: &str) -> String {
    let readable: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).take(60).collect();
    format!("{prefix}-{}-{readable}", digest(key))
}

fn endpoint(key: &str, e: &Endpoint) -> String {
    format!("ep-{}-{}-{}", digest(key), e.ip, e.port).replace('.', "-")
}

/// The time is part of the name: the kernel changes no set's time.
fn clients(key: &str, e: &Endpoint, seconds: u32) -> String {
    format!("aff-{}-{}-{}-{seconds}", digest(key), e.ip, e.port).replace('.', "-")
}

fn digest(key: &str) -> String {
    hex::encode(&Sha256::digest(key.as_bytes())[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_names_differ_where_their_readable_part_is_cut() {
        let long = "n/".to_owned() + &"a".repeat(80);
        assert_ne!(chain("svc", &format!("{long}1")), chain("svc", &format!("{long}2")));
        assert!(chain("ext", &long).len() <= 127);
    }
}
