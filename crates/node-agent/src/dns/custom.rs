//! Stub domains and hosts, from a config map in the words of a Corefile: a closed set of them. Pure.
//!
//! Keys that end in `.server` hold server blocks (a zone and what to do with its names), those that end in
//! `.override` hold lines for all other names.

use super::forward::Upstream;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What is asked elsewhere, and what is answered from a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Custom {
    /// Servers by zone; the empty zone is everything else.
    stubs: BTreeMap<String, Upstream>,
    hosts: BTreeMap<String, BTreeSet<Ipv4Addr>>,
    names: BTreeMap<Ipv4Addr, BTreeSet<String>>,
}

/// Plugins that change no answer here: what they do, every node's DNS does or needs not.
const QUIET: [&str; 12] = [
    "errors",
    "log",
    "cache",
    "loop",
    "reload",
    "loadbalance",
    "ready",
    "health",
    "prometheus",
    "debug",
    "bufsize",
    "lameduck",
];
/// Lines in `hosts` that are no hosts. What is not in the list always goes on as with `fallthrough`.
const HOSTS: [&str; 4] = ["fallthrough", "ttl", "reload", "no_reverse"];

/// A line, and those in its braces.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    words: Vec<&'a str>,
    inside: Vec<Line<'a>>,
}

impl Custom {
    /// Reads the data of the config map, and says what is wrong with it. What is wrong is as if it were not
    /// there.
    pub fn read(data: &BTreeMap<String, String>) -> (Self, Vec<String>) {
        let (mut custom, mut problems) = (Self::default(), Vec::new());
        for (key, text) in data {
            let read = match (lines(text), key.rsplit_once('.')) {
                (Ok(blocks), Some((_, "server"))) => blocks.iter().flat_map(|b| custom.server(b)).collect(),
                (Ok(lines), Some((_, "override"))) => custom.block(&[String::new()], &lines),
                (Err(e), Some((_, "server" | "override"))) => vec![e],
                _ => vec!["its key ends neither in .server nor in .override".to_owned()],
            };
            problems.extend(read.into_iter().map(|problem| format!("{key}: {problem}")));
        }
        (custom, problems)
    }

    /// The addresses of a name in lower case without its final dot.
    pub fn addresses(&self, name: &str) -> Option<&BTreeSet<Ipv4Addr>> {
        self.hosts.get(name)
    }

    /// The names of an address.
    pub fn names(&self, address: Ipv4Addr) -> Option<&BTreeSet<String>> {
        self.names.get(&address)
    }

    /// Who is asked for a name: the servers of the longest zone it is in.
    pub fn upstream(&self, name: &str) -> Option<&Upstream> {
        let mut zone = name;
        loop {
            if let Some(found) = self.stubs.get(zone) {
                return Some(found);
            }
            zone = match zone.split_once('.') {
                Some((_, rest)) => rest,
                None if zone.is_empty() => return None,
                None => "",
            };
        }
    }

    fn server(&mut self, block: &Line<'_>) -> Vec<String> {
        let zones: Vec<String> = block.words.iter().map(|word| zone(word)).collect();
        match zones.iter().find(|z| !is_name(z)) {
            Some(wrong) => vec![format!("{wrong} is no zone")],
            None => self.block(&zones, &block.inside),
        }
    }

    fn block(&mut self, zones: &[String], lines: &[Line<'_>]) -> Vec<String> {
        let mut problems = Vec::new();
        for line in lines {
            let done = match line.words.as_slice() {
                ["forward", from, to @ ..] => self.forward(zones, from, to),
                ["hosts"] => line.inside.iter().try_for_each(|l| self.host(&l.words)),
                ["hosts", ..] => Err("hosts from files are not supported".to_owned()),
                [word, ..] if QUIET.contains(word) => Ok(()),
                words => Err(format!("{} is not supported", words.join(" "))),
            };
            problems.extend(done.err());
        }
        problems
    }

    fn forward(&mut self, zones: &[String], from: &str, to: &[&str]) -> Result<(), String> {
        let servers = to.iter().map(|t| server(t).ok_or_else(|| format!("{t} is no address of a server")));
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return Err("forward names no server".to_owned());
        }
        let from = zone(from);
        for zone in zones {
            // The whole zone, or one below it.
            let inner = if from.is_empty() { zone } else { &from };
            self.stubs.insert(inner.clone(), Upstream::new(servers.clone()));
        }
        Ok(())
    }

    fn host(&mut self, words: &[&str]) -> Result<(), String> {
        let [first, names @ ..] = words else { return Ok(()) };
        if HOSTS.contains(first) {
            return Ok(());
        }
        let address: IpAddr = first.parse().map_err(|_| format!("{first} is no address"))?;
        let IpAddr::V4(address) = address else { return Err(format!("{address}: only IPv4 addresses are served")) };
        for name in names.iter().map(|n| zone(n)) {
            if name.is_empty() || !is_name(&name) {
                return Err(format!("{name} is no name of a host"));
            }
            self.names.entry(address).or_default().insert(name.clone());
            self.hosts.entry(name).or_default().insert(address);
        }
        Ok(())
    }
}

