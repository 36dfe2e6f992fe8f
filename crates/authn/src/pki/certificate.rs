//! Builds and signs one leaf certificate. Subject and public key go in as the bytes they came in, so a
//! foreign request keeps every attribute of its name and the parameters of its key.

use super::authority::Authority;
use super::san::San;
use super::usage::Usages;
use crate::der;
use crate::error::{Error, Result};
use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use rcgen::SigningKey;

const OID_SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
const OID_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const OID_SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const OID_BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const OID_AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
const OID_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const OID_COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const OID_ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

/// Certificates begin this long before their issue, for clients whose clock is behind.
pub const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// What a leaf certificate says.
#[derive(Debug)]
pub(crate) struct Leaf<'a> {
    /// The subject, a DER Name.
    pub(crate) subject: &'a [u8],
    /// The public key, a DER SubjectPublicKeyInfo.
    pub(crate) public_key: &'a [u8],
    /// Subject alternative names.
    pub(crate) sans: &'a [San],
    /// What the key may be used for.
    pub(crate) usages: &'a Usages,
    /// How long it is valid from `now`; cut off at the end of the CA's life.
    pub(crate) lifetime: SignedDuration,
}

/// Signs `leaf` with the authority's key; the answer is DER.
pub(crate) fn sign(leaf: &Leaf<'_>, authority: &Authority, now: Timestamp) -> Result<Vec<u8>> {
    let not_before = now.saturating_sub(BACKDATE).map_err(|e| Error::malformed("time", e))?;
    let wanted = now.saturating_add(leaf.lifetime).map_err(|e| Error::malformed("lifetime", e))?;
    let not_after = wanted.min(authority.not_after());
    let algorithm = signature_algorithm(authority)?;
    let tbs = der::sequence(&[
        &[0xa0, 3, der::INTEGER, 1, 2], // version 3
        &der::unsigned(&serial(leaf, now)),
        algorithm,
        authority.subject(),
        &der::sequence(&[&der::time(not_before), &der::time(not_after)]),
        leaf.subject,
        leaf.public_key,
        &der::tlv(0xa3, &[&extensions(leaf, authority)]),
    ]);
    let signature = authority.key().sign(&tbs).map_err(Error::key("signing a certificate"))?;
    Ok(der::sequence(&[&tbs, algorithm, &der::bits(&signature)]))
}

/// 159 bits that differ for every key, subject and instant.
fn serial(leaf: &Leaf<'_>, now: Timestamp) -> Vec<u8> {
    let seed = [leaf.public_key, leaf.subject, &now.as_nanosecond().to_be_bytes()].concat();
    let mut serial = digest(&SHA256, &seed).as_ref()[..20].to_vec();
    serial[0] &= 0x7f;
    serial
}

fn extensions(leaf: &Leaf<'_>, authority: &Authority) -> Vec<u8> {
    let mut list = vec![
        der::extension(OID_KEY_USAGE, true, &der::named_bits(leaf.usages.key_usage_bits())),
        der::extension(OID_BASIC_CONSTRAINTS, true, &der::sequence(&[])),
        der::extension(OID_SUBJECT_KEY_ID, false, &der::tlv(der::OCTET_STRING, &[&key_id(leaf.public_key)])),
    ];
    if let Some(id) = authority.key_id() {
        let value = der::sequence(&[&der::tlv(0x80, &[id])]);
        list.push(der::extension(OID_AUTHORITY_KEY_ID, false, &value));
    }
    let purposes: Vec<Vec<u8>> = leaf.usages.purposes().map(|oid| der::tlv(der::OID, &[oid])).collect();
    if !purposes.is_empty() {
        list.push(der::extension(OID_EXTENDED_KEY_USAGE, false, &der::sequence(&[&purposes.concat()])));
    }
    if !leaf.sans.is_empty() {
        let names: Vec<Vec<u8>> = leaf.sans.iter().map(San::encode).collect();
        // RFC 5280 §4.2.1.6: critical where the subject is empty
        let critical = leaf.subject == der::sequence(&[]);
        list.push(der::extension(OID_SUBJECT_ALT_NAME, critical, &der::sequence(&[&names.concat()])));
    }
    der::sequence(&[&list.concat()])
}

fn key_id(public_key: &[u8]) -> Vec<u8> {
    digest(&SHA256, public_key).as_ref()[..20].to_vec()
}

/// The AlgorithmIdentifier of signatures made with the authority's key.
fn signature_algorithm(authority: &Authority) -> Result<&'static [u8]> {
    const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    const ECDSA_SHA384: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
    const RSA_SHA256: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];
    const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
    let algorithm = authority.key().algorithm();
    [
        (&rcgen::PKCS_ECDSA_P256_SHA256, ECDSA_SHA256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, ECDSA_SHA384),
        (&rcgen::PKCS_RSA_SHA256, RSA_SHA256),
        (&rcgen::PKCS_ED25519, ED25519),
    ]
    .into_iter()
    .find_map(|(known, encoded)| (algorithm == known).then_some(encoded))
    .ok_or(Error::Crypto("the CA's key is of a kind that cannot sign certificates here"))
}

/// A DER Name of organisations and a common name, one attribute per RDN, in that order.
pub(crate) fn subject_name(common_name: &str, organizations: &[&str]) -> Vec<u8> {
    let rdn = |oid: &[u8], value: &str| {
        let pair = der::sequence(&[&der::tlv(der::OID, &[oid]), &der::tlv(der::UTF8_STRING, &[value.as_bytes()])]);
        der::tlv(der::SET, &[&pair])
    };
    let mut rdns: Vec<Vec<u8>> = organizations.iter().map(|o| rdn(OID_ORGANIZATION, o)).collect();
    rdns.push(rdn(OID_COMMON_NAME, common_name));
    der::sequence(&[&rdns.concat()])
}
