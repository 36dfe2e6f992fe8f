//! What the servers have told about the policies of this node's pods.

use kybern_wire::node::{PolicyRules, PolicyUpdate};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Addresses, with ports where the set has them.
pub(super) type Members = BTreeSet<(Ipv4Addr, u16)>;

/// A set of pods' addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) with_ports: bool,
    pub(super) members: Arc<Members>,
}

/// The state that updates make.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Has a server said anything yet?
    pub(super) heard: bool,
    /// The policies that select a pod (`namespace/name`).
    pub(super) pods: BTreeMap<String, Vec<String>>,
    pub(super) policies: BTreeMap<String, PolicyRules>,
    pub(super) sets: BTreeMap<String, Set>,
}

impl Told {
    /// Takes in an update.
    pub(super) fn take(&mut self, update: PolicyUpdate) {
        if update.whole {
            *self = Self { heard: true, ..Self::default() };
        }
        update.gone_pods.iter().for_each(|name| drop(self.pods.remove(name)));
        update.gone_policies.iter().for_each(|name| drop(self.policies.remove(name)));
        update.gone_sets.iter().for_each(|id| drop(self.sets.remove(id)));
        self.pods.extend(update.pods.into_iter().map(|p| (p.name, p.policies)));
        self.policies.extend(update.policies.into_iter().map(|p| (p.name.clone(), p)));
        // An id becomes part of a name in a ruleset.
        for change in update.sets.into_iter().filter(|s| s.id.bytes().all(|b| b.is_ascii_hexdigit())) {
            let set = self.sets.entry(change.id).or_default();
            set.with_ports = change.with_ports;
            let members = Arc::make_mut(&mut set.members);
            let member = |m: &kybern_wire::node::SetMember| {
                (Ipv4Addr::from(m.address), u16::try_from(m.port).unwrap_or_default())
            };
            for gone in &change.remove {
                members.remove(&member(gone));
            }
            members.extend(change.add.iter().map(member));
        }
    }
}
