//! A narrow view of an Ingress.

use crate::object::Object;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use smol_str::SmolStr;
use std::collections::BTreeMap;

/// The annotation that named the class before there was a field for it.
const LEGACY_CLASS: &str = "kubernetes.io/ingress.class";
/// Characters that make a path a regular expression.
const SPECIAL: &[char] = &['(', ')', '[', ']', '{', '}', '*', '+', '?', '|', '^', '$', '\\'];
/// Largest program of an expression, in bytes.
const EXPRESSION_LIMIT: usize = 64 << 10;

/// An Ingress.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ingress {
    /// Namespace.
    pub namespace: SmolStr,
    /// Name.
    pub name: SmolStr,
    /// Seconds since the epoch.
    pub created: i64,
    /// Its class; empty: none.
    pub class: SmolStr,
    /// All annotations.
    pub annotations: BTreeMap<String, String>,
    /// Rules.
    pub rules: Vec<Rule>,
    /// Where requests go that no rule matches.
    pub default: Option<Backend>,
    /// Certificates.
    pub tls: Vec<Tls>,
}

/// What is served under a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Host, `*.` and a domain, or empty for requests whose host nobody names.
    pub host: SmolStr,
    /// Paths.
    pub paths: Vec<Path>,
}

/// A path and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// How it is compared.
    pub kind: PathType,
    /// The text; begins with a slash.
    pub path: String,
    /// Where its requests go; None: to a resource, which no proxy of ours can reach.
    pub backend: Option<Backend>,
}

impl Path {
    /// The regular expression that the path is: in Ingresses with a rewrite target, of the type
    /// ImplementationSpecific. It is compared from the path's beginning, without regard to case.
    ///
    /// # Errors
    /// When it is malformed or too large.
    pub fn expression(&self, rewrites: bool) -> Result<Option<Regex>, regex::Error> {
        if !rewrites || self.kind != PathType::ImplementationSpecific || !self.path.contains(SPECIAL) {
            return Ok(None);
        }
        let whole = format!("^(?:{})", self.path);
        RegexBuilder::new(&whole).case_insensitive(true).size_limit(EXPRESSION_LIMIT).build().map(Some)
    }
}

/// How a path is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum PathType {
    /// Equal.
    Exact,
    /// Element by element.
    Prefix,
    /// Like Prefix; with a rewrite target and regular expressions in it, as one.
    ImplementationSpecific,
}

/// A port of a Service in the Ingress' namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Backend {
    /// The Service.
    pub service: SmolStr,
    /// Its port.
    pub port: Port,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// By name.
    Name(SmolStr),
    /// By number.
    Number(u16),
}

/// A certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The hosts it is for; empty: those of the rules.
    pub hosts: Vec<SmolStr>,
    /// The Secret.
    pub secret: SmolStr,
}

impl Ingress {
    /// Reads an Ingress.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(object: &Object) -> Result<Self, serde_json::Error> {
        let view: View = object.view()?;
        let annotations = view.metadata.annotations.unwrap_or_default();
        let spec = view.spec;
        let legacy = || annotations.get(LEGACY_CLASS).map(SmolStr::new).unwrap_or_default();
        Ok(Self {
            namespace: object.head.namespace.clone(),
            name: object.head.name.clone(),
            created: object.head.created,
            class: spec.ingress_class_name.filter(|c| !c.is_empty()).unwrap_or_else(legacy),
            rules: spec.rules.unwrap_or_default().into_iter().map(rule).collect(),
            default: spec.default_backend.and_then(|b| b.read()),
            tls: spec.tls.unwrap_or_default().into_iter().map(tls).collect(),
            annotations,
        })
    }
    /// `namespace/name`
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
    /// The hosts that its rules and certificates name.
    pub fn hosts(&self) -> impl Iterator<Item = &SmolStr> {
        let hosts = self.rules.iter().map(|r| &r.host).chain(self.tls.iter().flat_map(|t| &t.hosts));
        hosts.filter(|h| !h.is_empty())
    }
    /// The Secrets with its certificates.
    pub fn secrets(&self) -> impl Iterator<Item = &SmolStr> {
        self.tls.iter().map(|t| &t.secret).filter(|s| !s.is_empty())
    }
    /// Every backend it leads to.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        let paths = self.rules.iter().flat_map(|r| &r.paths).filter_map(|p| p.backend.as_ref());
        paths.chain(&self.default)
    }
    /// The hosts that a certificate is for.
    pub fn covered<'a>(&'a self, tls: &'a Tls) -> impl Iterator<Item = &'a SmolStr> {
        let of_rules = tls.hosts.is_empty().then(|| self.rules.iter().map(|r| &r.host));
        tls.hosts.iter().chain(of_rules.into_iter().flatten()).filter(|h| !h.is_empty())
    }
}

#[derive(Deserialize)]
struct View {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    ingress_class_name: Option<SmolStr>,
    default_backend: Option<BackendView>,
    rules: Option<Vec<RuleView>>,
    tls: Option<Vec<TlsView>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RuleView {
    host: SmolStr,
    http: Option<HttpView>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct HttpView {
    paths: Vec<PathView>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PathView {
    #[serde(default)]
    path: String,
    path_type: PathType,
    backend: BackendView,
}

#[derive(Deserialize)]
struct BackendView {
    service: Option<ServiceView>,
}

#[derive(Deserialize)]
struct ServiceView {
    name: SmolStr,
    #[serde(default)]
    port: PortView,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PortView {
    name: SmolStr,
    number: u16,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct TlsView {
    hosts: Option<Vec<SmolStr>>,
    secret_name: SmolStr,
}

impl BackendView {
    fn read(self) -> Option<Backend> {
        let ServiceView { name, port } = self.service?;
        let port = if port.name.is_empty() { Port::Number(port.number) } else { Port::Name(port.name) };
        Some(Backend { service: name, port })
    }
}

fn rule(view: RuleView) -> Rule {
    let paths = view.http.unwrap_or_default().paths.into_iter().map(|p| Path {
        kind: p.path_type,
        path: if p.path.is_empty() { "/".to_owned() } else { p.path },
        backend: p.backend.read(),
    });
    Rule { host: lower(&view.host), paths: paths.collect() }
}

fn tls(view: TlsView) -> Tls {
    Tls { hosts: view.hosts.unwrap_or_default().iter().map(lower).collect(), secret: view.secret_name }
}

fn lower(host: &SmolStr) -> SmolStr {
    host.to_ascii_lowercase().into()
}
