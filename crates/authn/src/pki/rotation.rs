//! The CAs of a running cluster are replaced in three steps: the new ones are trusted besides the old, then
//! they sign, then the old are trusted no more. Pure: a set of keys in, the next set out. Who takes a step
//! when is the caller's business: a step is safe once everybody has taken the one before.

use super::authority::Authority;
use super::keys::{ClusterKeys, LEAF_LIFETIME, PemPair, new_authority};
use super::{BACKDATE, Issued, certificates, fingerprint, subject_texts, validity};
use crate::error::{Error, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How far a set of keys is from the one that the cluster was founded with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Rotation {
    /// Counts the steps. A server takes a set over only when its count is higher than that of its own.
    pub generation: u64,
    /// The step at which leaf certificates were last to be made anew.
    pub leaves: u64,
    /// What asked for the present or last change.
    pub request: String,
    /// SHA-256 of server CAs of former times: join tokens may still name them.
    pub retired: Vec<String>,
}

/// Where a replacement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// One CA in each domain.
    Settled,
    /// The new CAs are trusted, the old ones sign.
    Announced,
    /// The new ones sign, the old are still trusted.
    Switched,
}

/// CAs that sign next.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Successors {
    client: PemPair,
    server: PemPair,
    peer: PemPair,
}

impl std::fmt::Debug for Successors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Successors { .. }")
    }
}

impl ClusterKeys {
    /// Where a replacement of its CAs stands.
    pub fn phase(&self) -> Phase {
        match &self.successors {
            Some(_) => Phase::Announced,
            None if self.authorities().iter().any(|(_, ca)| ca.trusted().len() > 1) => Phase::Switched,
            None => Phase::Settled,
        }
    }

    /// When the first of its CAs should be replaced.
    pub fn renew_at(&self) -> Timestamp {
        let times = self.authorities().map(|(_, ca)| ca.renew_at());
        times.into_iter().min().unwrap_or(Timestamp::MAX)
    }

    /// First step: makes new CAs, which are trusted from now on.
    ///
    /// # Errors
    /// While another replacement is under way.
    pub fn announce(&self, request: &str, now: Timestamp) -> Result<Self> {
        self.must_be(Phase::Settled)?;
        let [client, server, peer] = self.authorities().map(|(domain, old)| {
            let new = new_authority(domain, now)?;
            let both = Authority::from_pem(&(old.issuing_pem() + &new.issuing_pem()), &old.key_pem())?;
            Ok::<_, Error>((both, PemPair::of(&new)))
        });
        let ((client_ca, client), (server_ca, server), (peer_ca, peer)) = (client?, server?, peer?);
        let rotation = Rotation { request: request.to_owned(), ..self.next(false) };
        Ok(self.with([client_ca, server_ca, peer_ca], Some(Successors { client, server, peer }), rotation))
    }

    /// Second step: the new CAs sign.
    ///
    /// # Errors
    /// When none were announced.
    pub fn switch(&self) -> Result<Self> {
        let next = self.successors.as_ref().ok_or_else(|| Error::Refused("no new CAs were announced".into()))?;
        let [client, server, peer] =
            [(&self.client_ca, &next.client), (&self.server_ca, &next.server), (&self.peer_ca, &next.peer)]
                .map(|(old, new)| Authority::from_pem(&(new.certificate.clone() + &old.issuing_pem()), &new.key));
        Ok(self.with([client?, server?, peer?], None, self.next(true)))
    }

    /// Third step: the old CAs are trusted no more.
    ///
    /// # Errors
    /// When the new ones do not sign yet.
    pub fn drop_old(&self) -> Result<Self> {
        self.must_be(Phase::Switched)?;
        let [client, server, peer] =
            self.authorities().map(|(_, ca)| Authority::from_pem(&ca.issuing_pem(), &ca.key_pem()));
        let mut rotation = self.next(false);
        rotation.retired.extend(self.server_ca.trusted().iter().skip(1).map(|old| fingerprint(old)));
        Ok(self.with([client?, server?, peer?], None, rotation))
    }

    /// Leaves the CAs alone and asks for new leaf certificates.
    ///
    /// # Errors
    /// While CAs are being replaced, which renews the leaves anyhow.
    pub fn renew_leaves(&self, request: &str) -> Result<Self> {
        self.must_be(Phase::Settled)?;
        let same = self.authorities().map(|(_, ca)| PemPair::of(ca).load());
        let [client, server, peer] = same;
        let rotation = Rotation { request: request.to_owned(), ..self.next(true) };
        Ok(self.with([client?, server?, peer?], None, rotation))
    }

    /// Is this the SHA-256 of a server CA that the cluster has or had?
    pub fn knows_server_ca(&self, hash: &str) -> bool {
        let present = self.server_ca.trusted().iter().any(|ca| fingerprint(ca) == hash);
        present || self.rotation.retired.iter().any(|old| old == hash)
    }

    /// A new certificate for the user of one (PEM) that these CAs signed, however long ago, for as long as that
    /// one was to live; None: a stranger's.
    ///
    /// # Errors
    /// At malformed PEM, or when signing fails.
    pub fn reissue(&self, chain: &str, now: Timestamp) -> Result<Option<Issued>> {
        let bad = |e| Error::malformed("client certificate", e);
        let list = certificates(chain)?;
        let Some(der) = list.first() else { return Ok(None) };
        let ((_, leaf), (from, until)) = (X509Certificate::from_der(der).map_err(bad)?, validity(der)?);
        let ours = self.client_ca.trusted().iter().any(|ca| {
            X509Certificate::from_der(ca).is_ok_and(|(_, ca)| leaf.verify_signature(Some(ca.public_key())).is_ok())
        });
        let names = subject_texts(leaf.subject(), &OID_X509_COMMON_NAME)?;
        let ([user], true) = (names.as_slice(), ours) else { return Ok(None) };
        let groups = subject_texts(leaf.subject(), &OID_X509_ORGANIZATION_NAME)?;
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let life = until.duration_since(from) - BACKDATE;
        self.client_certificate(user, &groups, now, life.min(LEAF_LIFETIME)).map(Some)
    }

    fn must_be(&self, phase: Phase) -> Result<()> {
        if self.phase() == phase { Ok(()) } else { Err(Error::Refused(format!("the CAs are {:?}", self.phase()))) }
    }

    fn next(&self, leaves: bool) -> Rotation {
        let generation = self.rotation.generation + 1;
        let leaves = if leaves { generation } else { self.rotation.leaves };
        Rotation { generation, leaves, ..self.rotation.clone() }
    }

    fn with(
        &self,
        [client_ca, server_ca, peer_ca]: [Authority; 3],
        successors: Option<Successors>,
        rotation: Rotation,
    ) -> Self {
        let (service_account, sealing) = (self.service_account.clone(), self.sealing.clone());
        Self { client_ca, server_ca, peer_ca, service_account, sealing, rotation, successors }
    }
}