/// A zone's name in lower case, without scheme, port and final dot; the root is the empty name.
fn zone(word: &str) -> String {
    let word = word.strip_prefix("dns://").unwrap_or(word);
    let name = word.rsplit_once(':').map_or(word, |(name, _)| name);
    name.trim_end_matches('.').to_lowercase()
}

fn is_name(text: &str) -> bool {
    let label =
        |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    text.is_empty() || (text.len() <= 253 && text.split('.').all(label))
}

fn server(word: &str) -> Option<SocketAddr> {
    let word = word.strip_prefix("dns://").unwrap_or(word);
    let with_port = || Some(SocketAddr::new(word.parse().ok()?, 53));
    word.parse().ok().or_else(with_port)
}

/// The lines of a text with what their braces hold.
fn lines(text: &str) -> Result<Vec<Line<'_>>, String> {
    let mut open: Vec<Line<'_>> = vec![Line { words: Vec::new(), inside: Vec::new() }];
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words: Vec<&str> = line.split_whitespace().collect();
        match words.last() {
            None => {}
            Some(&"}") if words.len() == 1 && open.len() > 1 => close(&mut open),
            Some(&"{") => {
                words.pop();
                open.push(Line { words, inside: Vec::new() });
            }
            Some(_) if words.iter().any(|w| w.contains(['{', '}'])) => {
                return Err("braces open at the end of a line and close on one of their own".to_owned());
            }
            Some(_) => {
                open.push(Line { words, inside: Vec::new() });
                close(&mut open);
            }
        }
    }
    match open.pop() {
        Some(all) if open.is_empty() => Ok(all.inside),
        _ => Err("a brace is not closed".to_owned()),
    }
}

/// Puts the innermost line where it belongs.
fn close(open: &mut Vec<Line<'_>>) {
    if let Some(line) = open.pop()
        && let Some(outer) = open.last_mut()
    {
        outer.inside.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(&str, &str)]) -> (Custom, Vec<String>) {
        Custom::read(&entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    fn asked(custom: &Custom, name: &str) -> String {
        custom.upstream(name).map(|u| format!("{u:?}")).unwrap_or_default()
    }

    #[test]
    fn zones_hosts_and_the_rest_are_led_where_they_say() {
        let (custom, problems) = read(&[
            (
                "corp.server",
                "Corp.Example:53 b.example {\n  errors # of its own\n  cache 30\n  forward . 192.0.2.1 dns://192.0.2.2:5353\n}\n\
                 deep.corp.example {\n  forward . 192.0.2.3\n}\n",
            ),
            (
                "x.override",
                "hosts {\n  192.0.2.7 A.example b.test.\n  192.0.2.8 a.example\n  fallthrough\n}\nforward . 192.0.2.9\n",
            ),
        ]);
        assert_eq!(problems, [""; 0]);
        for (name, server) in [
            ("x.corp.example", "192.0.2.2:5353"),
            ("corp.example", "192.0.2.1:53"),
            ("a.b.example", "192.0.2.1:53"),
            ("x.deep.corp.example", "192.0.2.3:53"),
            ("notcorp.example", "192.0.2.9:53"),
        ] {
            assert!(asked(&custom, name).contains(server), "{name}: {}", asked(&custom, name));
        }
        let addresses: Vec<_> = custom.addresses("a.example").into_iter().flatten().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.7", "192.0.2.8"]);
        let names: Vec<_> = custom.names([192, 0, 2, 7].into()).into_iter().flatten().collect();
        assert_eq!(names, ["a.example", "b.test"]);
        assert!(read(&[]).0.upstream("a.example").is_none());
    }

    #[test]
    fn what_is_wrong_is_said_and_not_there() {
        let (custom, problems) = read(&[
            ("a.server", "corp.example {\n  forward . tls://192.0.2.1\n  rewrite name a b\n}\n"),
            ("b.server", "corp.example { forward . 192.0.2.1 }"),
            ("c.server", "corp.example {\n forward . 192.0.2.1\n"),
            ("d.override", "hosts {\n nowhere a\n}\nhosts /etc/hosts\nforward .\n"),
            ("e.override", "hosts {\n ::1 a\n}\nhosts {\n 192.0.2.1 a b..c\n}\n"),
            ("f.server", "a..b {\n forward . 192.0.2.1\n}\n"),
            ("readme", ""),
        ]);
        assert_eq!((custom.stubs.len(), custom.upstream("corp.example")), (0, None));
        let expected = [
            "a.server: tls://192.0.2.1 is no address of a server",
            "a.server: rewrite name a b is not supported",
            "b.server: braces open at the end of a line and close on one of their own",
            "c.server: a brace is not closed",
            "d.override: nowhere is no address",
            "d.override: hosts from files are not supported",
            "d.override: forward names no server",
            "e.override: ::1: only IPv4 addresses are served",
            "e.override: b..c is no name of a host",
            "f.server: a..b is no zone",
            "readme: its key ends neither in .server nor in .override",
        ];
        assert_eq!(problems, expected);
    }
}
