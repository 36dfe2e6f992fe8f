//! Secrets at rest: AES-256-GCM with a ring of keys.
//!
//! A sealed value is `format byte, key id (4 bytes), nonce (12), ciphertext and tag`. The context (the
//! object's key in the store) is authenticated, so a value cannot be moved to another object.

use crate::error::{Error, Result};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// First byte of a sealed value; a plain object begins with `{`.
const FORMAT: u8 = 0x01;
const HEADER: usize = 1 + 4 + NONCE_LEN;

/// The keys, newest first: the first seals, all open. `Debug` shows ids only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRing {
    keys: Vec<Key>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    id: u32,
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    secret: [u8; 32],
}

fn to_base64<S: Serializer>(secret: &[u8; 32], to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(&STANDARD.encode(secret))
}

fn from_base64<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<[u8; 32], D::Error> {
    let text = String::deserialize(from)?;
    let bytes = STANDARD.decode(text).map_err(|_| serde::de::Error::custom("a key is no base64"))?;
    bytes.try_into().map_err(|_| serde::de::Error::custom("a key is not 32 bytes long"))
}

impl KeyRing {
    /// A ring of one new key.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn create() -> Result<Self> {
        Ok(Self { keys: vec![Key { id: 1, secret: random()? }] })
    }

    /// Has it no key? (Such a ring can neither seal nor open.)
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Puts a new key in front. Values of the older keys stay readable until they are dropped.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn rotate(&mut self) -> Result<()> {
        let id = self.keys.iter().map(|k| k.id).max().unwrap_or(0) + 1;
        self.keys.insert(0, Key { id, secret: random()? });
        Ok(())
    }

    /// Keeps only the newest key: everything has been sealed anew.
    pub fn drop_old(&mut self) {
        self.keys.truncate(1);
    }

    /// Was it sealed with the newest key?
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        self.keys.first().is_some_and(|k| key_id(sealed) == Some(k.id))
    }

    /// Is it a sealed value (and not plain JSON)?
    pub fn is_sealed(value: &[u8]) -> bool {
        value.first() == Some(&FORMAT)
    }

    /// Encrypts `plain` for `context`.
    ///
    /// # Errors
    /// When the ring is empty or the random source fails.
    pub fn seal(&self, plain: &[u8], context: &[u8]) -> Result<Vec<u8>> {
        let key = self.keys.first().ok_or(Error::Crypto("the key ring is empty"))?;
        let mut body = plain.to_vec();
        let nonce = cipher(key)?
            .seal_in_place_append_tag(Aad::from(context), &mut body)
            .map_err(|_| Error::Crypto("sealing failed"))?;
        let mut sealed = Vec::with_capacity(HEADER + body.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&key.id.to_be_bytes());
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Decrypts what [`Self::seal`] made for the same context.
    ///
    /// # Errors
    /// At another format, an unknown key, or a value that was changed or moved.
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>> {
        let id = key_id(sealed).ok_or(Error::Unseal("not a sealed value"))?;
        let key = self.keys.iter().find(|k| k.id == id).ok_or(Error::Unseal("its key is not in the ring"))?;
        let nonce = Nonce::try_assume_unique_for_key(&sealed[5..HEADER]).map_err(|_| Error::Unseal("bad nonce"))?;
        let mut body = sealed[HEADER..].to_vec();
        let length = cipher(key)?
            .open_in_place(nonce, Aad::from(context), &mut body)
            .map_err(|_| Error::Unseal("it was changed, or belongs to another object"))?
            .len();
        body.truncate(length);
        Ok(body)
    }

    /// The JSON of the ring: secret.
    ///
    /// # Errors
    /// Never in practice; the serialiser's signature says it may.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::malformed("key ring", e))
    }

    /// Reads what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// At malformed JSON or a ring without a key.
    pub fn from_json(text: &str) -> Result<Self> {
        let ring: Self = serde_json::from_str(text)
            .map_err(|e| Error::malformed("key ring", format!("line {} column {}", e.line(), e.column())))?;
        if ring.is_empty() { Err(Error::malformed("key ring", "no key in it")) } else { Ok(ring) }
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|k| k.id)).finish()
    }
}

fn cipher(key: &Key) -> Result<RandomizedNonceKey> {
    RandomizedNonceKey::new(&AES_256_GCM, &key.secret).map_err(|_| Error::Crypto("bad sealing key"))
}

fn random() -> Result<[u8; 32]> {
    let mut secret = [0; 32];
    rand::fill(&mut secret).map_err(|_| Error::Crypto("the random source failed"))?;
    Ok(secret)
}

fn key_id(sealed: &[u8]) -> Option<u32> {
    if sealed.len() < HEADER || sealed[0] != FORMAT {
        return None;
    }
    Some(u32::from_be_bytes([sealed[1], sealed[2], sealed[3], sealed[4]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let ring = KeyRing::create().expect("a ring");
        let sealed = ring.seal(b"{\"a\":1}", b"secrets/ns/a").expect("sealed");
        assert!(KeyRing::is_sealed(&sealed) && !sealed.windows(3).any(|w| w == b"\"a\""));
        assert_eq!(ring.open(&sealed, b"secrets/ns/a").expect("opened"), b"{\"a\":1}");
        assert!(ring.open(&sealed, b"secrets/ns/b").is_err(), "moved to another object");
        assert!(KeyRing::create().expect("a ring").open(&sealed, b"secrets/ns/a").is_err(), "another ring");
        for cut in 0..sealed.len() {
            assert!(ring.open(&sealed[..cut], b"secrets/ns/a").is_err(), "cut at {cut}");
            let mut flipped = sealed.clone();
            flipped[cut] ^= 1;
            assert!(ring.open(&flipped, b"secrets/ns/a").is_err(), "bit flipped at {cut}");
        }
    }

    #[test]
    fn rotation_keeps_old_values_readable_until_dropped() {
        let mut ring = KeyRing::create().expect("a ring");
        let old = ring.seal(b"x", b"").expect("sealed");
        ring.rotate().expect("rotated");
        let mut ring = KeyRing::from_json(&ring.to_json().expect("json")).expect("ring");
        let new = ring.seal(b"x", b"").expect("sealed");
        assert!(!ring.is_current(&old) && ring.is_current(&new));
        assert_eq!(ring.open(&old, b"").expect("opened"), b"x");
        ring.drop_old();
        assert!(ring.open(&old, b"").is_err());
        assert_eq!(ring.open(&new, b"").expect("opened"), b"x");
    }

    #[test]
    fn never_shows_its_keys() {
        let ring = KeyRing::create().expect("a ring");
        assert_eq!(format!("{ring:?}"), "[1]");
        let broken = ring.to_json().expect("json").replace("\"secret\":\"", "\"secret\":\"!");
        let text = KeyRing::from_json(&broken).expect_err("broken").to_string();
        assert!(!text.contains('!'), "{text}");
    }
}
