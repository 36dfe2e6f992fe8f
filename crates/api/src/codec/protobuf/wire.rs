//! Fields of messages as bytes.

use super::Fault;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// What a field holds, before its type is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Raw<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

impl<'a> Raw<'a> {
    pub(super) fn varint(self) -> Option<u64> {
        match self {
            Self::Varint(v) => Some(v),
            _ => None,
        }
    }
    pub(super) fn fixed(self) -> Option<u64> {
        match self {
            Self::Fixed(v) => Some(v),
            _ => None,
        }
    }
    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(b) => Some(b),
            _ => None,
        }
    }
}

/// Reads one message, field by field.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Reader<'a> {
    type Item = Result<(u32, Raw<'a>), Fault>;
    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.field())
    }
}

impl<'a> Reader<'a> {
    fn field(&mut self) -> Result<(u32, Raw<'a>), Fault> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| *n > 0).ok_or(Fault::Tag)?;
        let raw = match tag & 7 {
            VARINT => Raw::Varint(self.varint()?),
            FIXED64 => Raw::Fixed(self.fixed::<8>().map(u64::from_le_bytes)?),
            FIXED32 => Raw::Fixed(self.fixed::<4>().map(|b| u32::from_le_bytes(b).into())?),
            LENGTH => {
                let length = usize::try_from(self.varint()?).map_err(|_| Fault::Truncated)?;
                let (taken, rest) = self.0.split_at_checked(length).ok_or(Fault::Truncated)?;
                self.0 = rest;
                Raw::Bytes(taken)
            }
            _ => return Err(Fault::Tag),
        };
        Ok((number, raw))
    }

    /// A number of at most 64 bits, seven to a byte.
    pub(super) fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Fault::Truncated)?;
            self.0 = rest;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Fault::Overflow)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Fault::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }
}

/// Writes one message, field by field.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn varint(&mut self, number: u32, value: u64) {
        self.tag(number, VARINT);
        self.push(value);
    }
    /// Integers are two's complement in 64 bits, also the small ones.
    pub(super) fn integer(&mut self, number: u32, value: i64) {
        self.varint(number, u64::from_le_bytes(value.to_le_bytes()));
    }
    pub(super) fn double(&mut self, number: u32, value: f64) {
        self.tag(number, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(super) fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.tag(number, LENGTH);
        self.push(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
    /// A message within this one.
    pub(super) fn message<E>(&mut self, number: u32, write: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<(), E> {
        self.tag(number, LENGTH);
        let start = self.0.len();
        write(self)?;
        // The length goes before what was written: most lengths take one or two bytes.
        let end = self.0.len();
        self.push((end - start) as u64);
        let digits = self.0.len() - end;
        self.0[start..].rotate_right(digits);
        Ok(())
    }

    fn tag(&mut self, number: u32, wire: u64) {
        self.push(u64::from(number) << 3 | wire);
    }

    fn push(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
