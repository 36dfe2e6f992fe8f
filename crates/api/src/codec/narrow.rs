//! Reads a few paths of a JSON text and skips the rest: most of an object is of no use to its head.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// The values at dotted `paths`, at their places in a tree without anything else. Lists and scalars are
/// read whole where a path leads into them.
pub(super) fn read(bytes: &[u8], paths: &[&str]) -> Result<Value, serde_json::Error> {
    Wanted(paths.to_vec()).deserialize(&mut serde_json::Deserializer::from_slice(bytes))
}

/// What is wanted below a value: the rests of the paths.
struct Wanted<'a>(Vec<&'a str>);

impl<'a> Wanted<'a> {
    /// What is wanted below the member `key`; an empty rest wants all of it.
    fn below(&self, key: &str) -> Self {
        let rest = |path: &&'a str| {
            let rest = path.strip_prefix(key)?;
            if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
        };
        Self(self.0.iter().filter_map(rest).collect())
    }
}

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.0.contains(&"") {
            return serde::Deserialize::deserialize(deserializer);
        }
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<std::borrow::Cow<'de, str>>()? {
            let wanted = self.below(&key);
            if wanted.0.is_empty() {
                access.next_value::<IgnoredAny>()?;
            } else {
                let value = access.next_value_seed(wanted)?;
                map.insert(key.into_owned(), value);
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_paths_are_read() {
        let text = br#"{"a":{"b":[1],"c":{"d":2,"e":3}},"ab":{"b":4},"f":5,"g":{}}"#;
        let cases = [
            (vec!["a.b", "f"], json!({"a": {"b": [1]}, "f": 5})),
            (vec!["a.c.d", "g.h"], json!({"a": {"c": {"d": 2}}, "g": {}})),
            (vec!["a", "a.b"], json!({"a": {"b": [1], "c": {"d": 2, "e": 3}}})),
            (vec![], json!({})),
        ];
        for (paths, result) in cases {
            assert_eq!(read(text, &paths).unwrap(), result, "{paths:?}");
        }
        assert!(read(b"{\"a\":", &["a"]).is_err());
    }
}
