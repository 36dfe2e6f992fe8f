//! A PKCS #10 certificate request that somebody else made.

use super::authority::Authority;
use super::certificate::{Leaf, sign};
use super::pem;
use super::san::San;
use super::usage::Usages;
use crate::error::{Error, Result};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject};
use x509_parser::prelude::{FromDer, ParsedExtension, X509CertificationRequest};
use x509_parser::x509::X509Name;

/// A request whose own signature was verified, so the asker has the key. Subject and key are kept as
/// the bytes they came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    subject: Vec<u8>,
    public_key: Vec<u8>,
    /// Every common name of the subject.
    pub common_names: Vec<String>,
    /// Every organisation of the subject, in order.
    pub organizations: Vec<String>,
    /// The alternative names asked for.
    pub sans: Vec<San>,
}

impl CertificateRequest {
    /// Parses PEM and verifies the request's signature.
    ///
    /// # Errors
    /// At anything but one well-formed request with a valid signature.
    pub fn from_pem(text: &[u8]) -> Result<Self> {
        let der = CertificateSigningRequestDer::from_pem_slice(text)
            .map_err(|e| Error::malformed("certificate request PEM", e))?;
        Self::from_der(&der)
    }

    /// The same from DER.
    ///
    /// # Errors
    /// As [`Self::from_pem`].
    pub fn from_der(der: &[u8]) -> Result<Self> {
        let bad = |why: String| Error::malformed("certificate request", why);
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|e| bad(e.to_string()))?;
        if !rest.is_empty() {
            return Err(bad("bytes after its end".into()));
        }
        request.verify_signature().map_err(|_| bad("its signature is not valid".into()))?;
        let info = &request.certification_request_info;
        Ok(Self {
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            common_names: texts(&info.subject, &x509_parser::oid_registry::OID_X509_COMMON_NAME)?,
            organizations: texts(&info.subject, &x509_parser::oid_registry::OID_X509_ORGANIZATION_NAME)?,
            sans: requested_names(&request)?,
        })
    }

    /// The common name, when the subject has exactly one.
    pub fn common_name(&self) -> Option<&str> {
        match self.common_names.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    /// Signs the request: the answer is the leaf certificate as PEM.
    ///
    /// # Errors
    /// When the authority cannot sign.
    pub fn sign(
        &self,
        authority: &Authority,
        usages: &Usages,
        now: Timestamp,
        lifetime: SignedDuration,
    ) -> Result<String> {
        let leaf = Leaf { subject: &self.subject, public_key: &self.public_key, sans: &self.sans, usages, lifetime };
        Ok(pem("CERTIFICATE", &sign(&leaf, authority, now)?))
    }
}

/// Every value of one attribute, also of those in multi-valued RDNs.
pub(crate) fn texts(name: &X509Name<'_>, oid: &x509_parser::der_parser::Oid<'_>) -> Result<Vec<String>> {
    name.iter_attributes()
        .filter(|a| a.attr_type() == oid)
        .map(|a| {
            let text = a.as_str().map_err(|e| Error::malformed("subject", e))?;
            if text.chars().any(char::is_control) {
                return Err(Error::malformed("subject", "a control character in a name"));
            }
            Ok(text.to_owned())
        })
        .collect()
}

fn requested_names(request: &X509CertificationRequest<'_>) -> Result<Vec<San>> {
    let mut names = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        match extension {
            ParsedExtension::SubjectAlternativeName(list) => {
                for name in &list.general_names {
                    names.push(San::from_general(name)?);
                }
            }
            ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                return Err(Error::malformed("certificate request", "it asks to be a CA"));
            }
            _ => {}
        }
    }
    Ok(names)
}
