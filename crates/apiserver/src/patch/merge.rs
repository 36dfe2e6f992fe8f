//! JSON merge patch, RFC 7386: null removes, objects merge, everything else replaces.

use serde_json::{Map, Value};

/// Merges `patch` into `target`. Depth is bounded by the parser that made the patch.
pub(super) fn patch(target: Value, patch: Value) -> Value {
    let Value::Object(patch) = patch else { return patch };
    let mut merged = match target {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    for (key, value) in patch {
        if value.is_null() {
            merged.remove(&key);
            continue;
        }
        let old = merged.remove(&key).unwrap_or(Value::Null);
        merged.insert(key, self::patch(old, value));
    }
    Value::Object(merged)
}
