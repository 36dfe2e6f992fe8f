//! One rule of a policy as nft rules: as few as there can be, whatever a policy lists. What cannot be
//! expressed accepts nothing.

use super::frame::Direction;
use super::told::Set;
use ipnet::{IpNet, Ipv4Net};
use kybern_wire::node::{PolicyBlock, PolicyPort, PolicyRule};
use std::collections::BTreeMap;
use std::fmt::Display;

type Sets = BTreeMap<String, Set>;
/// First and last port.
type Range = (u16, u16);

const ALL: Range = (0, u16::MAX);

/// The rule's lines: each peer with each port.
pub(super) fn lines(direction: Direction, rule: &PolicyRule, sets: &Sets) -> Vec<String> {
    let (peers, ports) = (peers(direction, rule, sets), ports(rule, sets));
    peers.iter().flat_map(|peer| ports.iter().map(move |port| format!("{peer}{port}accept"))).collect()
}

fn peers(direction: Direction, rule: &PolicyRule, sets: &Sets) -> Vec<String> {
    let blocks = blocks(&rule.blocks);
    if rule.anybody || blocks == [Ipv4Net::default()] {
        return vec![String::new()];
    }
    let side = direction.peer();
    let known = rule.sets.iter().filter(|id| sets.get(*id).is_some_and(|s| !s.with_ports));
    let mut peers: Vec<String> = known.map(|id| format!("{side} @s-{id} ")).collect();
    if !blocks.is_empty() {
        peers.push(format!("{side} {} ", list(&blocks)));
    }
    peers
}

/// The addresses of all blocks, without overlaps.
fn blocks(blocks: &[PolicyBlock]) -> Vec<Ipv4Net> {
    let v4 = |text: &String| match text.parse() {
        Ok(IpNet::V4(net)) => Some(net.trunc()),
        _ => None,
    };
    let mut all = Vec::new();
    for block in blocks {
        let Some(whole) = v4(&block.cidr) else { continue };
        let except: Vec<Ipv4Net> = block.except.iter().filter_map(v4).collect();
        without(whole, &except, &mut all);
    }
    Ipv4Net::aggregate(&all)
}

/// What is left of a block: halves that an exception touches are looked at in turn.
fn without(whole: Ipv4Net, except: &[Ipv4Net], out: &mut Vec<Ipv4Net>) {
    if except.iter().any(|e| e.contains(&whole)) {
        return;
    }
    let inside: Vec<Ipv4Net> = except.iter().filter(|e| whole.contains(*e)).copied().collect();
    match whole.subnets(whole.prefix_len() + 1) {
        Ok(halves) if !inside.is_empty() => halves.for_each(|half| without(half, &inside, out)),
        _ => out.push(whole),
    }
}

fn ports(rule: &PolicyRule, sets: &Sets) -> Vec<String> {
    if rule.any_port {
        return vec![String::new()];
    }
    let mut numbers: BTreeMap<&str, Vec<Range>> = BTreeMap::new();
    let mut out = Vec::new();
    for port in &rule.ports {
        let Some(protocol) = protocol(port) else { continue };
        if port.targets.is_empty() {
            numbers.entry(protocol).or_default().extend(range(port));
        } else if sets.get(&port.targets).is_some_and(|s| s.with_ports) {
            let targets = format!("ct reply ip saddr . ct reply proto-src @s-{}", port.targets);
            out.push(format!("{}{targets} ", of(protocol)));
        }
    }
    for (protocol, ranges) in numbers {
        match merged(ranges).as_slice() {
            [] => {}
            [ALL] => out.push(of(protocol)),
            ranges => {
                let shown = ranges.iter().map(|(first, last)| match first == last {
                    true => first.to_string(),
                    false => format!("{first}-{last}"),
                });
                out.push(format!("{}ct reply proto-src {} ", of(protocol), list(shown)));
            }
        }
    }
    out
}

/// The connection's protocol, not the packet's: an ICMP error belongs to its connection.
fn of(protocol: &str) -> String {
    format!("ct original protocol {protocol} ")
}

fn protocol(port: &PolicyPort) -> Option<&'static str> {
    match port.protocol.as_str() {
        "TCP" => Some("tcp"),
        "UDP" => Some("udp"),
        "SCTP" => Some("sctp"),
        _ => None,
    }
}

fn range(port: &PolicyPort) -> Option<Range> {
    let number = |n: u32| u16::try_from(n).ok();
    match (number(port.first)?, number(port.last)?) {
        (0, _) => Some(ALL),
        (first, last) => Some((first, last.max(first))),
    }
}

/// The same ports in as few ranges as possible.
fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut out: Vec<Range> = Vec::new();
    for (first, last) in ranges {
        match out.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

fn list(items: impl IntoIterator<Item: Display>) -> String {
    let texts: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    match texts.as_slice() {
        [only] => only.clone(),
        _ => format!("{{ {} }}", texts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cidr: &str, except: &[&str]) -> PolicyBlock {
        PolicyBlock { cidr: cidr.into(), except: except.iter().map(|e| (*e).to_owned()).collect() }
    }

    fn numbered(protocol: &str, first: u32, last: u32) -> PolicyPort {
        PolicyPort { protocol: protocol.into(), first, last, targets: String::new() }
    }

    fn shown(rule: &PolicyRule) -> Vec<String> {
        lines(Direction::Ingress, rule, &BTreeMap::new())
    }

    #[test]
    fn what_cannot_be_expressed_accepts_nothing() {
        let rule = PolicyRule {
            sets: vec!["gone".into()],
            blocks: vec![block("fd00::/8", &[]), block("x; accept", &[]), block("10.0.0.0/8", &["10.0.0.0/8"])],
            any_port: true,
            ..PolicyRule::default()
        };
        assert!(shown(&rule).is_empty());
        let ports = vec![numbered("ICMP", 1, 1), numbered("TCP", 70_000, 70_000)];
        assert!(shown(&PolicyRule { anybody: true, ports, ..PolicyRule::default() }).is_empty());
    }

    #[test]
    fn blocks_and_ports_become_one_line_per_protocol() {
        let blocks =
            vec![block("10.0.0.0/30", &["10.0.0.1/32"]), block("10.0.0.2/31", &[]), block("192.0.2.0/24", &[])];
        let ports = vec![
            numbered("TCP", 80, 80),
            numbered("TCP", 90, 100),
            numbered("TCP", 101, 110),
            numbered("UDP", 53, 53),
            numbered("SCTP", 0, 0),
            numbered("SCTP", 7, 7),
        ];
        let side = "ct original ip saddr { 10.0.0.0/32, 10.0.0.2/31, 192.0.2.0/24 } ct original protocol";
        assert_eq!(
            shown(&PolicyRule { blocks, ports, ..PolicyRule::default() }),
            [
                format!("{side} sctp accept"),
                format!("{side} tcp ct reply proto-src {{ 80, 90-110 }} accept"),
                format!("{side} udp ct reply proto-src 53 accept"),
            ]
        );
        let everywhere = vec![block("0.0.0.0/1", &[]), block("128.0.0.0/1", &[])];
        assert_eq!(shown(&PolicyRule { blocks: everywhere, any_port: true, ..PolicyRule::default() }), ["accept"]);
    }

    #[test]
    fn ten_thousand_blocks_are_one_rule() {
        let blocks = (0..10_000u32).map(|n| block(&format!("{}/32", std::net::Ipv4Addr::from(n * 2)), &[])).collect();
        assert_eq!(shown(&PolicyRule { blocks, any_port: true, ..PolicyRule::default() }).len(), 1);
    }
}
