//! From what was told to rules, and from one state of the rules to the next: pure.
//!
//! A packet is judged by its connection: who began it (`ct original ip saddr`) and who answers it, behind
//! any Service (`ct reply ip saddr`, `ct reply proto-src`). So both directions of a connection have one
//! verdict, replies need no rule of their own, and a change holds for connections that are there already.
//! One map per direction leads from the pod's address to its verdict; an address that is in none is closed.

use super::told::{Set, Told};
use ipnet::{IpNet, Ipv4Net};
use kybern_wire::node::{PolicyBlock, PolicyPort, PolicyRule};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

/// The table, of family `ip`, and of family `bridge`.
pub(super) const TABLE: &str = "kybern-policy";

/// Elements of one line.
const CHUNK: usize = 512;

/// Everything in the table that policies decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ruleset {
    sets: BTreeMap<String, Set>,
    /// Rules by chain.
    chains: BTreeMap<String, Vec<String>>,
    /// Verdicts by direction and pod address.
    doors: BTreeMap<(Direction, Ipv4Addr), String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    Ingress,
    Egress,
}

use Direction::{Egress, Ingress};

impl Direction {
    fn map(self) -> &'static str {
        match self {
            Ingress => "ingress",
            Egress => "egress",
        }
    }
    /// The other side of a connection.
    fn peer(self) -> &'static str {
        match self {
            Ingress => "ct original ip saddr",
            Egress => "ct reply ip saddr",
        }
    }
}

/// The table's frame, with everything closed. Replaces a table that is there.
pub(super) fn base(own: Ipv4Net) -> String {
    let mut out = format!(
        "table ip {TABLE}\ndelete table ip {TABLE}\n\
         table ip {TABLE} {{\n\
         \x20 map ingress {{ type ipv4_addr : verdict; }}\n\
         \x20 map egress {{ type ipv4_addr : verdict; }}\n"
    );
    // What belongs to no connection has no peer that could be judged.
    let stray = format!(
        "ct state invalid,untracked ip saddr {own} drop\n    ct state invalid,untracked ip daddr {own} drop\n    ct state invalid,untracked accept"
    );
    for (side, priority) in [(Egress, -10), (Ingress, -9)] {
        let (map, own_side) = match side {
            Egress => ("egress", Ingress.peer()),
            Ingress => ("ingress", Egress.peer()),
        };
        let _ = write!(
            out,
            "  chain {map}-door {{ type filter hook forward priority {priority};\n    {stray}\n    \
             {own_side} != {own} accept\n    {own_side} vmap @{map}\n    drop\n  }}\n"
        );
    }
    out + "}\n"
}

/// Pods on one bridge reach each other only as IPv4, where the rules above see it; and without the kernel's
/// `filtered` bridge traffic, not at all.
pub(super) fn bridge(filtered: bool) -> String {
    let unseen = if filtered { "" } else { "    ether type ip drop\n" };
    format!(
        "table bridge {TABLE}\ndelete table bridge {TABLE}\n\
         table bridge {TABLE} {{\n  chain forward {{ type filter hook forward priority 0;\n    \
         ether type ip6 drop\n{unseen}  }}\n}}\n"
    )
}

impl Ruleset {
    /// The rules for pods with these addresses. A pod that was not told of stays closed.
    pub(super) fn of(told: &Told, addresses: &BTreeMap<Ipv4Addr, String>) -> Self {
        let mut rules = Self { sets: told.sets.clone(), ..Self::default() };
        for (name, policy) in &told.policies {
            for (direction, list) in [(Ingress, &policy.from), (Egress, &policy.to)] {
                let lines = list.iter().flat_map(|r| lines(direction, r, &told.sets)).collect();
                rules.chains.insert(policy_chain(direction, name), lines);
            }
        }
        for (address, pod) in addresses {
            let Some(policies) = told.pods.get(pod) else { continue };
            for direction in [Ingress, Egress] {
                let verdict = rules.door(direction, *address, policies, told);
                rules.doors.insert((direction, *address), verdict);
            }
        }
        rules
    }

    fn door(&mut self, direction: Direction, address: Ipv4Addr, policies: &[String], told: &Told) -> String {
        let holds = |name: &&String| {
            // One that is named and not known closes the door.
            told.policies.get(*name).is_none_or(|p| if direction == Ingress { p.ingress } else { p.egress })
        };
        let holding: Vec<&String> = policies.iter().filter(holds).collect();
        if holding.is_empty() {
            return "accept".into();
        }
        // A pod always reaches itself.
        let mut lines = vec![format!("{} {address} accept", direction.peer())];
        let known = holding.into_iter().filter(|name| told.policies.contains_key(*name));
        lines.extend(known.map(|name| format!("jump {}", policy_chain(direction, name))));
        lines.push("drop".into());
        let chain = format!("{}-{}", direction.map(), address.to_string().replace('.', "-"));
        self.chains.insert(chain.clone(), lines);
        format!("goto {chain}")
    }

