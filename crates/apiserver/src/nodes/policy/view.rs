//! What one node is to know, and what changes from one such view to the next.

use kybern_wire::node::{AddressSet, PolicyPod, PolicyRules, PolicyUpdate, SetMember};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Addresses with ports (0: any).
pub(super) type Members = BTreeSet<(u32, u16)>;

/// The policies of a node's pods.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// The policies that select a pod, by pod.
    pub(super) pods: BTreeMap<String, Vec<String>>,
    pub(super) policies: BTreeMap<String, Arc<PolicyRules>>,
    /// Sets by id; the flag says that they hold ports.
    pub(super) sets: BTreeMap<String, (bool, Arc<Members>)>,
}

impl View {
    /// The update that makes `self` out of `old`; None when they are equal.
    pub(super) fn since(&self, old: &Self) -> Option<PolicyUpdate> {
        let mut update = PolicyUpdate {
            gone_pods: gone(&old.pods, &self.pods),
            gone_policies: gone(&old.policies, &self.policies),
            gone_sets: gone(&old.sets, &self.sets),
            ..PolicyUpdate::default()
        };
        for (name, policies) in changed(&old.pods, &self.pods) {
            update.pods.push(PolicyPod { name: name.clone(), policies: policies.clone() });
        }
        update.policies = changed(&old.policies, &self.policies).map(|(_, p)| p.as_ref().clone()).collect();
        for (id, (with_ports, new)) in &self.sets {
            match old.sets.get(id) {
                Some((_, had)) if Arc::ptr_eq(had, new) => {}
                Some((_, had)) if had == new => {}
                had => update.sets.push(set_change(id, *with_ports, had.map(|(_, m)| m.as_ref()), new)),
            }
        }
        (update != PolicyUpdate::default()).then_some(update)
    }
}

fn gone<T>(old: &BTreeMap<String, T>, new: &BTreeMap<String, T>) -> Vec<String> {
    old.keys().filter(|k| !new.contains_key(*k)).cloned().collect()
}

fn changed<'a, T: PartialEq>(
    old: &'a BTreeMap<String, T>,
    new: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = (&'a String, &'a T)> {
    new.iter().filter(|(k, v)| old.get(*k) != Some(v))
}

fn set_change(id: &str, with_ports: bool, old: Option<&Members>, new: &Members) -> AddressSet {
    let member = |m: &(u32, u16)| SetMember { address: m.0, port: m.1.into() };
    let empty = Members::new();
    let had = old.unwrap_or(&empty);
    AddressSet {
        id: id.to_owned(),
        with_ports,
        fresh: old.is_none(),
        add: new.difference(had).map(member).collect(),
        remove: had.difference(new).map(member).collect(),
    }
}
