//! Everything secret that the servers of a cluster share, on disk and on its way to a joining server.

use super::authority::{Authority, Issued, Subject, new_key_pem};
use super::files::{read_private, write_private};
use super::rotation::{Rotation, Successors};
use super::san::San;
use crate::error::{Error, Result};
use crate::seal::KeyRing;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How long a new CA lives.
pub(super) const CA_LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// How long a server's own certificates live; they are made anew at every start and at 80 % of it.
pub(super) const LEAF_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
/// The file in a server's directory of keys that holds them all.
const FILE: &str = "keys.json";

/// The CAs (one for each domain of trust), the service-account keys and the sealing keys.
#[derive(Debug)]
pub struct ClusterKeys {
    /// Signs what clients show: users, nodes, components.
    pub client_ca: Authority,
    /// Signs what API servers show.
    pub server_ca: Authority,
    /// Signs what Raft peers show to one another.
    pub peer_ca: Authority,
    /// Private keys of service-account tokens, PEM; the first signs, all verify.
    pub service_account: PrivatePems,
    /// Keys of secrets at rest.
    pub sealing: KeyRing,
    /// How far the replacement of CAs has come.
    pub rotation: Rotation,
    /// CAs that are trusted already and sign next.
    pub(super) successors: Option<Successors>,
}

/// Private keys as PEM; `Debug` shows their number.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivatePems(pub Vec<String>);

impl std::fmt::Debug for PrivatePems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} keys]", self.0.len())
    }
}

/// The portable form of [`ClusterKeys`]: what a joining server receives. No `Debug`, all of it is secret.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bundle {
    client_ca: PemPair,
    server_ca: PemPair,
    peer_ca: PemPair,
    service_account_keys: PrivatePems,
    sealing_keys: KeyRing,
    #[serde(default)]
    rotation: Rotation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    successors: Option<Successors>,
}

/// A CA as PEM. No `Debug`: it is secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PemPair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl PemPair {
    pub(super) fn of(ca: &Authority) -> Self {
        Self { certificate: ca.certificate_pem(), key: ca.key_pem() }
    }
    pub(super) fn load(&self) -> Result<Authority> {
        Authority::from_pem(&self.certificate, &self.key)
    }
}

impl ClusterKeys {
    /// All keys of a new cluster.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn create(now: Timestamp) -> Result<Self> {
        Ok(Self {
            client_ca: new_authority("client", now)?,
            server_ca: new_authority("server", now)?,
            peer_ca: new_authority("peer", now)?,
            service_account: PrivatePems(vec![new_key_pem()?]),
            sealing: KeyRing::create()?,
            rotation: Rotation::default(),
            successors: None,
        })
    }

    /// The JSON that hands everything to a joining server. Secret as a whole.
    ///
    /// # Errors
    /// Never in practice; the serialiser's signature says it may.
    pub fn to_bundle(&self) -> Result<String> {
        let bundle = Bundle {
            client_ca: PemPair::of(&self.client_ca),
            server_ca: PemPair::of(&self.server_ca),
            peer_ca: PemPair::of(&self.peer_ca),
            service_account_keys: self.service_account.clone(),
            sealing_keys: self.sealing.clone(),
            rotation: self.rotation.clone(),
            successors: self.successors.clone(),
        };
        serde_json::to_string(&bundle).map_err(|e| Error::malformed("server bundle", e))
    }

    /// Reads what [`Self::to_bundle`] wrote.
    ///
    /// # Errors
    /// At malformed JSON, PEM or keys that do not fit their certificates.
    pub fn from_bundle(text: &str) -> Result<Self> {
        // serde's message could quote a key: say only where
        let bundle: Bundle = serde_json::from_str(text)
            .map_err(|e| Error::malformed("server bundle", format!("line {} column {}", e.line(), e.column())))?;
        if bundle.service_account_keys.0.is_empty() || bundle.sealing_keys.is_empty() {
            return Err(Error::malformed("server bundle", "a key is missing"));
        }
        Ok(Self {
            client_ca: bundle.client_ca.load()?,
            server_ca: bundle.server_ca.load()?,
            peer_ca: bundle.peer_ca.load()?,
            service_account: bundle.service_account_keys,
            sealing: bundle.sealing_keys,
            rotation: bundle.rotation,
            successors: bundle.successors,
        })
    }

    /// Writes everything into `dir`: files of mode 600 in a directory of mode 700. All keys are one file, so
    /// that a crash leaves the old set or the new one; the CAs' certificates lie beside it for people to read.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn save(&self, dir: &Path) -> Result<()> {
        write_private(&dir.join(FILE), self.to_bundle()?.as_bytes(), true)?;
        for (name, ca) in self.authorities() {
            write_private(&dir.join(format!("{name}-ca.crt")), ca.certificate_pem().as_bytes(), true)?;
        }
        Ok(())
    }

    /// Reads what [`Self::save`] wrote; None where `dir` holds nothing.
    ///
    /// # Errors
    /// When it is unreadable or malformed.
    pub fn load(dir: &Path) -> Result<Option<Self>> {
        let file = dir.join(FILE);
        if file.exists() { Self::from_bundle(&read_private(&file)?).map(Some) } else { Ok(None) }
    }

    /// The CAs by the name of their domain.
    pub fn authorities(&self) -> [(&'static str, &Authority); 3] {
        [("client", &self.client_ca), ("server", &self.server_ca), ("peer", &self.peer_ca)]
    }

    /// A server's API certificate. `names` are its own addresses; the Service's are added.
    ///
    /// # Errors
    /// When the key cannot be made or used.
    pub fn serving_certificate(&self, node: &str, names: &[San], domain: &str, now: Timestamp) -> Result<Issued> {
        let mut sans: Vec<San> =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1"]
                .into_iter()
                .map(San::host)
                .collect();
        sans.push(San::Dns(format!("kubernetes.default.svc.{domain}")));
        sans.extend_from_slice(names);
        sans.sort();
        sans.dedup();
        let subject = Subject { common_name: node, sans: &sans, server: true, ..Subject::default() };
        self.server_ca.issue(&subject, now, LEAF_LIFETIME)
    }

    /// A Raft peer's certificate, for both ends of a connection.
    ///
    /// # Errors
    /// When the key cannot be made or used.
    pub fn peer_certificate(&self, node: &str, names: &[San], now: Timestamp) -> Result<Issued> {
        let subject = Subject { common_name: node, sans: names, server: true, client: true, ..Subject::default() };
        self.peer_ca.issue(&subject, now, LEAF_LIFETIME)
    }

    /// A client certificate for `user` in `groups`.
    ///
    /// # Errors
    /// When the key cannot be made or used.
    pub fn client_certificate(
        &self,
        user: &str,
        groups: &[&str],
        now: Timestamp,
        lifetime: SignedDuration,
    ) -> Result<Issued> {
        let subject = Subject { common_name: user, organizations: groups, client: true, ..Subject::default() };
        self.client_ca.issue(&subject, now, lifetime)
    }

    /// The administrator's client certificate (`kybern-admin` in `system:masters`), for a year.
    ///
    /// # Errors
    /// When the key cannot be made or used.
    pub fn admin_certificate(&self, now: Timestamp) -> Result<Issued> {
        self.client_certificate("kybern-admin", &["system:masters"], now, LEAF_LIFETIME)
    }
}

/// The instant in the name tells clusters, and a CA from its successor, apart.
pub(super) fn new_authority(domain: &str, now: Timestamp) -> Result<Authority> {
    Authority::create(&format!("kybern-{domain}-ca@{}", now.as_second()), now, CA_LIFETIME)
}
