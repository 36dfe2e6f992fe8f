//! The service proxy: Services and EndpointSlices to nftables verdict maps, each change one atomic
//! transaction made from committed in-memory state. Own table only; foreign rules stay untouched.

mod model;
mod nft;
mod rules;

pub use model::{Endpoint, Frontend, Model, SERVICE_NAME, ServicePort};
pub use nft::{Nft, NftError};
pub use rules::{Changes, Network};

use std::collections::{BTreeMap, BTreeSet};

/// Keeps the kernel's rules equal to the model.
#[derive(Debug)]
pub struct Proxy {
    model: Model,
    network: Network,
    /// What the kernel has, by service port.
    committed: BTreeMap<String, ServicePort>,
    dirty: BTreeSet<String>,
    nft: Nft,
    based: bool,
}

impl Proxy {
    /// A proxy for the node `node` with this network.
    pub fn new(node: &str, network: Network, nft: Nft) -> Self {
        let model = Model::new(node);
        Self { model, network, committed: BTreeMap::new(), dirty: BTreeSet::new(), nft, based: false }
    }

    /// The model to feed with Services and EndpointSlices; [`Proxy::sync`] puts changes into force.
    pub fn model(&mut self) -> &mut Model {
        &mut self.model
    }

    /// Puts what changed since the last call into the kernel, as one transaction. On an error nothing
    /// has changed there, and the next call tries again.
    ///
    /// # Errors
    /// When nft refuses the transaction.
    pub async fn sync(&mut self) -> Result<(), NftError> {
        self.dirty.append(&mut self.model.take_changed());
        let mut changes = Changes::default();
        for service in &self.dirty {
            self.collect(service, &mut changes);
        }
        let text = match self.based {
            true => rules::transaction(&self.network, &changes),
            false => rules::base(&self.network) + &rules::transaction(&self.network, &changes),
        };
        if text.is_empty() {
            self.dirty.clear();
            return Ok(());
        }
        self.nft.apply(&text).await?;
        self.based = true;
        for (key, _) in changes.removed {
            self.committed.remove(&key);
        }
        self.committed.extend(changes.set);
        self.dirty.clear();
        Ok(())
    }

    /// Forgets what the kernel has: the next [`Proxy::sync`] writes the whole table anew.
    pub fn invalidate(&mut self) {
        self.based = false;
        self.committed.clear();
        self.dirty = self.model.services();
    }

    fn collect(&self, service: &str, changes: &mut Changes) {
        let wanted = self.model.ports(service);
        let prefix = format!("{service}:");
        let present = self.committed.range(prefix.clone()..).take_while(|(k, _)| k.starts_with(&prefix));
        for (key, old) in present {
            match wanted.get(key) {
                Some(new) if new == old => {}
                Some(_) => changes.stale.push(old.clone()),
                None => changes.removed.push((key.clone(), old.clone())),
            }
        }
        changes.set.extend(wanted.into_iter().filter(|(k, v)| self.committed.get(k) != Some(v)));
    }
}
