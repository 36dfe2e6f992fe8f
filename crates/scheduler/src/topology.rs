//! Which nodes share a value of a label: each value is a domain with a small number.

use crate::node::NodeInfo;
use smol_str::SmolStr;
use std::collections::HashMap;

/// The domain of a node without the label.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// The domains of one label key.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    /// By slot.
    domain: Vec<u32>,
    numbers: HashMap<SmolStr, u32>,
}

impl Topology {
    /// The domain of the node in a slot.
    pub(crate) fn of(&self, slot: usize) -> u32 {
        self.domain.get(slot).copied().unwrap_or(NOWHERE)
    }
    /// Domains there are or have been.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
    fn set(&mut self, slot: usize, value: Option<&str>) {
        if self.domain.len() <= slot {
            self.domain.resize(slot + 1, NOWHERE);
        }
        self.domain[slot] = value.map_or(NOWHERE, |v| {
            let next = u32::try_from(self.numbers.len()).unwrap_or(NOWHERE);
            *self.numbers.entry(v.into()).or_insert(next)
        });
    }
}

/// The topologies that anybody has asked for.
#[derive(Debug, Default)]
pub(crate) struct Topologies {
    by_key: HashMap<SmolStr, Topology>,
}

impl Topologies {
    /// A topology that was made before.
    pub(crate) fn get(&self, key: &str) -> Option<&Topology> {
        self.by_key.get(key)
    }
    /// Makes a topology where it is not there.
    pub(crate) fn ensure<'a>(&mut self, key: &SmolStr, nodes: impl Iterator<Item = (usize, &'a NodeInfo)>) {
        if self.by_key.contains_key(key) {
            return;
        }
        let mut topology = Topology::default();
        nodes.for_each(|(slot, node)| topology.set(slot, node.label(key)));
        self.by_key.insert(key.clone(), topology);
    }
    /// A slot has another node, or its node other labels. Topologies with many domains that are no
    /// more are dropped, to be made anew.
    pub(crate) fn changed(&mut self, slot: usize, node: Option<&NodeInfo>, nodes: usize) {
        self.by_key.retain(|_, t| t.len() <= 2 * nodes + 64);
        for (key, topology) in &mut self.by_key {
            topology.set(slot, node.and_then(|n| n.label(key)));
        }
    }
}
