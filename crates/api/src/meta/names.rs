//! Name formats. Each check answers with the texts Kubernetes users know, one per broken rule.

use crate::kind::NameRule;

/// Longest DNS-1123 subdomain, in bytes.
pub const SUBDOMAIN_MAX: usize = 253;
/// Longest DNS label, label value and name part of a qualified name, in bytes.
pub const LABEL_MAX: usize = 63;

const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const WILDCARD_TEXT: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_NAME_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY_TEXT: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME_TEXT: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

/// What is wrong with a text; empty when nothing is.
pub type Problems = Vec<String>;

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn lower_alphanumeric(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Inner bytes satisfy `inner`, the outer two `edge`; not empty.
fn shaped(text: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => edge(first) && edge(last) && bytes.iter().all(|&b| inner(b)),
        _ => false,
    }
}

fn is_label(text: &str) -> bool {
    shaped(text, lower_alphanumeric, |b| lower_alphanumeric(b) || b == b'-')
}

fn is_name_part(text: &str) -> bool {
    shaped(text, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn problems(text: &str, max: usize, well_formed: bool, rule: &str) -> Problems {
    let mut out = Problems::new();
    if text.len() > max {
        out.push(too_long(max));
    }
    if !well_formed {
        out.push(rule.to_owned());
    }
    out
}

/// A DNS-1123 label.
pub fn label(text: &str) -> Problems {
    problems(text, LABEL_MAX, is_label(text), LABEL_TEXT)
}

/// A DNS-1123 subdomain.
pub fn subdomain(text: &str) -> Problems {
    problems(text, SUBDOMAIN_MAX, text.split('.').all(is_label), SUBDOMAIN_TEXT)
}

/// A DNS-1123 subdomain after `*.`.
pub fn wildcard_subdomain(text: &str) -> Problems {
    let domain = text.strip_prefix("*.").unwrap_or_default();
    problems(text, SUBDOMAIN_MAX, domain.split('.').all(is_label), WILDCARD_TEXT)
}

/// A DNS-1035 label.
pub fn label_1035(text: &str) -> Problems {
    let starts = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    problems(text, LABEL_MAX, starts && is_label(text), LABEL_1035_TEXT)
}

/// Anything that can stand between two slashes of a URL path.
pub fn path_segment(text: &str) -> Problems {
    match text {
        "." => vec!["may not be '.'".to_owned()],
        ".." => vec!["may not be '..'".to_owned()],
        _ => ["/", "%"].iter().filter(|c| text.contains(**c)).map(|c| format!("may not contain '{c}'")).collect(),
    }
}

/// `[prefix/]name`: label keys, resource names, finalizers, taint keys.
pub fn qualified_name(text: &str) -> Problems {
    let mut out = Problems::new();
    let mut parts = text.split('/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let name = match (second, third) {
        (None, _) => first,
        (Some(name), None) => {
            if first.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            } else {
                out.extend(subdomain(first).into_iter().map(|p| format!("prefix part {p}")));
            }
            name
        }
        _ => {
            return vec![format!(
                "a qualified name {QUALIFIED_NAME_TEXT} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        out.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !is_name_part(name) {
        out.push(format!("name part {QUALIFIED_NAME_TEXT}"));
    }
    out
}

/// The value of a label; may be empty.
pub fn label_value(text: &str) -> Problems {
    problems(text, LABEL_MAX, text.is_empty() || is_name_part(text), LABEL_VALUE_TEXT)
}

/// A key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Problems {
    let legal = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let mut out = problems(text, SUBDOMAIN_MAX, !text.is_empty() && text.as_bytes().iter().all(legal), CONFIG_KEY_TEXT);
    if text == "." {
        out.push("must not be '.'".to_owned());
    } else if text == ".." {
        out.push("must not be '..'".to_owned());
    } else if text.starts_with("..") {
        out.push("must not start with '..'".to_owned());
    }
    out
}

/// The name of an environment variable.
pub fn env_name(text: &str) -> Problems {
    let legal = |b: &u8| (b' '..=b'~').contains(b) && *b != b'=';
    problems(text, usize::MAX, !text.is_empty() && text.as_bytes().iter().all(legal), ENV_NAME_TEXT)
}

/// The name of a port: up to 15 lower-case letters, digits and single hyphens, with a letter.
pub fn port_name(text: &str) -> Problems {
    let mut out = Problems::new();
    if text.len() > 15 {
        out.push(too_long(15));
    }
    if !text.bytes().all(|b| lower_alphanumeric(b) || b == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        out.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        out.push("must not begin or end with a hyphen".to_owned());
    }
    out
}

/// A port number.
pub fn port_number(port: i64) -> Problems {
    if (1..=65_535).contains(&port) {
        Problems::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

/// Checks a name of a kind. `prefix` says that it is a generateName, to which characters will be
/// appended, so a separator at its end is fine.
pub fn object_name(rule: NameRule, name: &str, prefix: bool) -> Problems {
    let masked;
    let name = if prefix && !matches!(rule, NameRule::Path) && name.len() > 1 && name.ends_with(['-', '.']) {
        masked = format!("{}a", &name[..name.len() - 1]);
        masked.as_str()
    } else {
        name
    };
    match rule {
        NameRule::Subdomain => subdomain(name),
        NameRule::Label => label(name),
        NameRule::Label1035 => label_1035(name),
        NameRule::Path => path_segment(name),
        NameRule::Custom(_) if prefix => Problems::new(),
        NameRule::Custom(check) => check(name).err().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_accept_and_refuse() {
        type Check = fn(&str) -> Problems;
        let long = "a".repeat(64);
        let cases: &[(&str, Check, &[&str], &[&str])] = &[
            ("label", label, &["a", "a-b", "0a"], &["", "-a", "a-", "a.b", "A", &long]),
            ("subdomain", subdomain, &["a.b", "a-1.b", &long], &["", "a..b", ".a", "a.-b", "a_b", "é"]),
            ("1035", label_1035, &["a-1"], &["1a", "", "a-"]),
            ("path", path_segment, &["system:node", "..."], &[".", "..", "a/b", "a%b"]),
            ("qualified", qualified_name, &["a", "x.io/A_b.c"], &["", "/a", "x/", "a/b/c", "X.io/a", "-a", &long]),
            ("label value", label_value, &["", "A.b_c-d"], &["-", "a b", "a-", &long]),
            ("config key", config_key, &[".a", "a..b", "A_b-c"], &["", ".", "..", "..a", "a/b"]),
            ("env", env_name, &["A", "a b", "1.x-y"], &["", "a=b", "a\tb", "ü"]),
            ("port name", port_name, &["http", "a-1"], &["", "1", "a--b", "-a", "A", "abcdefghijklmnop"]),
        ];
        for (format, check, good, bad) in cases {
            good.iter().for_each(|t| assert_eq!(check(t), Problems::new(), "{format} {t:?}"));
            bad.iter().for_each(|t| assert_ne!(check(t), Problems::new(), "{format} {t:?}"));
        }
    }

    #[test]
    fn a_prefix_may_end_with_a_separator() {
        assert!(object_name(NameRule::Subdomain, "web-", true).is_empty());
        assert!(!object_name(NameRule::Subdomain, "web-", false).is_empty());
        assert!(!object_name(NameRule::Subdomain, "-", true).is_empty());
    }
}
