//! From what was told to rules in the [`frame`](super::frame), and from one state of the rules to the next:
//! pure.

use super::frame::Direction::{self, Egress, Ingress};
use super::frame::TABLE;
use super::rules::lines;
use super::told::{Members, Set, Told};
use crate::cni::ipam::{Holder, OURS};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::Ipv4Addr;

/// Elements of one line.
const CHUNK: usize = 512;

/// Everything in the tables that policies and pods decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ruleset {
    sets: BTreeMap<String, Set>,
    /// Rules by chain.
    chains: BTreeMap<String, Vec<String>>,
    /// Verdicts by direction and pod address.
    doors: BTreeMap<(Direction, Ipv4Addr), String>,
    /// Which link may send from which address.
    sources: BTreeSet<(String, Ipv4Addr)>,
    /// What connections bear that these rules have let through: made of the rules, so that the same rules
    /// give the same number, also after a restart. 0 is none.
    number: u32,
}

impl Ruleset {
    /// The rules for pods that hold these addresses. A pod that was not told of stays closed.
    pub(super) fn of(told: &Told, held: &BTreeMap<Ipv4Addr, Holder>) -> Self {
        let mut rules = Self { sets: told.sets.clone(), ..Self::default() };
        for (name, policy) in &told.policies {
            for (direction, list) in [(Ingress, &policy.from), (Egress, &policy.to)] {
                let lines = list.iter().flat_map(|r| lines(direction, r, &told.sets)).collect();
                rules.chains.insert(policy_chain(direction, name), lines);
            }
        }
        for (address, holder) in held {
            rules.sources.insert((holder.link(), *address));
            let none = Vec::new();
            let known = told.pods.get(&holder.pod).or_else(|| (holder.pod == OURS).then_some(&none));
            let Some(policies) = known else { continue };
            for direction in [Ingress, Egress] {
                let verdict = rules.door(direction, *address, policies, told);
                rules.doors.insert((direction, *address), verdict);
            }
        }
        rules.number = rules.digest();
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

    fn digest(&self) -> u32 {
        let mut hash = Sha256::new();
        for (id, set) in &self.sets {
            hash.update(format!("\nset {id}\n"));
            set.members.iter().for_each(|(address, port)| {
                hash.update(address.octets());
                hash.update(port.to_be_bytes());
            });
        }
        for (chain, rules) in &self.chains {
            hash.update(format!("\nchain {chain}\n{}", rules.join("\n")));
        }
        for ((direction, address), verdict) in &self.doors {
            hash.update(format!("\ndoor {} {address} {verdict}", direction.map()));
        }
        let [a, b, c, d, ..]: [u8; 32] = hash.finalize().into();
        u32::from_be_bytes([a, b, c, d]).max(1)
    }

    /// The transaction that makes `self` out of `old`; empty when they are equal.
    pub(super) fn since(&self, old: &Self) -> String {
        let mut out = String::new();
        let new_sets = self.sets.iter().filter(|(id, set)| old.sets.get(*id) != Some(set));
        new_sets.for_each(|(id, set)| set_change(&mut out, id, old.sets.get(id), set));
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
        self.change_doors(old, &mut out);
        for (link, address) in old.sources.difference(&self.sources) {
            let _ = writeln!(out, "delete element bridge {TABLE} sources {{ \"{link}\" . {address} }}");
        }
        for (link, address) in self.sources.difference(&old.sources) {
            let _ = writeln!(out, "add element bridge {TABLE} sources {{ \"{link}\" . {address} }}");
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
        if self.number != old.number {
            let _ = writeln!(
                out,
                "flush set ip {TABLE} judged\nadd element ip {TABLE} judged {{ {0} }}\n\
                 flush chain ip {TABLE} passed\nadd rule ip {TABLE} passed ct mark set {0}",
                self.number
            );
        }
        out
    }

    fn change_doors(&self, old: &Self, out: &mut String) {
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
    }
}

fn set_change(out: &mut String, id: &str, old: Option<&Set>, new: &Set) {
    if old.is_none() {
        let port = if new.with_ports { " . inet_service" } else { "" };
        let _ = writeln!(out, "add set ip {TABLE} s-{id} {{ type ipv4_addr{port}; }}");
    }
    let none = Members::new();
    let had = old.map_or(&none, |set| set.members.as_ref());
    elements(out, "delete", id, new.with_ports, had.difference(&new.members));
    elements(out, "add", id, new.with_ports, new.members.difference(had));
}

fn elements<'a>(
    out: &mut String,
    verb: &str,
    id: &str,
    with_ports: bool,
    members: impl Iterator<Item = &'a (Ipv4Addr, u16)>,
) {
    let shown = |(address, port): &(Ipv4Addr, u16)| match with_ports {
        true => format!("{address} . {port}"),
        false => address.to_string(),
    };
    let members: Vec<String> = members.map(shown).collect();
    for chunk in members.chunks(CHUNK) {
        let _ = writeln!(out, "{verb} element ip {TABLE} s-{id} {{ {} }}", chunk.join(", "));
    }
}

fn policy_chain(direction: Direction, name: &str) -> String {
    format!("policy-{}-{}", direction.map(), hex::encode(&Sha256::digest(name.as_bytes())[..8]))
}

#[cfg(test)]
mod tests;
