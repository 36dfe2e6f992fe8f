//! Subject alternative names, in and out of DER.

use crate::der;
use crate::error::{Error, Result};
use std::net::IpAddr;
use x509_parser::extensions::GeneralName;

/// One subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum San {
    /// A DNS name.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
    /// An e-mail address.
    Email(String),
    /// A URI.
    Uri(String),
}

impl San {
    /// An address when the text is one, else a DNS name.
    pub fn host(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Dns(text.to_owned()), Self::Ip)
    }

    /// The GeneralName element.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Email(text) => der::tlv(0x81, &[text.as_bytes()]),
            Self::Dns(text) => der::tlv(0x82, &[text.as_bytes()]),
            Self::Uri(text) => der::tlv(0x86, &[text.as_bytes()]),
            Self::Ip(IpAddr::V4(ip)) => der::tlv(0x87, &[&ip.octets()]),
            Self::Ip(IpAddr::V6(ip)) => der::tlv(0x87, &[&ip.octets()]),
        }
    }

    /// Reads a parsed name.
    ///
    /// # Errors
    /// At kinds of names that no signer here copies, and at addresses of a wrong length.
    pub(crate) fn from_general(name: &GeneralName<'_>) -> Result<Self> {
        Ok(match name {
            GeneralName::DNSName(text) => Self::Dns((*text).to_owned()),
            GeneralName::RFC822Name(text) => Self::Email((*text).to_owned()),
            GeneralName::URI(text) => Self::Uri((*text).to_owned()),
            GeneralName::IPAddress(bytes) => Self::Ip(address(bytes)?),
            other => return Err(Error::malformed("subject alternative name", format!("unsupported kind {other}"))),
        })
    }
}

fn address(bytes: &[u8]) -> Result<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes)
        .map(IpAddr::from)
        .map_err(|_| Error::malformed("IP address", format!("{} bytes long", bytes.len())))
}
