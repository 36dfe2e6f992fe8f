//! Levels and versions, as a namespace's labels give them.

use kybern_api::kind::Causes;
use kybern_api::validate::Field;
use serde_json::Value;
use std::fmt;

const PREFIX: &str = "pod-security.kubernetes.io/";
/// The minor version that `latest` means here.
const LATEST: u32 = 36;

/// How much a pod may do. Each level includes the restrictions of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Level {
    /// Everything.
    #[default]
    Privileged,
    /// Nothing that is known to lead out of the container.
    Baseline,
    /// Hardened by today's practice.
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
    fn word(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// A level as some version of Kubernetes defined it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standard {
    pub(super) level: Level,
    /// Minor version; None: the newest.
    version: Option<u32>,
}

impl Standard {
    /// The minor version whose rules count.
    pub(super) fn minor(&self) -> u32 {
        self.version.unwrap_or(LATEST)
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(minor) => write!(f, "{}:v1.{minor}", self.level.word()),
            None => write!(f, "{}:latest", self.level.word()),
        }
    }
}

/// What a namespace asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Policy {
    pub(super) enforce: Standard,
    pub(super) warn: Standard,
}

impl Policy {
    /// From a namespace's labels. What cannot be read counts as the strictest where it is enforced, and as
    /// nothing where it only warns.
    pub(super) fn read(labels: Option<&Value>) -> Self {
        Self {
            enforce: standard(labels, "enforce", Level::Restricted),
            warn: standard(labels, "warn", Level::Privileged),
        }
    }
}

fn standard(labels: Option<&Value>, mode: &str, unreadable: Level) -> Standard {
    let level = label(labels, mode).map_or(Level::default(), |text| Level::parse(text).unwrap_or(unreadable));
    let version = label(labels, &format!("{mode}-version")).and_then(|text| version(text).ok().flatten());
    Standard { level, version }
}

fn label<'a>(labels: Option<&'a Value>, mode: &str) -> Option<&'a str> {
    labels?.get(format!("{PREFIX}{mode}"))?.as_str()
}

/// `latest` is None.
fn version(text: &str) -> Result<Option<u32>, ()> {
    if text == "latest" {
        return Ok(None);
    }
    let minor = text.strip_prefix("v1.").ok_or(())?;
    let plain = minor == "0" || !minor.starts_with('0') && minor.bytes().all(|b| b.is_ascii_digit());
    if plain { minor.parse().map(Some).map_err(|_| ()) } else { Err(()) }
}

/// What is wrong with a namespace's labels.
pub(super) fn mistakes(namespace: &Field<'_, '_>) -> Causes {
    let (metadata, mut found) = (namespace.field("metadata"), Causes::new());
    let labels = metadata.field("labels");
    for mode in ["enforce", "audit", "warn"] {
        let (level, since) = (format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version"));
        let (level, since) = (labels.entry(&level), labels.entry(&since));
        if level.present() && Level::parse(level.text()).is_none() {
            level.invalid("must be one of privileged, baseline, restricted", &mut found);
        }
        if since.present() && version(since.text()).is_err() {
            since.invalid("must be \"latest\" or \"v1.x\"", &mut found);
        }
    }
    found
}
