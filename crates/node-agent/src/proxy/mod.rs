//! The service proxy: Services and EndpointSlices to nftables verdict maps, each change one atomic
//! transaction made from committed in-memory state. Own table only; foreign rules stay untouched.

mod chains;
mod claims;
mod conntrack;
mod endpoints;
mod health;
mod model;
mod rules;
mod view;

pub use endpoints::Endpoint;
pub use health::HealthChecks;
pub use model::{Frontend, HealthCheck, Model, Outside, ServicePort};
pub use rules::{Change, Network};

use crate::nft::{NftError, Table};
use claims::{Claims, owner};
use std::collections::{BTreeMap, BTreeSet};

/// The table's name.
pub const TABLE: &str = "kybern";

/// Keeps the kernel's rules equal to the model.
#[derive(Debug)]
pub struct Proxy {
    model: Model,
    network: Network,
    /// What the kernel has, by service port.
    committed: BTreeMap<String, ServicePort>,
    claims: Claims,
    dirty: BTreeSet<String>,
    nft: Table,
    based: bool,
}

impl Proxy {
    /// A proxy for the node `node` with this network; its table is [`TABLE`].
    pub fn new(node: &str, network: Network, nft: Table) -> Self {
        let model = Model::new(node);
        let (committed, claims) = (BTreeMap::new(), Claims::default());
        Self { model, network, committed, claims, dirty: BTreeSet::new(), nft, based: false }
    }

    /// The model to feed with Services and EndpointSlices; [`Proxy::sync`] puts changes into force.
    pub fn model(&mut self) -> &mut Model {
        &mut self.model
    }

    /// Puts what changed since the last call into the kernel, as one transaction; says which services and
    /// pods that were. On an error nothing has changed there, and the next call tries again.
    ///
    /// # Errors
    /// When nft refuses the transaction.
    pub async fn sync(&mut self) -> Result<BTreeSet<String>, NftError> {
        self.dirty.append(&mut self.model.take_changed());
        let mut claims = self.claims.clone();
        let changes = self.changes(&mut claims);
        let text = match self.based {
            true => rules::transaction(&self.network, &changes),
            false => rules::base(&self.network) + &rules::transaction(&self.network, &changes),
        };
        if !text.is_empty() {
            self.nft.apply(&text).await?;
            self.based = true;
        }
        self.claims = claims;
        conntrack::forget(&changes).await;
        for change in changes {
            match change.new {
                Some(port) => self.committed.insert(change.key, port),
                None => self.committed.remove(&change.key),
            };
        }
        Ok(std::mem::take(&mut self.dirty))
    }

    /// Waits until somebody else has changed the table; then [`Proxy::invalidate`] is due.
    pub async fn disturbed(&mut self) {
        self.nft.disturbed().await;
    }

    /// Forgets what the kernel has: the next [`Proxy::sync`] writes the whole table anew.
    pub fn invalidate(&mut self) {
        self.based = false;
        self.committed.clear();
        self.claims = Claims::default();
        self.dirty = self.model.keys();
    }

    /// What has to change. Where two want the same port of the same address, who has it keeps it; the other
    /// gets it when it is given back.
    fn changes(&self, claims: &mut Claims) -> Vec<Change> {
        let mut wanted: BTreeMap<String, ServicePort> = BTreeMap::new();
        let mut touched = self.dirty.clone();
        let mut next = touched.clone();
        while !next.is_empty() {
            let ports: BTreeMap<String, ServicePort> = next.iter().flat_map(|k| self.model.ports(k)).collect();
            let present = next.iter().flat_map(|k| self.present(k));
            let waiting: BTreeSet<String> = present.flat_map(|(key, had)| claims.keep(had, ports.get(key))).collect();
            wanted.extend(ports);
            next = waiting.into_iter().map(|k| owner(&k).to_owned()).filter(|k| !touched.contains(k)).collect();
            touched.extend(next.iter().cloned());
        }
        let gone = touched.iter().flat_map(|k| self.present(k)).filter(|(k, _)| !wanted.contains_key(*k));
        let mut changes: Vec<Change> =
            gone.map(|(k, old)| Change { key: k.clone(), old: Some(old.clone()), new: None }).collect();
        for (key, mut port) in wanted {
            claims.take(&key, &mut port);
            let old = self.committed.get(&key).cloned();
            if old.as_ref() != Some(&port) {
                changes.push(Change { key, old, new: Some(port) });
            }
        }
        changes
    }

    /// The ports that the kernel has for one service or pod.
    fn present<'a>(&'a self, key: &str) -> impl Iterator<Item = (&'a String, &'a ServicePort)> + use<'a> {
        let prefix = format!("{key}:");
        self.committed.range(prefix.clone()..).take_while(move |(k, _)| k.starts_with(&prefix))
    }
}

#[cfg(test)]
mod tests;
