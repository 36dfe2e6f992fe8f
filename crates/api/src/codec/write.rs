//! Trees as compact JSON, byte for byte as serde_json writes them.
//!
//! Every object that is stored, and the owned fields within it, is written here. A general serialiser
//! looks at each byte of each text on its own; nearly all texts of an object need no escapes, which is
//! found out many bytes at a time.

use serde_json::Value;

/// Appends a value.
pub(super) fn value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(text) => string(out, text),
        Value::Object(map) => {
            out.push(b'{');
            for (i, (key, member)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                string(out, key);
                out.push(b':');
                self::value(out, member);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                self::value(out, item);
            }
            out.push(b']');
        }
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Null => out.extend_from_slice(b"null"),
        Value::Number(_) => general(out, value),
    }
}

/// Appends a text in quotes.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    if !is_plain(text.as_bytes()) {
        return general(out, text);
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Needs no byte of this an escape? Looks at all of them, without branches, so that the compiler can
/// compare sixteen at once.
fn is_plain(text: &[u8]) -> bool {
    !text.iter().fold(false, |found, b| found | (*b < 0x20) | (*b == b'"') | (*b == b'\\'))
}

/// Neither writing into memory nor a JSON tree can fail.
fn general(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn writes_what_serde_json_writes() {
        let escapes: String = (0..=0x7f_u8).map(char::from).chain("äöü€🦀\u{7f}\u{2028}".chars()).collect();
        let tree = json!({
            "texts": ["", "plain", "a text that is longer than sixteen bytes, by far", "tab\there", "\"", "\\", escapes],
            "an \"escaped\" key\n": {"k:{\"name\":\"main\"}": {}},
            "numbers": [0, -1, 1.5, 1e300, u64::MAX, i64::MIN],
            "others": [true, false, null, [], {}],
        });
        let mut out = Vec::new();
        value(&mut out, &tree);
        assert_eq!(String::from_utf8(out).unwrap(), tree.to_string());
    }
}
