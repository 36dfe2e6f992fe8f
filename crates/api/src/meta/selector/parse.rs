//! The grammar of label selectors in text.

use super::{Operator, Requirement};
use crate::meta::names;
use smol_str::SmolStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    /// A key, value, `in` or `notin`.
    Word(&'a str),
    /// `= == != > < ! ( ) ,`
    Symbol(&'a str),
    End,
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Word(t) | Self::Symbol(t) => t,
            Self::End => "",
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

type Parsed<T> = Result<T, String>;

impl<'a> Parser<'a> {
    /// The next token and what follows it.
    fn look(&self) -> (Token<'a>, &'a str) {
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = text.chars().next() else { return (Token::End, "") };
        let symbol = |c: char| "=!<>(),".contains(c);
        let length = if symbol(first) {
            if text.starts_with("==") || text.starts_with("!=") { 2 } else { 1 }
        } else {
            text.find(|c: char| symbol(c) || c.is_ascii_whitespace()).unwrap_or(text.len())
        };
        let (token, rest) = text.split_at(length);
        (if symbol(first) { Token::Symbol(token) } else { Token::Word(token) }, rest)
    }
    fn peek(&self) -> Token<'a> {
        self.look().0
    }
    fn next(&mut self) -> Token<'a> {
        let (token, rest) = self.look();
        self.rest = rest;
        token
    }
    fn expect(&mut self, symbol: &str, wanted: &str) -> Parsed<()> {
        match self.next() {
            Token::Symbol(s) if s == symbol => Ok(()),
            other => Err(found(other, wanted)),
        }
    }

    fn requirement(&mut self) -> Parsed<Requirement> {
        let absent = self.peek() == Token::Symbol("!");
        if absent {
            self.next();
        }
        let Token::Word(key) = self.peek() else { return Err(found(self.peek(), ", expected: identifier")) };
        self.next();
        check_key(key)?;
        let ends = matches!(self.peek(), Token::End | Token::Symbol(","));
        if absent || ends {
            let operator = if absent { Operator::DoesNotExist } else { Operator::Exists };
            return Ok(Requirement { key: key.into(), operator, values: Vec::new() });
        }
        let token = self.next();
        let (operator, mut values) = match token {
            Token::Word("in") => (Operator::In, self.set()?),
            Token::Word("notin") => (Operator::NotIn, self.set()?),
            Token::Symbol("=" | "==") => (Operator::In, vec![self.value()?]),
            Token::Symbol("!=") => (Operator::NotIn, vec![self.value()?]),
            Token::Symbol(">") => (Operator::GreaterThan, vec![self.value()?]),
            Token::Symbol("<") => (Operator::LessThan, vec![self.value()?]),
            other => return Err(found(other, ", expected: in, notin, =, ==, !=, gt, lt")),
        };
        values.sort();
        values.dedup();
        check_values(key, operator, &values)?;
        Ok(Requirement { key: key.into(), operator, values })
    }

    fn value(&mut self) -> Parsed<SmolStr> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(SmolStr::default()),
            Token::Word(w) => {
                self.next();
                Ok(w.into())
            }
            other => Err(found(other, ", expected: identifier")),
        }
    }

    /// `(a, b)`; an empty place between commas is the empty value.
    fn set(&mut self) -> Parsed<Vec<SmolStr>> {
        self.expect("(", " expected: '('")?;
        if self.peek() == Token::Symbol(")") {
            self.next();
            return Ok(Vec::new());
        }
        let mut values = Vec::new();
        loop {
            match self.peek() {
                Token::Word(w) => {
                    self.next();
                    values.push(w.into());
                }
                Token::Symbol("," | ")") => values.push(SmolStr::default()),
                other => return Err(found(other, ", expected: ',', ')' or identifier")),
            }
            match self.next() {
                Token::Symbol(",") => {}
                Token::Symbol(")") => return Ok(values),
                other => return Err(found(other, ", expected: ',' or ')'")),
            }
        }
    }
}

fn found(token: Token<'_>, rest: &str) -> String {
    format!("found '{}'{rest}", token.text())
}

fn invalid(field: &str, value: &str, problems: &[String]) -> Parsed<()> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(format!("{field}: Invalid value: {value:?}: {}", problems.join("; ")))
    }
}

fn check_key(key: &str) -> Parsed<()> {
    invalid("key", key, &names::qualified_name(key))
}

fn check_values(key: &str, operator: Operator, values: &[SmolStr]) -> Parsed<()> {
    match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            return Err("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".to_owned());
        }
        Operator::GreaterThan | Operator::LessThan if values.iter().any(|v| v.parse::<i64>().is_err()) => {
            return Err(format!(
                "values[0]: Invalid value: {:?}: for 'Gt', 'Lt' operators, the value must be an integer",
                values[0]
            ));
        }
        _ => {}
    }
    values.iter().enumerate().try_for_each(|(i, v)| invalid(&format!("values[{i}][{key}]"), v, &names::label_value(v)))
}

/// Parses comma-separated requirements.
pub(super) fn requirements(text: &str) -> Parsed<Vec<Requirement>> {
    let mut parser = Parser { rest: text };
    let mut out = Vec::new();
    if parser.peek() == Token::End {
        return Ok(out);
    }
    loop {
        if !matches!(parser.peek(), Token::Word(_) | Token::Symbol("!")) {
            return Err(found(parser.peek(), ", expected: !, identifier, or 'end of string'"));
        }
        out.push(parser.requirement().map_err(|e| format!("unable to parse requirement: {e}"))?);
        match parser.next() {
            Token::End => return Ok(out),
            Token::Symbol(",") if matches!(parser.peek(), Token::Word(_) | Token::Symbol("!")) => {}
            Token::Symbol(",") => return Err(found(parser.peek(), ", expected: identifier after ','")),
            other => return Err(found(other, ", expected: ',' or 'end of string'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_with_the_known_texts() {
        let cases = [
            ("=", "found '=', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            (
                "a in ()",
                "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
            ),
            (
                "a>b",
                "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            ("a=(", "unable to parse requirement: found '(', expected: identifier"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ];
        for (text, want) in cases {
            assert_eq!(requirements(text).unwrap_err(), want, "{text}");
        }
        let key = requirements("-a=b").unwrap_err();
        assert!(
            key.starts_with("unable to parse requirement: key: Invalid value: \"-a\": name part must consist"),
            "{key}"
        );
        let value = requirements("a=-b").unwrap_err();
        assert!(
            value.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid label"),
            "{value}"
        );
    }

    #[test]
    fn sets_may_have_empty_members() {
        let parsed = requirements(" a in ( x ,, y) , !b ").expect("a selector");
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0].values, ["", "x", "y"]);
    }
}
