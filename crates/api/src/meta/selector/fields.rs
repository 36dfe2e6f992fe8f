//! Field selectors, bound to the fields a kind offers.

use crate::kind::KindDef;
use crate::object::Head;
use smol_str::SmolStr;

/// Which part of a head a term reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Name,
    Namespace,
    /// Index into [`Head::fields`].
    Field(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    source: Source,
    equal: bool,
    value: SmolStr,
}

/// A field selector of one kind: the conjunction of its terms.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

impl FieldSelector {
    /// Parses `metadata.name=a,spec.nodeName!=b` and binds it to a kind's selectable fields.
    ///
    /// # Errors
    /// The text for a 400 answer: bad syntax, or a field the kind does not offer.
    pub fn parse(def: &KindDef, text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        for term in split(text).into_iter().filter(|t| !t.is_empty()) {
            let (field, equal, value) =
                operator(term).ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{term}'"))?;
            terms.push(Term { source: bind(def, field)?, equal, value: unescape(value)? });
        }
        Ok(Self { terms })
    }
    /// Does the object match?
    pub fn matches(&self, head: &Head) -> bool {
        self.terms.iter().all(|t| (read(head, t.source) == t.value) == t.equal)
    }
    /// Does it select everything?
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }
    /// The only name that can match (`metadata.name=x`): such a list is a get.
    pub fn name(&self) -> Option<&str> {
        self.required(Source::Name)
    }
    /// The only namespace that can match.
    pub fn namespace(&self) -> Option<&str> {
        self.required(Source::Namespace)
    }
    /// The value that the kind's selectable field at `index` must have, if one is demanded.
    pub fn field(&self, index: usize) -> Option<&str> {
        self.required(Source::Field(index))
    }
    fn required(&self, source: Source) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.source == source).map(|t| t.value.as_str())
    }
}

fn read(head: &Head, source: Source) -> &str {
    match source {
        Source::Name => &head.name,
        Source::Namespace => &head.namespace,
        Source::Field(i) => head.fields.get(i).map(SmolStr::as_str).unwrap_or_default(),
    }
}

fn bind(def: &KindDef, field: &str) -> Result<Source, String> {
    match field {
        "metadata.name" => return Ok(Source::Name),
        "metadata.namespace" if def.namespaced() => return Ok(Source::Namespace),
        _ => {}
    }
    let offers = |s: &crate::kind::Selectable| s.path == field || s.alias.as_deref() == Some(field);
    def.selectable.iter().position(offers).map(Source::Field).ok_or_else(|| {
        if def.selectable.is_empty() {
            format!("\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        } else {
            format!("field label not supported: {field}")
        }
    })
}

/// Splits at commas that no backslash escapes.
fn split(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

/// The first operator of a term: field, whether it demands equality, value.
fn operator(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.find("!=").into_iter().chain(term.find('=')).min()?;
    let (field, rest) = term.split_at(at);
    let (equal, value) = match (rest.strip_prefix("!="), rest.strip_prefix("==")) {
        (Some(v), _) => (false, v),
        (_, Some(v)) => (true, v),
        _ => (true, &rest[1..]),
    };
    Some((field, equal, value))
}

/// Resolves `\\`, `\,` and `\=`; an operator sign in a value must be escaped.
fn unescape(value: &str) -> Result<SmolStr, String> {
    if !value.contains(['\\', '=']) {
        return Ok(value.into());
    }
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(e @ ('\\' | ',' | '=')) => out.push(e),
                Some(other) => return Err(format!("invalid field selector: invalid escape sequence: \\{other}")),
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => return Err(format!("invalid field selector: unescaped character in value: {c}")),
            _ => out.push(c),
        }
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    fn head() -> Head {
        let mut fields = vec![SmolStr::default(); 9];
        fields[0] = "n1".into();
        Head { name: "a".into(), namespace: "ns".into(), fields, ..Head::default() }
    }

    #[test]
    fn terms_match_heads() {
        let pods = kinds::find("", "pods").expect("pods");
        let cases = [
            ("", true),
            ("metadata.name=a", true),
            ("metadata.name==a,metadata.namespace!=other", true),
            ("metadata.name!=a", false),
            ("spec.nodeName=n1", true),
            ("spec.host=n1", true),
            ("spec.nodeName!=", true),
            ("status.phase=Running", false),
        ];
        for (text, want) in cases {
            assert_eq!(FieldSelector::parse(pods, text).expect(text).matches(&head()), want, "{text}");
        }
        assert_eq!(FieldSelector::parse(pods, "metadata.name=a").expect("parses").name(), Some("a"));
    }

    #[test]
    fn unknown_fields_and_bad_syntax() {
        let error = |plural: &str, text: &str| {
            FieldSelector::parse(kinds::find("", plural).expect("a kind"), text).expect_err("no selector")
        };
        assert_eq!(error("pods", "spec.x=1"), "field label not supported: spec.x");
        assert_eq!(
            error("configmaps", "data=1"),
            "\"data\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
        assert_eq!(error("nodes", "metadata.namespace=a"), "field label not supported: metadata.namespace");
        assert_eq!(
            error("pods", "metadata.name"),
            "invalid selector: 'metadata.name'; can't understand 'metadata.name'"
        );
        assert_eq!(unescape(r"a\,b\=c\\").as_deref(), Ok(r"a,b=c\"));
        assert!(unescape(r"a\b").is_err());
    }
}
