//! Reading and defaulting JSON trees by dotted paths.
//!
//! Nothing here panics on a tree of the wrong shape: what is not there, or is of another type, reads as
//! absent. The readers and, where a value is present already, the default setters do not allocate.

use serde_json::{Map, Value};

/// Stands for an absent value.
pub static NULL: Value = Value::Null;

/// The value at a dotted path, for example `spec.template.metadata`. Keys that contain dots (labels)
/// are out of reach: walk to their map and index it.
pub fn at<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |v, key| v.as_object()?.get(key))
}

/// The text at a path; empty when absent.
pub fn text<'a>(tree: &'a Value, path: &str) -> &'a str {
    at(tree, path).and_then(Value::as_str).unwrap_or_default()
}

/// The integer at a path.
pub fn int(tree: &Value, path: &str) -> Option<i64> {
    at(tree, path).and_then(Value::as_i64)
}

/// The boolean at a path; false when absent.
pub fn flag(tree: &Value, path: &str) -> bool {
    at(tree, path).and_then(Value::as_bool).unwrap_or_default()
}

/// The elements of the array at a path; none when absent.
pub fn list<'a>(tree: &'a Value, path: &str) -> &'a [Value] {
    at(tree, path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The entries of the object at a path; none when absent.
pub fn entries<'a>(tree: &'a Value, path: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    at(tree, path).and_then(Value::as_object).into_iter().flatten()
}

/// The value at a dotted path, to change it.
pub fn at_mut<'a>(tree: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(tree, |v, key| v.as_object_mut()?.get_mut(key))
}

/// Calls `f` for every element of the array at a path.
pub fn each(tree: &mut Value, path: &str, f: impl FnMut(&mut Value)) {
    if let Some(Value::Array(items)) = at_mut(tree, path) {
        items.iter_mut().for_each(f);
    }
}

/// Is nothing there: absent, null, or the empty text?
pub fn unset(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(s)) => s.is_empty(),
        Some(_) => false,
    }
}

/// Sets `key` of an object that has it not, has it null, or has it as empty text.
pub fn set_default(obj: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = obj.as_object_mut()
        && unset(map.get(key))
    {
        map.insert(key.to_owned(), value.into());
    }
}

/// Like [`set_default`], for a field whose empty text is a value of its own.
pub fn set_if_absent(obj: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = obj.as_object_mut()
        && map.get(key).is_none_or(Value::is_null)
    {
        map.insert(key.to_owned(), value.into());
    }
}

/// Like [`set_default`], for a number whose zero means unset.
pub fn set_default_nonzero(obj: &mut Value, key: &str, value: i64) {
    if let Some(map) = obj.as_object_mut()
        && map.get(key).is_none_or(|v| v.is_null() || v.as_i64() == Some(0))
    {
        map.insert(key.to_owned(), value.into());
    }
}

/// The object at `key`, made empty when it is absent; None when something else is there.
pub fn object<'a>(obj: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    set_if_absent(obj, key, Map::new());
    obj.get_mut(key).filter(|v| v.is_object())
}

/// Removes `key`.
pub fn remove(obj: &mut Value, key: &str) -> Option<Value> {
    obj.as_object_mut()?.remove(key)
}

/// Makes `key` of `obj` what it is in `from`, also when it is absent there.
pub fn copy(obj: &mut Value, from: &Value, key: &str) {
    let Some(map) = obj.as_object_mut() else { return };
    match from.get(key) {
        Some(v) => {
            map.insert(key.to_owned(), v.clone());
        }
        None => {
            map.remove(key);
        }
    }
}

/// Renames a key in place; used by conversions between versions.
pub fn rename(obj: &mut Value, from: &str, to: &str) {
    if let Some(map) = obj.as_object_mut()
        && let Some(v) = map.remove(from)
    {
        map.insert(to.to_owned(), v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn readers_treat_a_wrong_shape_as_absent() {
        let tree = json!({"spec": {"a": 1, "b": "x", "c": [1, 2]}, "status": "no object"});
        assert_eq!(int(&tree, "spec.a"), Some(1));
        assert_eq!(text(&tree, "spec.a"), "");
        assert_eq!(text(&tree, "spec.b"), "x");
        assert_eq!(list(&tree, "spec.c").len(), 2);
        assert_eq!(at(&tree, "status.phase"), None);
    }

    #[test]
    fn defaults_fill_only_what_is_unset() {
        let mut tree = json!({"empty": "", "zero": 0, "kept": "x", "null": null});
        set_default(&mut tree, "empty", "e");
        set_default(&mut tree, "kept", "e");
        set_default(&mut tree, "null", 5);
        set_default(&mut tree, "zero", 7);
        set_if_absent(&mut tree, "new", true);
        assert_eq!(tree, json!({"empty": "e", "zero": 0, "kept": "x", "null": 5, "new": true}));
        set_default_nonzero(&mut tree, "zero", 7);
        assert_eq!(tree["zero"], 7);
        set_default(&mut tree["kept"], "key", 1);
        assert_eq!(tree["kept"], "x");
    }
}
