//! Label selectors.

use super::parse;
use crate::object::Head;
use crate::tree;
use serde_json::Value;
use smol_str::SmolStr;
use std::collections::BTreeMap;
use std::fmt;

/// Where a selector looks labels up.
pub trait Labels {
    /// The value of a label, if the object has it.
    fn value(&self, key: &str) -> Option<&str>;
}

impl Labels for [(SmolStr, SmolStr)] {
    fn value(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}
impl Labels for Head {
    fn value(&self, key: &str) -> Option<&str> {
        self.label(key)
    }
}
/// A JSON object of labels (`metadata.labels`); null has none.
impl Labels for Value {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}
impl Labels for BTreeMap<String, String> {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// How a requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The value is one of the values.
    In,
    /// The key is absent or its value none of the values.
    NotIn,
    /// The key is present.
    Exists,
    /// The key is absent.
    DoesNotExist,
    /// The value is an integer above the one given.
    GreaterThan,
    /// The value is an integer below the one given.
    LessThan,
}

/// One condition on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: SmolStr,
    /// How it compares.
    pub operator: Operator,
    /// With what; sorted.
    pub values: Vec<SmolStr>,
}

impl Requirement {
    /// Does an object with these labels satisfy it?
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        let value = labels.value(&self.key);
        match self.operator {
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::In => value.is_some_and(|v| self.values.iter().any(|w| w == v)),
            Operator::NotIn => value.is_none_or(|v| self.values.iter().all(|w| w != v)),
            Operator::GreaterThan => self.compares(value, |have, want| have > want),
            Operator::LessThan => self.compares(value, |have, want| have < want),
        }
    }
    fn compares(&self, value: Option<&str>, test: fn(i64, i64) -> bool) -> bool {
        let want = self.values.first().and_then(|v| v.parse().ok());
        matches!((value.and_then(|v| v.parse().ok()), want), (Some(have), Some(want)) if test(have, want))
    }
}

/// A label selector: the conjunction of its requirements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// Selects no object (an absent LabelSelector).
    Nothing,
    /// Selects what satisfies all; with no requirement, everything.
    All(Vec<Requirement>),
}

impl Selector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::All(Vec::new())
    }
    /// Parses the text form, as in `labelSelector=app in (a,b),!old`.
    ///
    /// # Errors
    /// The text for a 400 answer.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::requirements(text).map(Self::sorted)
    }
    /// Selects what carries all these labels (a Service's or ReplicationController's selector map).
    /// An absent or empty map selects nothing.
    pub fn from_map(map: Option<&Value>) -> Self {
        let pairs: Vec<_> = map.into_iter().filter_map(Value::as_object).flatten().filter_map(equals).collect();
        if pairs.is_empty() { Self::Nothing } else { Self::sorted(pairs) }
    }
    /// Reads a LabelSelector object: absent selects nothing, `{}` everything.
    ///
    /// # Errors
    /// When an expression's operator is unknown.
    pub fn from_object(selector: Option<&Value>) -> Result<Self, String> {
        let Some(selector) = selector.filter(|s| !s.is_null()) else { return Ok(Self::Nothing) };
        let mut all: Vec<_> = tree::entries(selector, "matchLabels").filter_map(equals).collect();
        for e in tree::list(selector, "matchExpressions") {
            all.push(expression(e)?);
        }
        Ok(Self::sorted(all))
    }
    fn sorted(mut all: Vec<Requirement>) -> Self {
        all.sort_by(|a, b| a.key.cmp(&b.key));
        Self::All(all)
    }
    /// Does an object with these labels match?
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(all) => all.iter().all(|r| r.matches(labels)),
        }
    }
    /// Does it select everything?
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::All(all) if all.is_empty())
    }
}

fn equals((key, value): (&String, &Value)) -> Option<Requirement> {
    Some(Requirement { key: key.into(), operator: Operator::In, values: vec![value.as_str()?.into()] })
}

fn expression(e: &Value) -> Result<Requirement, String> {
    let operator = match tree::text(e, "operator") {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(format!("\"{other}\" is not a valid label selector operator")),
    };
    let mut values: Vec<SmolStr> = tree::list(e, "values").iter().filter_map(Value::as_str).map(SmolStr::new).collect();
    values.sort();
    Ok(Requirement { key: tree::text(e, "key").into(), operator, values })
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |f: &mut fmt::Formatter<'_>, word: &str| write!(f, "{} {word} ({})", self.key, self.values.join(","));
        let first = self.values.first().map(SmolStr::as_str).unwrap_or_default();
        match self.operator {
            Operator::Exists => f.write_str(&self.key),
            Operator::DoesNotExist => write!(f, "!{}", self.key),
            Operator::In if self.values.len() == 1 => write!(f, "{}={first}", self.key),
            Operator::In => set(f, "in"),
            Operator::NotIn if self.values.len() == 1 => write!(f, "{}!={first}", self.key),
            Operator::NotIn => set(f, "notin"),
            Operator::GreaterThan => write!(f, "{}>{first}", self.key),
            Operator::LessThan => write!(f, "{}<{first}", self.key),
        }
    }
}

impl fmt::Display for Selector {
    /// The text form, which [`Selector::parse`] reads back; nothing and everything print as nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::All(all) = self else { return Ok(()) };
        for (i, r) in all.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            r.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn matching_follows_each_operator() {
        let labels = json!({"app": "web", "tier": "2", "empty": ""});
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web,tier", true),
            ("app!=web", false),
            ("other!=x", true),
            ("app in (web,db)", true),
            ("app notin (db)", true),
            ("app notin (web)", false),
            ("!other", true),
            ("!app", false),
            ("tier>1", true),
            ("tier>2", false),
            ("tier<3", true),
            ("app>1", false),
            ("empty=", true),
            ("app=", false),
        ];
        for (text, want) in cases {
            let selector = Selector::parse(text).expect(text);
            assert_eq!(selector.matches(&labels), want, "{text}");
            assert_eq!(Selector::parse(&selector.to_string()).as_ref(), Ok(&selector), "{text} printed and read");
        }
    }

    #[test]
    fn objects_and_maps() {
        let labels = json!({"app": "web"});
        let of = |v: Value| Selector::from_object(Some(&v)).expect("a selector");
        assert!(!Selector::from_object(None).expect("nothing").matches(&labels));
        assert!(of(json!({})).matches(&labels));
        let both = of(json!({"matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["z", "y"]}]}));
        assert!(both.matches(&labels));
        assert_eq!(both.to_string(), "a notin (y,z),app=web");
        assert!(Selector::from_object(Some(&json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}))).is_err());
        assert_eq!(Selector::from_map(Some(&json!({}))), Selector::Nothing);
        assert!(Selector::from_map(Some(&labels)).matches(&labels));
    }
}
