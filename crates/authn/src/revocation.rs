//! Client certificates that are good but no longer wanted: a leaked one stays valid until it expires, so
//! its fingerprint is listed in a ConfigMap that every server looks at on every request.

use arc_swap::ArcSwap;
use kybern_api::seam::Lister;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where the list is.
pub const NAMESPACE: &str = "kube-system";
/// The ConfigMap: a key is a certificate's SHA-256 in lower-case hex, its value says why.
pub const CONFIG_MAP: &str = "kybern-revoked-certificates";

/// The list as it was read last.
#[derive(Debug, Default)]
pub(crate) struct Revoked(ArcSwap<Read>);

#[derive(Debug, Default)]
struct Read {
    revision: u64,
    reasons: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct View {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

impl Revoked {
    /// Why this certificate is no longer good, if it is not.
    pub(crate) fn reason(&self, fingerprint: &str, objects: &dyn Lister) -> Option<String> {
        let list = objects.get("", "configmaps", NAMESPACE, CONFIG_MAP)?;
        let mut read = self.0.load_full();
        if read.revision != list.revision {
            // What cannot be read revokes nothing new; it must not let back in what was revoked before.
            if let Ok(view) = serde_json::from_slice::<View>(&list.bytes) {
                read = Arc::new(Read { revision: list.revision, reasons: view.data });
                self.0.store(read.clone());
            }
        }
        read.reasons.get(fingerprint).cloned()
    }
}
