//! The little of DER that building a certificate takes: tag, length, value.

use jiff::{Timestamp, tz::TimeZone};

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// One element whose content is the parts, one after the other.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    push_length(&mut out, length);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A SEQUENCE of elements that are encoded already.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, parts)
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    if length < 0x80 {
        out.push(length as u8);
        return;
    }
    let bytes = length.to_be_bytes();
    let skip = bytes.iter().take_while(|b| **b == 0).count();
    out.push(0x80 | (bytes.len() - skip) as u8);
    out.extend_from_slice(&bytes[skip..]);
}

/// A non-negative INTEGER from its big-endian bytes.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let skip = bytes.iter().take_while(|b| **b == 0).count();
    let digits = &bytes[skip..];
    match digits.first() {
        None => tlv(INTEGER, &[&[0]]),
        Some(first) if *first >= 0x80 => tlv(INTEGER, &[&[0], digits]),
        Some(_) => tlv(INTEGER, &[digits]),
    }
}

/// A BIT STRING of whole bytes.
pub(crate) fn bits(bytes: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, &[&[0], bytes])
}

/// A BIT STRING of named bits, where bit 0 is the most significant of `mask`; trailing zeros are
/// dropped as DER asks for named bit lists.
pub(crate) fn named_bits(mask: u16) -> Vec<u8> {
    let bytes = mask.to_be_bytes();
    let used = if bytes[1] != 0 { 2 } else { usize::from(bytes[0] != 0) };
    let unused = bytes[..used].last().map_or(0, |last| last.trailing_zeros() as u8);
    tlv(BIT_STRING, &[&[unused], &bytes[..used]])
}

/// A Time: UTCTime up to 2049, GeneralizedTime after (RFC 5280 §4.1.2.5).
pub(crate) fn time(at: Timestamp) -> Vec<u8> {
    let utc = at.to_zoned(TimeZone::UTC);
    if utc.year() < 2050 {
        tlv(UTC_TIME, &[utc.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()])
    } else {
        tlv(GENERALIZED_TIME, &[utc.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()])
    }
}

/// One X.509 extension; `value` is the encoded content.
pub(crate) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let flag = if critical { tlv(BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    sequence(&[&tlv(OID, &[oid]), &flag, &tlv(OCTET_STRING, &[value])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        for (length, head) in
            [(0, vec![4, 0]), (127, vec![4, 127]), (128, vec![4, 0x81, 128]), (65_536, vec![4, 0x83, 1, 0, 0])]
        {
            let encoded = tlv(OCTET_STRING, &[&vec![7; length]]);
            assert_eq!(&encoded[..head.len()], head, "length {length}");
            assert_eq!(encoded.len(), head.len() + length);
        }
    }

    #[test]
    fn integers_are_never_negative() {
        assert_eq!(unsigned(&[0, 0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(unsigned(&[0, 0]), [2, 1, 0]);
    }

    #[test]
    fn named_bits_drop_trailing_zeros() {
        assert_eq!(named_bits(0b1010_0000_0000_0000), [3, 2, 5, 0b1010_0000]);
        assert_eq!(named_bits(0x0080), [3, 3, 7, 0, 0x80]);
        assert_eq!(named_bits(0), [3, 1, 0]);
    }

    #[test]
    fn times_change_their_form_in_2050() {
        let at = |text: &str| time(text.parse().expect("a time"));
        assert_eq!(at("2026-11-20T01:02:03Z"), [&[UTC_TIME, 13][..], b"261120010203Z"].concat());
        assert_eq!(at("2050-01-01T00:00:00Z"), [&[GENERALIZED_TIME, 15][..], b"20500101000000Z"].concat());
    }
}