    /// The transaction that makes `self` out of `old`; empty when they are equal.
    pub(super) fn since(&self, old: &Self) -> String {
        let mut out = String::new();
        let added = |set: &Set, had: Option<&Set>| match had {
            Some(had) => set.members.difference(&had.members).copied().collect(),
            None => set.members.iter().copied().collect::<Vec<_>>(),
        };
        for (id, set) in self.sets.iter().filter(|(id, set)| old.sets.get(*id) != Some(set)) {
            let had = old.sets.get(id);
            if had.is_none() {
                let port = if set.with_ports { " . inet_service" } else { "" };
                let _ = writeln!(out, "add set ip {TABLE} s-{id} {{ type ipv4_addr{port}; }}");
            }
            if let Some(had) = had {
                let gone: Vec<_> = had.members.difference(&set.members).copied().collect();
                elements(&mut out, "delete", id, set.with_ports, &gone);
            }
            elements(&mut out, "add", id, set.with_ports, &added(set, had));
        }
        let changed = || self.chains.iter().filter(|(name, rules)| old.chains.get(*name) != Some(rules));
        for (name, _) in changed() {
            let _ = writeln!(out, "add chain ip {TABLE} {name}");
        }
        for (name, rules) in changed() {
            let _ = writeln!(out, "flush chain ip {TABLE} {name}");
            for rule in rules {
                let _ = writeln!(out, "add rule ip {TABLE} {name} {rule}");
            }
        }
        for ((direction, address), verdict) in &old.doors {
            if self.doors.get(&(*direction, *address)) != Some(verdict) {
                let _ = writeln!(out, "delete element ip {TABLE} {} {{ {address} }}", direction.map());
            }
        }
        for ((direction, address), verdict) in &self.doors {
            if old.doors.get(&(*direction, *address)) != Some(verdict) {
                let _ = writeln!(out, "add element ip {TABLE} {} {{ {address} : {verdict} }}", direction.map());
            }
        }
        let gone: Vec<&String> = old.chains.keys().filter(|name| !self.chains.contains_key(*name)).collect();
        for verb in ["flush", "delete"] {
            for name in &gone {
                let _ = writeln!(out, "{verb} chain ip {TABLE} {name}");
            }
        }
        for id in old.sets.keys().filter(|id| !self.sets.contains_key(*id)) {
            let _ = writeln!(out, "delete set ip {TABLE} s-{id}");
        }
        out
    }
}

fn elements(out: &mut String, verb: &str, id: &str, with_ports: bool, members: &[(Ipv4Addr, u16)]) {
    for chunk in members.chunks(CHUNK) {
        let shown: Vec<String> = chunk
            .iter()
            .map(|(address, port)| if with_ports { format!("{address} . {port}") } else { address.to_string() })
            .collect();
        let _ = writeln!(out, "{verb} element ip {TABLE} s-{id} {{ {} }}", shown.join(", "));
    }
}

fn policy_chain(direction: Direction, name: &str) -> String {
    format!("policy-{}-{}", direction.map(), hex::encode(&Sha256::digest(name.as_bytes())[..8]))
}

/// One rule of a policy as nft rules; what cannot be expressed accepts nothing.
fn lines(direction: Direction, rule: &PolicyRule, sets: &BTreeMap<String, Set>) -> Vec<String> {
    let mut peers: Vec<String> = Vec::new();
    if rule.anybody {
        peers.push(String::new());
    }
    let known = rule.sets.iter().filter(|id| sets.get(*id).is_some_and(|s| !s.with_ports));
    peers.extend(known.map(|id| format!("{} @s-{id} ", direction.peer())));
    peers.extend(rule.blocks.iter().filter_map(|b| block(direction, b)));
    let mut ports: Vec<String> = rule.ports.iter().filter_map(|p| port(p, sets)).collect();
    if rule.any_port {
        ports.push(String::new());
    }
    let join = |peer: &String| ports.iter().map(|port| format!("{peer}{port}accept")).collect::<Vec<_>>();
    peers.iter().flat_map(join).collect()
}

fn block(direction: Direction, block: &PolicyBlock) -> Option<String> {
    let v4 = |text: &String| match text.parse() {
        Ok(IpNet::V4(net)) => Some(net.trunc()),
        _ => None,
    };
    let whole = v4(&block.cidr)?;
    let mut out = String::new();
    if whole.prefix_len() > 0 {
        let _ = write!(out, "{} {whole} ", direction.peer());
    }
    for except in block.except.iter().filter_map(v4) {
        let _ = write!(out, "{} != {except} ", direction.peer());
    }
    Some(out)
}

fn port(port: &PolicyPort, sets: &BTreeMap<String, Set>) -> Option<String> {
    let protocol = match port.protocol.as_str() {
        "TCP" => "tcp",
        "UDP" => "udp",
        "SCTP" => "sctp",
        _ => return None,
    };
    let number = |n: u32| u16::try_from(n).ok();
    let (first, last) = (number(port.first)?, number(port.last)?);
    Some(match port.targets.as_str() {
        "" if first == 0 => format!("meta l4proto {protocol} "),
        "" if first >= last => format!("meta l4proto {protocol} ct reply proto-src {first} "),
        "" => format!("meta l4proto {protocol} ct reply proto-src {first}-{last} "),
        id if sets.get(id).is_some_and(|s| s.with_ports) => {
            format!("meta l4proto {protocol} ct reply ip saddr . ct reply proto-src @s-{id} ")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
