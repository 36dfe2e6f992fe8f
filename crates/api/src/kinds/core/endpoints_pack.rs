//! One way to write endpoints: subsets with the same addresses are one subset with all their ports,
//! addresses are there once and in order.

use crate::tree;
use serde_json::{Map, Value};

/// The lists of addresses, and whether those in them are ready.
const LISTS: [(&str, bool); 2] = [("addresses", true), ("notReadyAddresses", false)];

/// Addresses by what tells them apart, with whether they are ready.
type Addresses = Vec<(Identity, Value, bool)>;
/// Address and uid of what has it.
type Identity = (String, String);

/// Rewrites `subsets`; what is not valid is left for the validation to refuse.
pub(super) fn pack(obj: &mut Value) {
    let subsets = tree::list(obj, "subsets");
    let addressed = |subset: &Value| LISTS.iter().any(|(list, _)| !tree::list(subset, list).is_empty());
    if subsets.is_empty() || !subsets.iter().all(addressed) {
        return;
    }
    let packed = group(by_port(subsets));
    obj["subsets"] = packed.into_iter().map(|(ports, addresses)| subset(ports, addresses)).collect();
}

/// Every port with the addresses that have it, in the order they come; null stands for no port.
fn by_port(subsets: &[Value]) -> Vec<(Value, Addresses)> {
    let mut found: Vec<(Value, Addresses)> = Vec::new();
    for subset in subsets {
        let ports = tree::list(subset, "ports");
        let ports = if ports.is_empty() { &[Value::Null] } else { ports };
        for port in ports {
            let at = found.iter().position(|(known, _)| known == port).unwrap_or_else(|| {
                found.push((port.clone(), Vec::new()));
                found.len() - 1
            });
            for (list, ready) in LISTS {
                tree::list(subset, list).iter().for_each(|address| add(&mut found[at].1, address, ready));
            }
        }
    }
    found
}

/// Adds an address; one that is ready in one place and not in another is not ready.
fn add(addresses: &mut Addresses, address: &Value, ready: bool) {
    let identity = (tree::text(address, "ip").to_owned(), tree::text(address, "targetRef.uid").to_owned());
    match addresses.binary_search_by(|(known, ..)| known.cmp(&identity)) {
        Ok(at) => addresses[at].2 &= ready,
        Err(at) => addresses.insert(at, (identity, address.clone(), ready)),
    }
}

/// Ports that have the same addresses, together.
fn group(ports: Vec<(Value, Addresses)>) -> Vec<(Vec<Value>, Addresses)> {
    let mut groups: Vec<(Vec<Value>, Addresses)> = Vec::new();
    for (port, addresses) in ports {
        let same = |known: &Addresses| {
            known.len() == addresses.len() && known.iter().zip(&addresses).all(|(a, b)| a.0 == b.0 && a.2 == b.2)
        };
        match groups.iter_mut().find(|(_, known)| same(known)) {
            Some((all, _)) => all.push(port),
            None => groups.push((vec![port], addresses)),
        }
    }
    groups
}

fn subset(ports: Vec<Value>, addresses: Addresses) -> Value {
    let mut out = Map::new();
    for (list, is_ready) in LISTS {
        let part: Vec<Value> =
            addresses.iter().filter(|(.., ready)| *ready == is_ready).map(|(_, address, _)| address.clone()).collect();
        if !part.is_empty() {
            out.insert(list.to_owned(), part.into());
        }
    }
    let ports: Vec<Value> = ports.into_iter().filter(|port| !port.is_null()).collect();
    if !ports.is_empty() {
        out.insert("ports".to_owned(), ports.into());
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn subsets_are_packed_once_and_for_all() {
        let mut endpoints = json!({"subsets": [
            {"addresses": [{"ip": "10.0.0.2"}, {"ip": "10.0.0.1"}], "ports": [{"name": "a", "port": 1}]},
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}, {"ip": "10.0.0.1"}], "ports": [{"name": "b", "port": 2}]},
            {"addresses": [{"ip": "10.0.0.3"}], "notReadyAddresses": [{"ip": "10.0.0.3"}, {"ip": "10.0.0.1"}]},
        ]});
        let packed = json!({"subsets": [
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
                "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]},
            {"notReadyAddresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.3"}]},
        ]});
        for _ in 0..2 {
            pack(&mut endpoints);
            assert_eq!(endpoints, packed);
        }
        let mut bad = json!({"subsets": [{"ports": []}, 5]});
        pack(&mut bad);
        assert_eq!(bad, json!({"subsets": [{"ports": []}, 5]}));
    }
}
