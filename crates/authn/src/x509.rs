//! Client certificates: chain, times, usage and CA set are judged on every request.
//!
//! TLS (see [`crate::tls`]) proves only that the peer holds the leaf's key. So a foreign CA is a 401, the
//! CA set changes while connections are open, and an expiry ends an open connection's rights.
//!
//! One expired certificate is of use: that of a node which was never heard of since, as after a long
//! power-off. It may ask for its next certificate and do nothing else (see [`crate::expired`]).

use crate::authenticator::{Authenticator, Credentials, Outcome};
use crate::error::{Error, Result};
use crate::pki::fingerprint;
use crate::revocation::Revoked;
use arc_swap::ArcSwap;
use kybern_api::attributes::UserInfo;
use kybern_api::seam::Lister;
use parking_lot::RwLock;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::der_parser::{Oid, oid};
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where Kubernetes puts a user's uid into a subject.
const UID: Oid<'static> = oid!(1.3.6.1.4.1.57683.2);
/// Under this a user carries what tells its certificate from others.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
const FINGERPRINT: &str = "X509SHA256=";
/// Good certificates remembered; more than a large cluster has clients.
const CACHE_LIMIT: usize = 16_384;

/// The client-certificate authenticator.
#[derive(Debug)]
pub struct X509 {
    trust: ArcSwap<Trust>,
    good: RwLock<HashMap<Vec<u8>, Good>>,
    revoked: Revoked,
}

/// The CAs of one moment. A new set is a new generation, which ends all remembered verdicts.
#[derive(Debug)]
struct Trust {
    generation: u64,
    anchors: Vec<(TrustAnchor<'static>, Span)>,
}

/// Seconds since the epoch, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: i64,
    to: i64,
}

impl Span {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self { from: validity.not_before.timestamp(), to: validity.not_after.timestamp() }
    }
    fn contains(self, now: i64) -> bool {
        (self.from..=self.to).contains(&now)
    }
    fn and(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), to: self.to.min(other.to) }
    }
}

/// A certificate that was found good, and for how long that holds.
#[derive(Debug)]
struct Good {
    generation: u64,
    span: Span,
    user: UserInfo,
}

