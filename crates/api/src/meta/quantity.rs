//! Resource quantities: `100m`, `1.5Gi`, `1e3`.
//!
//! Held exactly as a count of 10⁻⁹; finer input is rounded away from zero, as Kubernetes does.

use std::fmt;
use std::str::FromStr;

/// Which family of suffixes a quantity was written with, and is shown with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `n u m`, none, `k M G T P E`
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`
    BinarySi,
    /// `e3`
    DecimalExponent,
}

/// A quantity. Ordered and added by value; the format is that of the left operand.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No number at its start.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Form,
    /// A suffix that means nothing.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i128 = 1_000_000_000;
/// Values beyond 2⁶³-1 are cut to it, in units of 10⁻⁹.
const MAX: i128 = i64::MAX as i128 * NANO;
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nano: 0, format: Format::DecimalSi };

    /// Whole units, shown in decimal.
    pub fn from_int(value: i64) -> Self {
        Self { nano: i128::from(value) * NANO, format: Format::DecimalSi }
    }
    /// Thousandths, shown in decimal.
    pub fn from_milli(value: i64) -> Self {
        Self { nano: i128::from(value) * (NANO / 1000), format: Format::DecimalSi }
    }
    /// Bytes, shown in binary.
    pub fn from_bytes(value: i64) -> Self {
        Self { nano: i128::from(value) * NANO, format: Format::BinarySi }
    }
    /// Reads a JSON text or number.
    ///
    /// # Errors
    /// When it is no quantity.
    pub fn from_value(value: &serde_json::Value) -> Result<Self, ParseError> {
        match value {
            serde_json::Value::String(s) => s.parse(),
            serde_json::Value::Number(n) => n.to_string().parse(),
            _ => Err(ParseError::Form),
        }
    }
    /// Whole units, rounded up.
    pub fn value(self) -> i64 {
        self.scaled(NANO)
    }
    /// Thousandths, rounded up: CPU in millicores.
    pub fn milli(self) -> i64 {
        self.scaled(NANO / 1000)
    }
    fn scaled(self, unit: i128) -> i64 {
        let floor = self.nano.div_euclid(unit);
        let up = if self.nano.rem_euclid(unit) == 0 { floor } else { floor + 1 };
        i64::try_from(up).unwrap_or(if up < 0 { i64::MIN } else { i64::MAX })
    }
    /// Rounded up to thousandths, the finest that resources keep.
    pub fn rounded_to_milli(self) -> Self {
        let milli = NANO / 1000;
        let rest = self.nano.rem_euclid(milli);
        if rest == 0 { self } else { Self { nano: self.nano - rest + milli, ..self } }
    }
    /// The same amount, shown as `other` is.
    pub fn formatted_like(self, other: Self) -> Self {
        Self { format: other.format, ..self }
    }
    /// Is it zero?
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }
    /// Is it below zero?
    pub fn is_negative(self) -> bool {
        self.nano < 0
    }
    /// Has it no fraction?
    pub fn is_integer(self) -> bool {
        self.nano % NANO == 0
    }
    fn with(self, nano: i128) -> Self {
        Self { nano: nano.clamp(-MAX, MAX), format: self.format }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nano.cmp(&other.nano)
    }
}
impl std::ops::Add for Quantity {
    type Output = Self;
    /// Saturates. A zero takes the other's format, so sums look like their parts.
    fn add(self, other: Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self { format, ..self }.with(self.nano + other.nano)
    }
}
impl std::ops::Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.with(self.nano - other.nano)
    }
}
impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, |a, b| a + b)
    }
}

/// What a suffix stands for: a power of two or ten.
enum Scale {
    Two(u32),
    Ten(i32),
}

fn scale(suffix: &str) -> Option<(Scale, Format)> {
    if let Some(i) = BINARY.iter().position(|s| *s == suffix) {
        return Some((Scale::Two(10 * (i as u32 + 1)), Format::BinarySi));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Some((Scale::Ten(*power), Format::DecimalSi));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((Scale::Ten(exponent), Format::DecimalExponent))
}

/// Splits sign, integer digits, fraction digits and suffix.
fn split(text: &str) -> Option<(bool, &str, &str, &str)> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    (!whole.is_empty() || !fraction.is_empty()).then_some((negative, whole, fraction, suffix))
}

/// `mantissa * 10^power`, rounded up and cut at [`MAX`]; the mantissa is not negative.
fn times_power_of_ten(mantissa: i128, power: i32) -> i128 {
    if power >= 0 {
        return (0..power).try_fold(mantissa, |m, _| m.checked_mul(10).filter(|m| *m <= MAX)).unwrap_or(MAX).min(MAX);
    }
    match u32::try_from(-power).ok().and_then(|p| 10_i128.checked_pow(p)) {
        Some(divisor) => mantissa.div_euclid(divisor) + i128::from(mantissa.rem_euclid(divisor) != 0),
        None => i128::from(mantissa != 0),
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (negative, whole, fraction, suffix) = split(text).ok_or(ParseError::Form)?;
        let (scale, format) = scale(suffix).ok_or(ParseError::Suffix)?;
        let number = |digits: &str| {
            digits.bytes().try_fold(0_i128, |n, d| n.checked_mul(10)?.checked_add(i128::from(d - b'0'))).unwrap_or(MAX)
        };
        // 18 fraction digits keep the mantissa in range and are finer than anything kept.
        let fraction = &fraction[..fraction.len().min(18)];
        let point = i32::try_from(fraction.len()).unwrap_or(0);
        let mantissa = times_power_of_ten(number(whole).min(MAX), point).saturating_add(number(fraction));
        let nano = match scale {
            Scale::Ten(power) => times_power_of_ten(mantissa, power.saturating_add(9 - point)),
            Scale::Two(power) => times_power_of_ten(mantissa.checked_mul(1 << power).unwrap_or(i128::MAX), 9 - point),
        };
        let nano = nano.min(MAX);
        Ok(Self { nano: if negative { -nano } else { nano }, format })
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: the largest suffix that needs no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let units = self.nano / NANO;
        if self.format == Format::BinarySi && self.is_integer() && units.abs() >= 1024 {
            let power = (units.trailing_zeros() / 10).min(6);
            return write!(f, "{}{}", units >> (10 * power), power.checked_sub(1).map_or("", |i| BINARY[i as usize]));
        }
        let (mut mantissa, mut index) = (self.nano, 0);
        while mantissa % 1000 == 0 && index + 1 < DECIMAL.len() {
            mantissa /= 1000;
            index += 1;
        }
        let (suffix, power) = DECIMAL[index];
        match self.format {
            Format::DecimalExponent if power != 0 => write!(f, "{mantissa}e{power}"),
            _ => write!(f, "{mantissa}{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().map(|q| q.to_string()).unwrap_or_else(|e| e.to_string())
    }

    #[test]
    fn canonical_forms() {
        let cases = [
            ("0", "0"),
            ("1000m", "1"),
            ("0.1", "100m"),
            ("100m", "100m"),
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("1024", "1024"),
            ("512Ki", "512Ki"),
            ("0.5Ki", "512"),
            ("0.5Mi", "512Ki"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e6", "12e6"),
            ("1000k", "1M"),
            ("+1", "1"),
            ("-1.50", "-1500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("1Ei", "1Ei"),
            ("99999999999999999999", "9223372036854775807"),
            ("64Mi", "64Mi"),
            ("100000000", "100M"),
        ];
        for (text, want) in cases {
            assert_eq!(canonical(text), want, "{text}");
            assert_eq!(canonical(want), want, "{want} again");
        }
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for text in ["", "x", "-", ".", "Mi"] {
            assert_eq!(text.parse::<Quantity>().unwrap_err(), ParseError::Form, "{text:?}");
        }
        for text in ["1X", "1 ", "1kb", "1mi", "1e", "1..2"] {
            assert_eq!(text.parse::<Quantity>().unwrap_err(), ParseError::Suffix, "{text:?}");
        }
    }

    #[test]
    fn values_round_up_and_compare_across_formats() {
        let q = |s: &str| s.parse::<Quantity>().expect("a quantity");
        assert_eq!(q("1Mi").value(), 1 << 20);
        assert_eq!(q("1500m").value(), 2);
        assert_eq!(q("1.0001").milli(), 1001);
        assert_eq!(q("-1500m").value(), -1);
        assert!(q("1Ki") > q("1k"));
        assert_eq!(q("1000m"), q("1"));
        assert_eq!((q("1Gi") + q("512Mi")).to_string(), "1536Mi");
        assert_eq!((q("1") - q("250m")).to_string(), "750m");
        assert_eq!([q("100m"), q("200m")].into_iter().sum::<Quantity>().to_string(), "300m");
        assert_eq!(q("1u").rounded_to_milli().to_string(), "1m");
    }
}
