//! Reads a few paths of a JSON text and skips the rest: most of an object is of no use to its head.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Paths into an object, made once and read with often: what is wanted below a value.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// All of it.
    whole: bool,
    /// Of these members, what they say.
    below: Vec<(Box<str>, Paths)>,
}

impl Paths {
    /// From dotted paths.
    pub(super) fn new<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut root = Self::default();
        for path in paths {
            path.split('.').fold(&mut root, Self::member).whole = true;
        }
        root
    }

    fn member(&mut self, name: &str) -> &mut Self {
        let at = self.below.iter().position(|(n, _)| **n == *name).unwrap_or_else(|| {
            self.below.push((name.into(), Self::default()));
            self.below.len() - 1
        });
        &mut self.below[at].1
    }

    /// The values at these paths, at their places in a tree without anything else. Lists and scalars are
    /// read whole where a path leads into them.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Value, serde_json::Error> {
        self.deserialize(&mut serde_json::Deserializer::from_slice(bytes))
    }
}

impl<'de> DeserializeSeed<'de> for &Paths {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.whole { serde::Deserialize::deserialize(deserializer) } else { deserializer.deserialize_map(self) }
    }
}

impl<'de> Visitor<'de> for &Paths {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(wanted) = access.next_key_seed(Member(self))? {
            match wanted {
                Some((name, paths)) => drop(map.insert(name.into(), access.next_value_seed(paths)?)),
                None => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(map))
    }
}

/// Finds out whether a member is wanted, without copying its name.
struct Member<'p>(&'p Paths);

impl<'de, 'p> DeserializeSeed<'de> for Member<'p> {
    type Value = Option<(&'p str, &'p Paths)>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'p> Visitor<'_> for Member<'p> {
    type Value = Option<(&'p str, &'p Paths)>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }
    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.below.iter().find(|(wanted, _)| **wanted == *name).map(|(wanted, paths)| (&**wanted, paths)))
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
            assert_eq!(Paths::new(paths.iter().copied()).read(text).unwrap(), result, "{paths:?}");
        }
        assert!(Paths::new(["a"]).read(b"{\"a\":").is_err());
    }
}
