//! Certificate authorities and what they sign.
//!
//! [`Authority`] is one CA; [`ClusterKeys`] is everything a server must hold; [`CertificateRequest`]
//! with [`signer`] signs what others ask for.

mod authority;
mod certificate;
mod files;
mod keys;
mod kubeconfig;
mod request;
mod rotation;
mod san;
pub mod signer;
mod usage;

pub use authority::{Authority, Issued, Subject, new_key_pem};
pub use certificate::BACKDATE;
pub use files::{read_private, write_private};
pub use keys::ClusterKeys;
pub use kubeconfig::Kubeconfig;
pub use request::CertificateRequest;
pub(crate) use request::texts as subject_texts;
pub use rotation::{Phase, Rotation};
pub use san::San;
pub use usage::Usages;

use crate::error::{Error, Result};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

/// All certificates of a PEM text, in order.
///
/// # Errors
/// At text that is no PEM, or holds no certificate.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let list = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| Error::malformed("certificate PEM", e))?;
    if list.is_empty() { Err(Error::malformed("certificate PEM", "no certificate in it")) } else { Ok(list) }
}

/// PEM of one DER block.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|b| char::from(*b)));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// PEM of one certificate in DER.
pub fn certificate_pem(der: &[u8]) -> String {
    pem("CERTIFICATE", der)
}

/// From when until when a certificate (DER) is valid.
///
/// # Errors
/// At malformed DER.
pub fn validity(der: &[u8]) -> Result<(Timestamp, Timestamp)> {
    let (_, parsed) = X509Certificate::from_der(der).map_err(|e| Error::malformed("certificate", e))?;
    let time = |t: ASN1Time| Timestamp::from_second(t.timestamp()).map_err(|e| Error::malformed("certificate", e));
    Ok((time(parsed.validity().not_before)?, time(parsed.validity().not_after)?))
}

/// The lower-case hex SHA-256 of a certificate's DER: what join tokens pin.
pub fn fingerprint(der: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der))
}
