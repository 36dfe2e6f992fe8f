//! One certificate authority.

use super::certificate::{Leaf, sign, subject_name};
use super::san::San;
use super::usage::Usages;
use super::{certificates, fingerprint, pem};
use crate::error::{Error, Result};
use jiff::{SignedDuration, Timestamp};
use kybern_api::certificates::renew_at;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A CA: its certificate, its key, and the certificates of its predecessors that are still trusted.
///
/// Its `Debug` shows the certificate's fingerprint and never the key.
pub struct Authority {
    /// The issuing certificate first.
    trusted: Vec<CertificateDer<'static>>,
    key: KeyPair,
    subject: Vec<u8>,
    key_id: Option<Vec<u8>>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// A certificate with its private key, both PEM; the CA's certificate follows the leaf's.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The chain: leaf, then the CA that signed it.
    pub chain: String,
    /// The private key (PKCS #8).
    pub key: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issued { .. }")
    }
}

/// Whom a certificate names and what for.
#[derive(Debug, Clone, Default)]
pub struct Subject<'a> {
    /// Common name: the user, or the host.
    pub common_name: &'a str,
    /// Organisations: the groups.
    pub organizations: &'a [&'a str],
    /// Alternative names; needed for servers.
    pub sans: &'a [San],
    /// May it be used as a server's certificate?
    pub server: bool,
    /// May it be used as a client's certificate?
    pub client: bool,
}

/// A fresh ECDSA P-256 private key as PKCS #8 PEM.
///
/// # Errors
/// When the random source fails.
pub fn new_key_pem() -> Result<String> {
    Ok(KeyPair::generate().map_err(Error::key("a new identity"))?.serialize_pem())
}

impl Authority {
    /// A new self-signed CA with an ECDSA P-256 key.
    ///
    /// # Errors
    /// When the key cannot be made or the lifetime leaves the calendar.
    pub fn create(common_name: &str, now: Timestamp, lifetime: SignedDuration) -> Result<Self> {
        let key = KeyPair::generate().map_err(Error::key("a CA"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = calendar(now.saturating_sub(super::BACKDATE))?;
        params.not_after = calendar(now.saturating_add(lifetime))?;
        let certificate = params.self_signed(&key).map_err(Error::key("a CA"))?;
        Self::assemble(vec![certificate.der().clone()], key)
    }

    /// Loads a CA. The first certificate is the one that issues, the others are trusted besides.
    ///
    /// # Errors
    /// At malformed PEM, or a key that does not belong to the first certificate.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self> {
        Self::assemble(certificates(certificate)?, KeyPair::from_pem(key).map_err(Error::key("a CA"))?)
    }

    fn assemble(trusted: Vec<CertificateDer<'static>>, key: KeyPair) -> Result<Self> {
        let issuing = trusted.first().ok_or_else(|| Error::malformed("CA certificate", "empty"))?;
        let (_, parsed) = X509Certificate::from_der(issuing).map_err(|e| Error::malformed("CA certificate", e))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(Error::malformed("CA", "the key does not belong to the certificate"));
        }
        let (not_before, not_after) = super::validity(issuing)?;
        let key_id = parsed.iter_extensions().find_map(|e| match e.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        let subject = parsed.subject().as_raw().to_vec();
        Ok(Self { trusted, key, subject, key_id, not_before, not_after })
    }

    /// A new key and a certificate for it, valid from now for `lifetime` (at most as long as the CA).
    ///
    /// # Errors
    /// When the key cannot be made or used.
    pub fn issue(&self, subject: &Subject<'_>, now: Timestamp, lifetime: SignedDuration) -> Result<Issued> {
        let key = KeyPair::generate().map_err(Error::key("a certificate"))?;
        let mut names = vec!["digital signature", "key encipherment"];
        names.extend(subject.server.then_some("server auth"));
        names.extend(subject.client.then_some("client auth"));
        let leaf = Leaf {
            subject: &subject_name(subject.common_name, subject.organizations),
            public_key: &key.subject_public_key_info(),
            sans: subject.sans,
            usages: &Usages::parse(&names)?,
            lifetime,
        };
        let certificate = sign(&leaf, self, now)?;
        let chain = pem("CERTIFICATE", &certificate) + &pem("CERTIFICATE", self.der());
        Ok(Issued { chain, key: key.serialize_pem() })
    }

    /// The issuing certificate, DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        // `assemble` refuses an empty list
        &self.trusted[0]
    }
    /// All certificates to trust, the issuing one first.
    pub fn trusted(&self) -> &[CertificateDer<'static>] {
        &self.trusted
    }
    /// The issuing certificate alone, as PEM.
    pub fn issuing_pem(&self) -> String {
        pem("CERTIFICATE", self.der())
    }
    /// All certificates to trust, as PEM.
    pub fn certificate_pem(&self) -> String {
        self.trusted.iter().map(|c| pem("CERTIFICATE", c)).collect()
    }
    /// The private key, PKCS #8 PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
    /// Hex SHA-256 of the issuing certificate.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.der())
    }
    /// When the issuing certificate expires.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
    /// When it should be replaced: at 80 % of its life.
    pub fn renew_at(&self) -> Timestamp {
        renew_at(self.not_before, self.not_after)
    }
    pub(crate) fn key(&self) -> &KeyPair {
        &self.key
    }
    pub(crate) fn subject(&self) -> &[u8] {
        &self.subject
    }
    pub(crate) fn key_id(&self) -> Option<&[u8]> {
        self.key_id.as_deref()
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

fn calendar(at: std::result::Result<Timestamp, jiff::Error>) -> Result<OffsetDateTime> {
    let at = at.map_err(|e| Error::malformed("lifetime", e))?;
    OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|e| Error::malformed("lifetime", e))
}
