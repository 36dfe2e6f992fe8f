//! Ways to break things: trees, texts and bytes.

use serde_json::{Map, Value, json};

/// Numbers that follow from a seed (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or_default()
    }
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    pub fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// Texts that mean something somewhere.
const TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "A",
    "-",
    ".",
    "..",
    "../..",
    "/",
    "//",
    "%2f",
    "a/b",
    "a/b/c",
    "\0",
    "\u{7f}",
    "\u{feff}",
    "\u{202e}",
    "ü",
    "💥",
    "null",
    "true",
    "0",
    "-1",
    "1e400",
    "NaN",
    "1Ei",
    "1e9999999999",
    "-9223372036854775809",
    "0.0000000000000001n",
    "1m",
    "1500m",
    "50%",
    "-5%",
    "99999999999999999999%",
    "10.0.0.1",
    "::1",
    "10.0.0.0/33",
    "fd00::/8",
    "2026-01-01T00:00:00Z",
    "9999-12-31T23:59:60Z",
    "-0001-01-01T00:00:00Z",
    "* * * * *",
    "@every 1h",
    "*/0 * * * *",
    "AP8=",
    "====",
    "$(A)",
    "$$(",
    "k in (a,b)",
    "kubernetes.io/x",
    "a b",
    "metadata.name",
    "{}",
    "[]",
    "\"",
    "\\",
    "\u{2028}",
];

/// Values of every type.
fn value(random: &mut Random) -> Value {
    match random.below(12) {
        0 => Value::Null,
        1 => random.one_in(2).into(),
        2 => (random.next() as i64).into(),
        3 => {
            (*random.of(&[0, -1, 1, i64::from(i32::MAX), i64::from(i32::MAX) + 1, i64::MAX, i64::MIN, 65_536, 1 << 53]))
                .into()
        }
        4 => (*random.of(&[0.5, -0.0, 1e300, 1e-300])).into(),
        5 => json!([]),
        6 => json!({}),
        7 => "x".repeat(1 << random.below(14)).into(),
        8 => deep(random.below(120)),
        9 => Value::Array(vec![Value::from(*random.of(TEXTS)); random.below(40)]),
        _ => Value::from(*random.of(TEXTS)),
    }
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({"a": inner}) })
}

/// Breaks a tree in one to four places.
pub fn tree(tree: &mut Value, other: &Value, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let place = random.below(count(tree));
        if let Some(node) = nth(tree, &mut { place }) {
            node_at(node, other, random);
        }
    }
}

fn count(tree: &Value) -> usize {
    1 + match tree {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

/// The nth node, counted from the root.
fn nth<'t>(tree: &'t mut Value, n: &mut usize) -> Option<&'t mut Value> {
    if *n == 0 {
        return Some(tree);
    }
    *n -= 1;
    match tree {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, n)),
        Value::Object(map) => map.values_mut().find_map(|item| nth(item, n)),
        _ => None,
    }
}

fn node_at(node: &mut Value, other: &Value, random: &mut Random) {
    let foreign = |random: &mut Random| {
        let mut other = other.clone();
        let place = random.below(count(&other));
        nth(&mut other, &mut { place }).map(Value::take).unwrap_or_default()
    };
    match (random.below(4), node) {
        (0, node) => *node = value(random),
        (1, node) => *node = foreign(random),
        (_, Value::Object(map)) => members(map, foreign(random), random),
        (_, Value::Array(items)) => match random.below(4) {
            0 => items.clear(),
            1 if items.len() < 500 => items.extend(items.clone()),
            2 => items.push(foreign(random)),
            _ => items.reverse(),
        },
        (_, Value::String(text)) => *text = self::text(text, random),
        (_, node @ Value::Number(_)) => {
            let n = node.as_i64().unwrap_or_default();
            let near = [n.wrapping_add(1), n.wrapping_neg(), n.wrapping_mul(1000), i64::MAX - n.max(0), 0];
            *node = (*random.of(&near)).into();
        }
        (_, node) => *node = value(random),
    }
}

fn members(map: &mut Map<String, Value>, foreign: Value, random: &mut Random) {
    let key = map.keys().nth(random.below(map.len())).cloned();
    match (random.below(5), key) {
        (0, Some(key)) => drop(map.remove(&key)),
        (1, Some(key)) => {
            // The same field under another name.
            let inner = map.remove(&key).unwrap_or_default();
            map.insert(text(&key, random), inner);
        }
        (2, Some(key)) => drop(map.insert(key, foreign)),
        (3, _) => drop(map.insert((*random.of(TEXTS)).to_owned(), foreign)),
        _ => drop(map.insert((*random.of(FIELDS)).to_owned(), value(random))),
    }
}

/// Fields that mean something in most objects.
const FIELDS: &[&str] = &[
    "metadata",
    "spec",
    "status",
    "kind",
    "apiVersion",
    "name",
    "namespace",
    "generateName",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "managedFields",
    "resourceVersion",
    "uid",
    "deletionTimestamp",
    "selector",
    "template",
    "matchLabels",
    "matchExpressions",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
];

/// Breaks a text.
pub fn text(text: &str, random: &mut Random) -> String {
    let cut = text.char_indices().nth(random.below(text.chars().count() + 1)).map_or(text.len(), |(at, _)| at);
    match random.below(6) {
        0 => (*random.of(TEXTS)).to_owned(),
        1 => format!("{}{}{}", &text[..cut], random.of(TEXTS), &text[cut..]),
        2 => text[..cut].to_owned(),
        3 => text.repeat(1 + random.below(40)),
        4 => text.to_uppercase(),
        _ => text[cut..].to_owned(),
    }
}

/// Breaks bytes in one to four places.
pub fn bytes(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.next() as u8),
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            3 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *random.of(&[0, 1, 0x7f, 0x80, 0xff, b'{', b'"', b'\\', b'\n', b'-']);
                }
            }
            4 => drop(bytes.splice(at..at, [0xff; 10])),
            5 => {
                let from = random.below(other.len() + 1);
                let to = (from + random.below(64)).min(other.len());
                drop(bytes.splice(at..at, other[from..to].iter().copied()));
            }
            _ if bytes.len() < 1 << 16 => bytes.extend_from_within(at..),
            _ => {}
        }
    }
}