impl X509 {
    /// Trusts these CAs.
    ///
    /// # Errors
    /// At a certificate that cannot be a CA's.
    pub fn new(authorities: &[CertificateDer<'_>]) -> Result<Self> {
        let trust = Trust { generation: 0, anchors: anchors(authorities)? };
        Ok(Self { trust: ArcSwap::from_pointee(trust), good: RwLock::default(), revoked: Revoked::default() })
    }

    /// Trusts these CAs from now on, also on open connections.
    ///
    /// # Errors
    /// At a certificate that cannot be a CA's; then nothing changes.
    pub fn set_authorities(&self, authorities: &[CertificateDer<'_>]) -> Result<()> {
        let anchors = anchors(authorities)?;
        self.trust.rcu(|old| Arc::new(Trust { generation: old.generation + 1, anchors: anchors.clone() }));
        self.good.write().clear();
        Ok(())
    }

    /// The remembered verdict, while all it rests on still holds.
    fn remembered(&self, leaf: &[u8], generation: u64, now: i64) -> Option<UserInfo> {
        let good = self.good.read();
        let found = good.get(leaf)?;
        (found.generation == generation && found.span.contains(now)).then(|| found.user.clone())
    }

    fn unless_revoked(&self, user: UserInfo, objects: &dyn Lister) -> Outcome {
        let credential = user.extra.get(CREDENTIAL_ID).and_then(|ids| ids.first());
        let fingerprint = credential.and_then(|id| id.strip_prefix(FINGERPRINT)).unwrap_or_default();
        match self.revoked.reason(fingerprint, objects) {
            Some(why) => Outcome::Rejected(format!("client certificate {fingerprint}: revoked: {why}")),
            None => Outcome::Known(user),
        }
    }

    fn remember(&self, leaf: &[u8], found: Good, now: i64) {
        let mut good = self.good.write();
        if good.len() >= CACHE_LIMIT {
            good.retain(|_, g| g.generation == found.generation && g.span.contains(now));
            if good.len() >= CACHE_LIMIT {
                good.clear();
            }
        }
        good.insert(leaf.to_vec(), found);
    }
}

impl Authenticator for X509 {
    fn authenticate(&self, credentials: &Credentials<'_>, objects: &dyn Lister) -> Outcome {
        let Some((leaf, rest)) = credentials.chain.split_first() else { return Outcome::NoOpinion };
        let trust = self.trust.load();
        if let Some(user) = self.remembered(leaf, trust.generation, credentials.now) {
            return self.unless_revoked(user, objects);
        }
        match judge(&trust, leaf, rest, credentials.now, credentials.now) {
            Ok(found) => {
                let user = found.user.clone();
                self.remember(leaf, found, credentials.now);
                self.unless_revoked(user, objects)
            }
            Err(why) => match expired(&trust, leaf, rest, credentials.now) {
                Some((user, end)) => match crate::expired::node(user, end, objects) {
                    Outcome::Known(user) => self.unless_revoked(user, objects),
                    refused => refused,
                },
                None => Outcome::Rejected(format!("client certificate {}: {why}", fingerprint(leaf))),
            },
        }
    }
}

fn anchors(authorities: &[CertificateDer<'_>]) -> Result<Vec<(TrustAnchor<'static>, Span)>> {
    authorities
        .iter()
        .map(|der| {
            let anchor = webpki::anchor_from_trusted_cert(der).map_err(|e| Error::malformed("CA certificate", e))?;
            let (_, parsed) = X509Certificate::from_der(der).map_err(|e| Error::malformed("CA certificate", e))?;
            Ok((anchor.to_owned(), Span::of(&parsed)))
        })
        .collect()
}

/// The user of a certificate that nothing but its age speaks against, and when it expired.
fn expired(trust: &Trust, leaf: &[u8], rest: &[Vec<u8>], now: i64) -> Option<(UserInfo, i64)> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let end = Span::of(&parsed).to;
    let good = (end < now).then(|| judge(trust, leaf, rest, end, now).ok()).flatten()?;
    Some((good.user, end))
}

/// The full verdict on one chain as it was `at` a time, by the CAs that are in force `now`.
fn judge(trust: &Trust, leaf: &[u8], rest: &[Vec<u8>], at: i64, now: i64) -> std::result::Result<Good, String> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|e| e.to_string())?;
    let mut span = Span::of(&parsed);
    let intermediates: Vec<CertificateDer<'_>> = rest.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    for der in &intermediates {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
        // the CA itself may come along; it need not be part of the path
        span = span.and(Span::of(&parsed));
    }
    let valid: Vec<TrustAnchor<'_>> =
        trust.anchors.iter().filter(|(_, life)| life.contains(now)).map(|(anchor, _)| anchor.clone()).collect();
    let der = CertificateDer::from(leaf);
    let end_entity = EndEntityCert::try_from(&der).map_err(|e| e.to_string())?;
    let time = u64::try_from(at).map_err(|_| "a time before 1970".to_owned())?;
    let path = end_entity
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &valid,
            &intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(time)),
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map_err(|e| e.to_string())?;
    let anchor_life = trust.anchors.iter().find(|(anchor, _)| anchor == path.anchor()).map(|(_, life)| *life);
    if let Some(life) = anchor_life {
        span = span.and(life);
    }
    Ok(Good { generation: trust.generation, span, user: user(&parsed, leaf)? })
}

/// CN is the user, every O a group.
fn user(certificate: &X509Certificate<'_>, der: &[u8]) -> std::result::Result<UserInfo, String> {
    let subject = certificate.subject();
    let texts = |oid: &Oid<'_>| crate::pki::subject_texts(subject, oid).map_err(|e| e.to_string());
    let one = |mut values: Vec<String>, what: &str| match values.len() {
        0 => Ok(String::new()),
        1 => Ok(values.remove(0)),
        n => Err(format!("{n} {what}s in the subject")),
    };
    let name = one(texts(&OID_X509_COMMON_NAME)?, "common name")?;
    if name.is_empty() {
        return Err("no common name in the subject".into());
    }
    let credential = format!("{FINGERPRINT}{}", fingerprint(der));
    Ok(UserInfo {
        name,
        uid: one(texts(&UID)?, "uid")?,
        groups: texts(&OID_X509_ORGANIZATION_NAME)?,
        extra: BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![credential])]),
    })
}
