//! Who holds which address and port of the node. Two services, or a service and a pod, may ask for the same
//! one; the kernel's map has room for one of them.

use super::model::{Frontend, ServicePort};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// A place in one of the kernel's maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Cluster(Ipv4Addr, u16),
    Address(Ipv4Addr, u16),
    Node(u16),
    Host(u16),
}

impl Place {
    fn of(frontend: Frontend) -> Self {
        match frontend {
            Frontend::Cluster(a, p) => Self::Cluster(a, p),
            Frontend::External(a, p) | Frontend::Balancer(a, p) => Self::Address(a, p),
            Frontend::Node(p) => Self::Node(p),
            Frontend::Host(p) => Self::Host(p),
        }
    }
}

type Slot = (&'static str, Place);

/// Holders and those that wait for them to give up.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    held: BTreeMap<Slot, String>,
    waiting: BTreeMap<Slot, BTreeSet<String>>,
}

/// The service or pod that a port's key belongs to: `namespace/name:port` without what follows the name.
pub(super) fn owner(key: &str) -> &str {
    let name = key.find('/').map_or(0, |i| i + 1);
    key[name..].find(':').map_or(key, |i| &key[..name + i])
}

impl Claims {
    /// Gives back what a port had and no longer wants; those that waited for it.
    pub(super) fn keep(&mut self, had: &ServicePort, wants: Option<&ServicePort>) -> BTreeSet<String> {
        let wants: BTreeSet<Slot> = wants.into_iter().flat_map(slots).collect();
        let mut waited = BTreeSet::new();
        for slot in slots(had).filter(|s| !wants.contains(s)) {
            self.held.remove(&slot);
            waited.append(&mut self.waiting.remove(&slot).unwrap_or_default());
        }
        waited
    }

    /// Takes what the port wants; what another holds is taken out of it.
    pub(super) fn take(&mut self, key: &str, port: &mut ServicePort) {
        let (protocol, mut seen) = (port.protocol, BTreeSet::new());
        port.frontends.retain(|f| {
            let slot = (protocol, Place::of(*f));
            let holder = self.held.entry(slot).or_insert_with(|| key.to_owned());
            if holder != key {
                tracing::warn!(port = key, %holder, "{f:?}/{protocol} is in use and is not served for this one");
                self.waiting.entry(slot).or_default().insert(key.to_owned());
            }
            holder == key && seen.insert(slot)
        });
    }
}

fn slots(port: &ServicePort) -> impl Iterator<Item = Slot> {
    port.frontends.iter().map(|f| (port.protocol, Place::of(*f)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ports_owner_is_its_service_or_pod() {
        assert_eq!(owner("d/web:80/tcp"), "d/web");
        assert_eq!(owner("pod:d/web:127.0.0.1:80/tcp"), "pod:d/web");
    }
}
