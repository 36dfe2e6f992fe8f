//! The Secrets with certificates: one watch for each that an Ingress of this node names.

use crate::tls;
use kybern_api::object::Object;
use kybern_client::informer::Informer;
use kybern_client::store::Name;
use kybern_client::transport::{Resource, Selection, Transport};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) struct Secrets {
    transport: Arc<dyn Transport>,
    provider: Arc<CryptoProvider>,
    cancel: CancellationToken,
    entries: HashMap<Name, Entry>,
    changed: Arc<Notify>,
}

struct Entry {
    informer: Arc<Informer>,
    /// The revision that was looked at last, and the newest certificate that could be used.
    seen: u64,
    certificate: Option<Arc<CertifiedKey>>,
    /// The watch ends with the entry.
    _watch: DropGuard,
}

impl Secrets {
    /// Nothing watched yet; all watches end with `cancel`.
    pub(crate) fn new(transport: Arc<dyn Transport>, provider: Arc<CryptoProvider>, cancel: CancellationToken) -> Self {
        Self { transport, provider, cancel, entries: HashMap::new(), changed: Arc::default() }
    }
    /// Waits for a change of one of them.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
    /// Watches these and no others.
    pub(crate) fn want(&mut self, names: BTreeSet<Name>) {
        self.entries.retain(|name, _| names.contains(name));
        for name in names {
            if !self.entries.contains_key(&name) {
                let entry = self.start(&name);
                self.entries.insert(name, entry);
            }
        }
    }

    fn start(&self, name: &Name) -> Entry {
        let cancel = self.cancel.child_token();
        let selection = Selection {
            namespace: name.namespace.to_string(),
            fields: format!("metadata.name={}", name.name),
            ..Selection::default()
        };
        let resource = Resource::new("", "v1", "secrets");
        let informer = Informer::start(self.transport.clone(), resource, selection, None, cancel.clone());
        let (mut changes, stop, changed) = (informer.subscribe(), cancel.clone(), self.changed.clone());
        tokio::spawn(async move {
            while let Some(Some(_)) = stop.run_until_cancelled(changes.recv()).await {
                changed.notify_one();
            }
        });
        Entry { informer, seen: 0, certificate: None, _watch: cancel.drop_guard() }
    }

    /// The certificate in a Secret. One that cannot be used leaves the last good one in its place; one that
    /// is gone leaves none.
    pub(crate) fn certificate(&mut self, name: &Name) -> Option<Arc<CertifiedKey>> {
        let entry = self.entries.get_mut(name)?;
        let Some(item) = entry.informer.get(name) else {
            (entry.seen, entry.certificate) = (0, None);
            return None;
        };
        if entry.seen != item.object.revision {
            entry.seen = item.object.revision;
            entry.take(&item.object, &self.provider);
        }
        entry.certificate.clone()
    }
}

impl Entry {
    fn take(&mut self, secret: &Object, provider: &CryptoProvider) {
        match tls::certificate(secret, provider) {
            Ok(certificate) => self.certificate = Some(Arc::new(certificate)),
            Err(e) => {
                let kept = self.certificate.is_some();
                tracing::warn!(secret = %secret.head.key(), kept, "no certificate: {e}");
            }
        }
    }
}
