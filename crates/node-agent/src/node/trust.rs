//! What the node shows to servers and whom it believes. Both are replaced while it runs: connections made
//! after that go by the new ones.

use super::certificate::{Credential, tls};
use crate::error::{Error, Result};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ClientConfig;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The node's side of TLS.
pub struct Trust {
    file: PathBuf,
    /// The servers' CAs (PEM), and what the node shows.
    parts: Mutex<(String, Option<Credential>)>,
    shown: ArcSwap<ClientConfig>,
    plain: ArcSwap<ClientConfig>,
}

impl Trust {
    /// Believes `ca` (PEM), which is kept in `file`, and shows the credential where there is one.
    ///
    /// # Errors
    /// When the PEM does not hold what it should.
    pub fn new(ca: &str, file: &Path, credential: Option<&Credential>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            file: file.to_owned(),
            shown: ArcSwap::from(tls(ca, credential)?),
            plain: ArcSwap::from(tls(ca, None)?),
            parts: Mutex::new((ca.to_owned(), credential.cloned())),
        }))
    }

    /// For connections as the node.
    pub fn tls(&self) -> Arc<ClientConfig> {
        self.shown.load_full()
    }

    /// For connections that show no certificate.
    pub fn plain(&self) -> Arc<ClientConfig> {
        self.plain.load_full()
    }

    /// Shows another credential from the next connection on.
    ///
    /// # Errors
    /// When it cannot be used; then nothing changes.
    pub fn show(&self, credential: &Credential) -> Result<()> {
        let mut parts = self.parts.lock();
        self.shown.store(tls(&parts.0, Some(credential))?);
        parts.1 = Some(credential.clone());
        Ok(())
    }

    /// Believes other CAs from the next connection on, and after a restart.
    ///
    /// # Errors
    /// When they cannot be used, share no CA with the present ones (a node that took them could never speak to
    /// its cluster again), or cannot be kept. Then nothing changes.
    pub fn believe(&self, ca: &str) -> Result<()> {
        let mut parts = self.parts.lock();
        if parts.0 == ca {
            return Ok(());
        }
        let (old, new) = (certificates(&parts.0)?, certificates(ca)?);
        if !new.iter().any(|c| old.contains(c)) {
            return Err(Error::Certificate(
                "the CAs that were published have none in common with the known ones".into(),
            ));
        }
        let (shown, plain) = (tls(ca, parts.1.as_ref())?, tls(ca, None)?);
        keep(&self.file, ca).map_err(Error::file("replace", &self.file))?;
        self.shown.store(shown);
        self.plain.store(plain);
        ca.clone_into(&mut parts.0);
        Ok(())
    }
}

fn certificates(pem: &str) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>> {
    rustls_pemfile::certs(&mut pem.as_bytes())
        .collect::<std::io::Result<_>>()
        .map_err(|e| Error::Certificate(e.to_string()))
}

/// Replaces the file as a whole.
fn keep(file: &Path, text: &str) -> std::io::Result<()> {
    let next = file.with_extension("new");
    std::fs::remove_file(&next).or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&next, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn ca() -> String {
        let key = KeyPair::generate().expect("key");
        CertificateParams::new(Vec::new()).expect("params").self_signed(&key).expect("signed").pem()
    }

    #[test]
    fn cas_are_replaced_by_way_of_both_and_outlive_the_process() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("server-ca.crt");
        let (old, new) = (ca(), ca());
        let trust = Trust::new(&old, &file, None).expect("trust");
        let before = trust.tls();
        trust.believe(&old).expect("the same again");
        assert!(Arc::ptr_eq(&before, &trust.tls()) && !file.exists(), "nothing to do");
        assert!(trust.believe(&new).is_err(), "strangers' CAs");
        assert!(trust.believe("rubbish").is_err() && trust.believe("").is_err());
        assert!(Arc::ptr_eq(&before, &trust.tls()) && !file.exists(), "what was refused changes nothing");
        let both = format!("{old}{new}");
        trust.believe(&both).expect("both");
        assert_eq!(std::fs::read_to_string(&file).expect("kept"), both);
        assert!(!Arc::ptr_eq(&before, &trust.tls()));
        trust.believe(&new).expect("the new one alone");
        assert_eq!(std::fs::read_to_string(&file).expect("kept"), new);
        assert!(trust.believe(&old).is_err(), "there is no way back");
    }
}
