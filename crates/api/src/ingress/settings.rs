//! What annotations say about an Ingress: a closed set, never raw configuration.

use crate::meta::quantity::Quantity;
use std::collections::BTreeMap;
use std::time::Duration;

const OURS: &str = "kybern.io/";
const ALIAS: &str = "nginx.ingress.kubernetes.io/";
/// The name, after the prefix, of the annotation with the rewrite target.
pub const REWRITE: &str = "rewrite-target";
/// The names that are known under the prefix of ingress-nginx too.
const ALIASED: [&str; 4] = ["backend-protocol", "proxy-body-size", "ssl-redirect", REWRITE];
/// How long a backend may take to begin its answer, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest that may be asked for.
const LONGEST: u64 = 24 * 3600;

/// How the requests of an Ingress are handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Plain HTTP is redirected to TLS where there is a certificate for the host.
    pub ssl_redirect: bool,
    /// Largest body of a request in bytes; None: no limit.
    pub body_size: Option<u64>,
    /// What the path is replaced with; `$1` to `$9` are captures of the path's regular expression.
    pub rewrite: Option<String>,
    /// A client stays with its endpoint, by a cookie.
    pub sticky: bool,
    /// How long a backend may be silent before its answer begins.
    pub timeout: Duration,
    /// How backends speak; None: as the Service's port says.
    pub protocol: Option<Protocol>,
}

/// How a backend speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1, upgrades included.
    #[default]
    Http1,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 without TLS: gRPC.
    H2c,
    /// HTTP/2 over TLS.
    H2,
}

impl Protocol {
    /// Over TLS?
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::H2)
    }
    /// HTTP/2?
    pub fn is_http2(self) -> bool {
        matches!(self, Self::H2c | Self::H2)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { ssl_redirect: true, body_size: None, rewrite: None, sticky: false, timeout: TIMEOUT, protocol: None }
    }
}

impl Settings {
    /// The settings, and what is wrong with the annotations. What is wrong is as if it were not there.
    pub fn read(annotations: &BTreeMap<String, String>) -> (Self, Vec<String>) {
        let (mut settings, mut problems) = (Self::default(), Vec::new());
        // Of the two spellings of a name ours counts.
        let ours = annotations.iter().filter_map(|(k, v)| Some((k, k.strip_prefix(OURS)?, v)));
        let aliases = annotations.iter().filter_map(|(k, v)| Some((k, k.strip_prefix(ALIAS)?, v)));
        let aliases = aliases
            .filter(|(_, name, _)| ALIASED.contains(name) && !annotations.contains_key(&format!("{OURS}{name}")));
        for (key, name, value) in ours.chain(aliases) {
            if let Err(why) = settings.set(name, value) {
                problems.push(format!("annotation {key}={value:?}: {why}"));
            }
        }
        (settings, problems)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "proxy-body-size" => self.body_size = size(value)?,
            "ssl-redirect" => self.ssl_redirect = flag(value)?,
            REWRITE if value.starts_with('/') || value.starts_with('$') => self.rewrite = Some(value.to_owned()),
            REWRITE => return Err("must begin with / or a capture".to_owned()),
            "sticky-sessions" => self.sticky = flag(value)?,
            "proxy-timeout" => self.timeout = seconds(value)?,
            "backend-protocol" => self.protocol = Some(protocol(value)?),
            _ => return Err("there is no such annotation of an Ingress".to_owned()),
        }
        Ok(())
    }
}

fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".to_owned())
}

/// As ingress-nginx writes it.
fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_uppercase().as_str() {
        "HTTP" => Ok(Protocol::Http1),
        "HTTPS" => Ok(Protocol::Https),
        "GRPC" => Ok(Protocol::H2c),
        "GRPCS" => Ok(Protocol::H2),
        _ => Err("must be HTTP, HTTPS, GRPC or GRPCS".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('s').unwrap_or(text).parse() {
        Ok(n @ 1..=LONGEST) => Ok(Duration::from_secs(n)),
        _ => Err(format!("must be a number of seconds between 1 and {LONGEST}")),
    }
}

/// As ingress-nginx writes it (`8m`, powers of two), or as Kubernetes does (`8Mi`); 0: no limit.
fn size(text: &str) -> Result<Option<u64>, String> {
    let wrong = || "must be a size such as 8m or 8Mi, or 0 for no limit".to_owned();
    let (number, shift) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let bytes = match number.parse::<u64>() {
        Ok(n) => n.checked_mul(1 << shift).ok_or_else(wrong)?,
        Err(_) => {
            let quantity: Quantity = text.parse().map_err(|_| wrong())?;
            u64::try_from(quantity.value()).map_err(|_| wrong())?
        }
    };
    Ok((bytes > 0).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> (Settings, Vec<String>) {
        Settings::read(&annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn both_spellings_are_understood_and_ours_counts() {
        let (s, problems) = read(&[
            ("nginx.ingress.kubernetes.io/proxy-body-size", "8m"),
            ("nginx.ingress.kubernetes.io/ssl-redirect", "false"),
            ("nginx.ingress.kubernetes.io/rewrite-target", "/$2"),
            ("kybern.io/ssl-redirect", "true"),
            ("kybern.io/sticky-sessions", "true"),
            ("kybern.io/proxy-timeout", "5s"),
            ("nginx.ingress.kubernetes.io/backend-protocol", "grpcs"),
            ("nginx.ingress.kubernetes.io/configuration-snippet", "return 200;"),
            ("example.com/other", "x"),
        ]);
        let rewrite = Some("/$2".to_owned());
        let timeout = Duration::from_secs(5);
        let protocol = Some(Protocol::H2);
        let expected =
            Settings { body_size: Some(8 << 20), rewrite, sticky: true, timeout, protocol, ..Settings::default() };
        assert_eq!(s, expected);
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_said_and_not_there() {
        let (s, problems) = read(&[
            ("kybern.io/proxy-body-size", "much"),
            ("kybern.io/proxy-timeout", "0"),
            ("kybern.io/rewrite-target", "elsewhere"),
            ("kybern.io/backend-protocol", "FCGI"),
            ("kybern.io/ssl-redirct", "false"),
            ("nginx.ingress.kubernetes.io/ssl-redirect", "no"),
        ]);
        assert_eq!(s, Settings::default());
        assert_eq!(problems.len(), 6, "{problems:?}");
        assert!(problems.iter().any(|p| p.contains("kybern.io/ssl-redirct=\"false\": there is no such")));
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(None)),
            ("1024", Some(Some(1024))),
            ("1k", Some(Some(1 << 10))),
            ("2G", Some(Some(2 << 30))),
            ("8Mi", Some(Some(8 << 20))),
            ("-1", None),
            ("", None),
            ("99999999999g", None),
        ] {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
    }
}
