//! Key usages by the names of the CertificateSigningRequest API.

use crate::error::{Error, Result};

/// `1.3.6.1.5.5.7.3.N`, where the standard's purposes live.
const KEY_PURPOSE: [u8; 7] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03];

/// What a usage name sets: a bit of keyUsage (counted from the most significant) or a purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Bit(u8),
    Purpose(u8),
    /// anyExtendedKeyUsage, and Microsoft's and Netscape's gated crypto.
    Oid(&'static [u8]),
}

const NAMES: &[(&str, Meaning)] = &[
    ("signing", Meaning::Bit(0)),
    ("digital signature", Meaning::Bit(0)),
    ("content commitment", Meaning::Bit(1)),
    ("key encipherment", Meaning::Bit(2)),
    ("data encipherment", Meaning::Bit(3)),
    ("key agreement", Meaning::Bit(4)),
    ("cert sign", Meaning::Bit(5)),
    ("crl sign", Meaning::Bit(6)),
    ("encipher only", Meaning::Bit(7)),
    ("decipher only", Meaning::Bit(8)),
    ("any", Meaning::Oid(&[0x55, 0x1d, 0x25, 0x00])),
    ("server auth", Meaning::Purpose(1)),
    ("client auth", Meaning::Purpose(2)),
    ("code signing", Meaning::Purpose(3)),
    ("email protection", Meaning::Purpose(4)),
    ("s/mime", Meaning::Purpose(4)),
    ("ipsec end system", Meaning::Purpose(5)),
    ("ipsec tunnel", Meaning::Purpose(6)),
    ("ipsec user", Meaning::Purpose(7)),
    ("timestamping", Meaning::Purpose(8)),
    ("ocsp signing", Meaning::Purpose(9)),
    ("microsoft sgc", Meaning::Oid(&[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x0a, 0x03, 0x03])),
    ("netscape sgc", Meaning::Oid(&[0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x42, 0x04, 0x01])),
];

/// A checked set of usages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usages {
    bits: u16,
    purposes: Vec<Vec<u8>>,
}

impl Usages {
    /// From the API's names.
    ///
    /// # Errors
    /// At a name the API does not have.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self> {
        let mut usages = Self::default();
        for name in names {
            let name = name.as_ref();
            let (_, meaning) = NAMES
                .iter()
                .find(|(known, _)| *known == name)
                .ok_or_else(|| Error::Refused(format!("unrecognized key usage \"{name}\"")))?;
            usages.add(*meaning);
        }
        Ok(usages)
    }

    fn add(&mut self, meaning: Meaning) {
        let purpose = match meaning {
            Meaning::Bit(bit) => {
                self.bits |= 0x8000 >> bit;
                return;
            }
            Meaning::Purpose(number) => [&KEY_PURPOSE[..], &[number]].concat(),
            Meaning::Oid(oid) => oid.to_vec(),
        };
        if !self.purposes.contains(&purpose) {
            self.purposes.push(purpose);
        }
    }

    /// The keyUsage bits, bit 0 of the standard first.
    pub(crate) fn key_usage_bits(&self) -> u16 {
        self.bits
    }
    /// The content of the extended usages' object identifiers.
    pub(crate) fn purposes(&self) -> impl Iterator<Item = &[u8]> {
        self.purposes.iter().map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_bits_and_purposes() {
        let u = Usages::parse(&["digital signature", "key encipherment", "client auth", "signing"]).expect("known");
        assert_eq!(u.key_usage_bits(), 0b1010_0000_0000_0000);
        assert_eq!(u.purposes().collect::<Vec<_>>(), [&[0x2b, 6, 1, 5, 5, 7, 3, 2]]);
        assert_eq!(Usages::parse(&["decipher only"]).expect("known").key_usage_bits(), 0x0080);
        assert!(Usages::parse(&["Client Auth"]).is_err());
    }
}
