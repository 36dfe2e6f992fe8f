//! The one written form of values that can be written in several ways.

use crate::meta::{quantity::Quantity, time};
use base64::Engine as _;
use std::borrow::Cow;

/// A quantity in its canonical form (`1000m` is `1`); None when it is no quantity.
pub(super) fn quantity(text: &str) -> Option<Cow<'_, str>> {
    if is_canonical_quantity(text) {
        return Some(Cow::Borrowed(text));
    }
    text.parse::<Quantity>().ok().map(|q| Cow::Owned(q.to_string()))
}

/// The common forms that need no parsing: a small number that no larger suffix could shorten,
/// followed by nothing, `m`, or a binary suffix.
fn is_canonical_quantity(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    if digits == 0 || digits > 9 || (number.starts_with('0') && text != "0") {
        return false;
    }
    match suffix {
        "" | "m" => !number.ends_with("000"),
        "Ki" | "Mi" | "Gi" => number.parse::<u32>().is_ok_and(|n| n % 1024 != 0),
        _ => false,
    }
}

/// A time in whole seconds, UTC; None when it is no time.
pub(super) fn seconds(text: &str) -> Option<Cow<'_, str>> {
    if has_shape(text, b"0000-00-00T00:00:00Z") && time::parse(text).is_some() {
        return Some(Cow::Borrowed(text));
    }
    time::parse(text).map(|t| Cow::Owned(time::time(t)))
}

/// A time in microseconds, UTC; None when it is no time.
pub(super) fn micros(text: &str) -> Option<Cow<'_, str>> {
    time::parse(text).map(|t| Cow::Owned(time::micro(t)))
}

/// Does `text` look like `shape`, where `0` stands for any digit?
fn has_shape(text: &str, shape: &[u8]) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape).all(|(c, s)| if *s == b'0' { c.is_ascii_digit() } else { c == *s })
}

/// Base64 with padding and without line breaks; None when it is no base64.
pub(super) fn base64(text: &str) -> Option<Cow<'_, str>> {
    let engine = base64::engine::general_purpose::STANDARD;
    if text.contains(['\n', '\r']) {
        let joined: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        return engine.decode(&joined).is_ok().then_some(Cow::Owned(joined));
    }
    engine.decode(text).is_ok().then_some(Cow::Borrowed(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_one_form() {
        let cases = [
            ("1", "1"),
            ("0", "0"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("64Mi", "64Mi"),
            ("1Gi", "1Gi"),
            ("1000", "1k"),
            ("0.5Gi", "512Mi"),
            ("2e3", "2e3"),
            ("007", "7"),
        ];
        for (given, canonical) in cases {
            assert_eq!(quantity(given).as_deref(), Some(canonical), "{given}");
        }
        assert_eq!(quantity("1Q"), None);
        assert_eq!(quantity(""), None);
    }

    #[test]
    fn times_have_one_form() {
        assert_eq!(seconds("2026-01-02T03:04:05Z").as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(seconds("2026-01-02T03:04:05.9Z").as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(seconds("2026-01-02T05:04:05+02:00").as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(seconds("2026-13-02T03:04:05Z"), None);
        assert_eq!(micros("2026-01-02T03:04:05Z").as_deref(), Some("2026-01-02T03:04:05.000000Z"));
    }

    #[test]
    fn base64_loses_its_line_breaks() {
        assert_eq!(base64("YWJj\nZA==").as_deref(), Some("YWJjZA=="));
        assert_eq!(base64("YWJ"), None);
    }
}
