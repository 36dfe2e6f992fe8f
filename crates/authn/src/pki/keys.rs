//! Everything secret that the servers of a cluster share, on disk and on its way to a joining server.

use super::authority::{Authority, Issued, Subject, new_key_pem};
use super::files::{read_private, write_private};
use super::san::San;
use crate::error::{Error, Result};
use crate::seal::KeyRing;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How long a new CA lives.
const CA_LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// How long a server's own certificates live; they are made anew at every start and at 80 % of it.
const LEAF_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);

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
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PemPair {
    certificate: String,
    key: String,
}

impl PemPair {
    fn of(ca: &Authority) -> Self {
        Self { certificate: ca.certificate_pem(), key: ca.key_pem() }
    }
    fn load(&self) -> Result<Authority> {
        Authority::from_pem(&self.certificate, &self.key)
    }
}

impl ClusterKeys {
    /// All keys of a new cluster.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn create(now: Timestamp) -> Result<Self> {
        // the instant in the name tells clusters apart that meet in one trust store
        let ca = |what: &str| Authority::create(&format!("kybern-{what}-ca@{}", now.as_second()), now, CA_LIFETIME);
        Ok(Self {
            client_ca: ca("client")?,
            server_ca: ca("server")?,
            peer_ca: ca("peer")?,
            service_account: PrivatePems(vec![new_key_pem()?]),
            sealing: KeyRing::create()?,
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
        })
    }

    /// Writes every key into `dir`: files of mode 600 in a directory of mode 700.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn save(&self, dir: &Path) -> Result<()> {
        for (name, ca) in self.authorities() {
            write_private(&dir.join(format!("{name}-ca.key")), ca.key_pem().as_bytes(), true)?;
            write_private(&dir.join(format!("{name}-ca.crt")), ca.certificate_pem().as_bytes(), true)?;
        }
        let keys = serde_json::to_string(&self.service_account).map_err(|e| Error::malformed("keys", e))?;
        write_private(&dir.join("service-account-keys.json"), keys.as_bytes(), true)?;
        // last: its presence says that the directory is complete
        write_private(&dir.join("sealing-keys.json"), self.sealing.to_json()?.as_bytes(), true)
    }

    /// Reads what [`Self::save`] wrote; None where `dir` holds no complete set.
    ///
    /// # Errors
    /// When a file of a complete set is missing or malformed.
    pub fn load(dir: &Path) -> Result<Option<Self>> {
        if !dir.join("sealing-keys.json").exists() {
            return Ok(None);
        }
        let ca = |name: &str| {
            Authority::from_pem(
                &read_private(&dir.join(format!("{name}-ca.crt")))?,
                &read_private(&dir.join(format!("{name}-ca.key")))?,
            )
        };
        let service_account: PrivatePems = serde_json::from_str(&read_private(&dir.join("service-account-keys.json"))?)
            .map_err(|e| {
                Error::malformed("service-account keys", format!("line {} column {}", e.line(), e.column()))
            })?;
        Ok(Some(Self {
            client_ca: ca("client")?,
            server_ca: ca("server")?,
            peer_ca: ca("peer")?,
            service_account,
            sealing: KeyRing::from_json(&read_private(&dir.join("sealing-keys.json"))?)?,
        }))
    }

    fn authorities(&self) -> [(&'static str, &Authority); 3] {
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
