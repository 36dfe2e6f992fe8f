//! Values of sealed kinds are encrypted before they are proposed, and opened once per event.

use crate::cache::feeder::Open;
use bytes::Bytes;
use kybern_api::codec::HeadReader;
use kybern_api::kind::KindDef;
use kybern_api::object::Object;
use kybern_raftstore::model::KeyValue;
use std::sync::Arc;

/// Encrypts what sealed kinds store. The key of the entry is bound to the ciphertext, so that a value
/// cannot be moved to another object.
pub trait Sealer: Send + Sync + 'static {
    /// Encrypts.
    ///
    /// # Errors
    /// A text for the log when no key is at hand.
    fn seal(&self, key: &[u8], plain: &[u8]) -> Result<Vec<u8>, String>;
    /// Decrypts.
    ///
    /// # Errors
    /// A text for the log when the value is not authentic or its key is unknown.
    fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String>;
}

/// Stores in the clear; for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainSealer;

impl Sealer for PlainSealer {
    fn seal(&self, _key: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
        Ok(plain.to_vec())
    }
    fn open(&self, _key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
        Ok(sealed.to_vec())
    }
}

impl Sealer for kybern_authn::seal::KeyRing {
    fn seal(&self, key: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
        Self::seal(self, plain, key).map_err(|e| e.to_string())
    }
    fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
        Self::open(self, sealed, key).map_err(|e| e.to_string())
    }
}

/// Reads the stored values of one kind.
pub struct Opener {
    heads: HeadReader,
    sealer: Arc<dyn Sealer>,
}

impl Opener {
    /// For a kind.
    pub fn new(def: Arc<KindDef>, sealer: Arc<dyn Sealer>) -> Self {
        Self { heads: HeadReader::new(def), sealer }
    }

    /// The JSON of an entry, revision in place.
    pub fn bytes(&self, entry: &KeyValue) -> Result<Bytes, String> {
        if !self.heads.def().sealed {
            return Ok(entry.value.clone());
        }
        let plain = self.sealer.open(&entry.key, &entry.value)?;
        Ok(stamp(&plain, entry.mod_revision))
    }

    /// What a sealed kind proposes; others propose `plain` itself.
    pub fn seal(&self, key: &[u8], plain: Bytes) -> Result<Bytes, String> {
        if self.heads.def().sealed { self.sealer.seal(key, &plain).map(Bytes::from) } else { Ok(plain) }
    }
}

impl Open for Opener {
    fn open(&self, entry: &KeyValue) -> Option<Object> {
        let read = self.bytes(entry).and_then(|b| self.heads.read(&b).map(|h| (h, b)).map_err(|e| e.to_string()));
        match read {
            Ok((head, bytes)) => Some(Object { head: Arc::new(head), revision: entry.mod_revision, bytes }),
            Err(error) => {
                let key = String::from_utf8_lossy(&entry.key);
                tracing::error!(%key, error, "a stored object cannot be read");
                None
            }
        }
    }
}

/// Stored objects begin so; the revision's digits follow.
pub const STAMPED: &[u8] = br#"{"metadata":{"resourceVersion":""#;

/// Inserts the revision into bytes that were encoded without.
pub fn stamp(plain: &[u8], revision: u64) -> Bytes {
    let at = STAMPED.len().min(plain.len());
    Bytes::from([&plain[..at], revision.to_string().as_bytes(), &plain[at..]].concat())
}

/// The same object stamped with another revision: a deleted object carries its deletion's.
pub fn restamp(object: &Object, revision: u64) -> Object {
    let rest = object.bytes.get(STAMPED.len()..).unwrap_or_default();
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let bytes = [STAMPED, revision.to_string().as_bytes(), &rest[digits..]].concat();
    Object { head: object.head.clone(), revision, bytes: bytes.into() }
}

/// Bytes that were encoded for the store, without the place for a revision.
pub fn unstamped(encoded: &[u8]) -> Bytes {
    const OPENING: &[u8] = br#"{"metadata":{"#;
    let rest = encoded.get(STAMPED.len() + 1..).unwrap_or_default();
    Bytes::from([OPENING, rest.strip_prefix(b",").unwrap_or(rest)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        let bytes = stamp(br#"{"metadata":{"resourceVersion":"","name":"a"}}"#, 42);
        assert_eq!(bytes, r#"{"metadata":{"resourceVersion":"42","name":"a"}}"#);
        let object = Object { head: Arc::default(), revision: 42, bytes };
        let again = restamp(&object, 1042);
        assert_eq!(
            (again.revision, again.bytes.as_ref()),
            (1042, br#"{"metadata":{"resourceVersion":"1042","name":"a"}}"#.as_ref())
        );
    }
}
