//! Query parameters, decoded once.

use kybern_api::error::{Cause, Reason, Status};

/// Decoded parameters in the order sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a query string.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some(t) if !t.is_empty() => Self(form_urlencoded::parse(t.as_bytes()).into_owned().collect()),
            _ => Self::default(),
        }
    }

    /// From decoded pairs.
    pub fn from_pairs(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All parameters in the order sent.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Is the parameter there at all?
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// A boolean: present and neither `0` nor `false` (as Kubernetes reads it).
    pub fn flag(&self, key: &str) -> bool {
        self.0.iter().find(|(k, _)| k == key).is_some_and(|(_, v)| !matches!(v.as_str(), "0" | "false"))
    }

    /// A boolean that may be absent.
    pub fn maybe_flag(&self, key: &str) -> Option<bool> {
        self.has(key).then(|| self.flag(key))
    }

    /// An integer.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn integer(&self, key: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.get(key) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Status::bad_request(format!("invalid value for {key}: \"{text}\" is no integer")))
    }
}

/// 422 about a parameter of an options kind, as `ListOptions.meta.k8s.io "" is invalid: ...`.
pub fn invalid_option(kind: &str, field: &str, reason: &str, message: String) -> Status {
    let cause = Cause { reason: reason.into(), message, field: field.into() };
    Status::invalid("meta.k8s.io", kind, "", vec![cause])
}

/// 422 for a value outside a closed set.
pub fn unsupported_option(kind: &str, field: &str, value: &str, supported: &[&str]) -> Status {
    let list: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
    let message = format!("Unsupported value: \"{value}\": supported values: {}", list.join(", "));
    invalid_option(kind, field, "FieldValueNotSupported", message)
}

/// Reads a resourceVersion parameter: a decimal number.
///
/// # Errors
/// 400 when it is none.
pub fn revision(text: &str) -> Result<u64, Status> {
    text.parse()
        .map_err(|_| Status::new(Reason::BadRequest, format!("invalid resource version: \"{text}\": invalid syntax")))
}
