//! Short stable names for templates.

use kybern_api::seam::SUFFIX_ALPHABET;
use serde_json::Value;

/// A short name for a value and a collision count: 32-bit FNV-1a over the value's JSON (whose members
/// are sorted), spelled in the alphabet of generated names.
pub(crate) fn short_hash(value: &Value, collisions: Option<i32>) -> String {
    let salt = match collisions.unwrap_or(0) {
        0 => Vec::new(),
        n => n.to_le_bytes().to_vec(),
    };
    let json = value.to_string();
    let hash = json.bytes().chain(salt).fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    hash.to_string().bytes().map(|b| char::from(SUFFIX_ALPHABET[usize::from(b) % SUFFIX_ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_hash_depends_on_the_value_and_the_collisions_alone() {
        let (a, b) = (json!({"a": 1, "b": 2}), serde_json::from_str(r#"{"b":2,"a":1}"#).expect("json"));
        assert_eq!(short_hash(&a, None), short_hash(&b, Some(0)));
        assert_ne!(short_hash(&a, None), short_hash(&a, Some(1)));
        assert_ne!(short_hash(&a, None), short_hash(&json!({"a": 1, "b": 3}), None));
    }
}
