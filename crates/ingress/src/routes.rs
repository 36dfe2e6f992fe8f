//! Host and path to a target: Kubernetes' precedence, as one pure table.
//!
//! A host's own name comes before a wildcard (which stands for one label), and that before requests whose
//! host nobody names. Within a host the longest path wins, and of equally long ones Exact, then Prefix.
//! What no path of a host takes goes to the default backend of the Ingress with its rules, then to the
//! default backend of the cluster.

use crate::backend::Backend;
use crate::metrics;
use kybern_api::ingress::{Backend as Wanted, Claims, Ingress, Path, PathType, Settings};
use regex::Regex;
use smol_str::SmolStr;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

/// Where requests go, and how they are handled on the way.
#[derive(Debug)]
pub struct Target {
    /// What its requests are counted under.
    pub route: metrics::Route,
    /// The Service and port.
    pub service: Wanted,
    /// Its endpoints.
    pub backend: Arc<Backend>,
    /// What the Ingress' annotations say.
    pub settings: Arc<Settings>,
}

/// One path of a host.
#[derive(Debug)]
pub struct Route {
    kind: PathType,
    /// Without a slash at the end, unless Exact.
    path: String,
    expression: Option<Regex>,
    target: Option<Arc<Target>>,
}

/// What a table knows about a request.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// It goes to this target, by this expression where the path is one.
    Target(&'a Target, Option<&'a Regex>),
    /// A path takes it that leads nowhere: its backend is no Service.
    Nowhere,
    /// Nobody wants it.
    Nothing,
}

#[derive(Debug, Default)]
struct Host {
    routes: Vec<Route>,
    fallback: Option<Arc<Target>>,
}

/// All routes.
#[derive(Debug, Default)]
pub struct Table {
    /// By name; those with a wildcard with their `*.`.
    hosts: HashMap<SmolStr, Host>,
    /// Of requests whose host nobody names.
    others: Host,
    default: Option<Arc<Target>>,
    /// Hosts and the Secrets of their certificates: `(host, namespace, secret)`.
    pub certificates: Vec<(SmolStr, SmolStr, SmolStr)>,
}

impl Table {
    /// The table of these Ingresses, which are in [`kybern_api::ingress::order`]. `backend` finds the
    /// endpoints of a namespace's service.
    pub fn new(ingresses: &[Ingress], mut backend: impl FnMut(&SmolStr, &Wanted) -> Arc<Backend>) -> Self {
        let (mut table, mut claims) = (Self::default(), Claims::default());
        for ingress in ingresses {
            let taken = claims.take(ingress);
            let settings = Arc::new(Settings::read(&ingress.annotations).0);
            let key: Arc<str> = ingress.key().into();
            let mut target = |host: &str, path: &str, wanted: &Wanted| {
                let service = wanted.service.as_str().into();
                Arc::new(Target {
                    route: metrics::Route { ingress: key.clone(), host: host.into(), path: path.into(), service },
                    service: wanted.clone(),
                    backend: backend(&ingress.namespace, wanted),
                    settings: settings.clone(),
                })
            };
            let fallback = ingress.default.as_ref().map(|wanted| target("", "", wanted));
            for (name, paths) in taken.rules {
                let host = table.host(name);
                host.fallback = host.fallback.take().or_else(|| fallback.clone());
                let mut target = |path: &str, wanted: &Wanted| target(name, path, wanted);
                host.routes.extend(paths.into_iter().filter_map(|p| Route::new(p, ingress, &settings, &mut target)));
            }
            if taken.is_default {
                table.default = fallback;
            }
            let namespace = &ingress.namespace;
            let of = |(host, secret): (&SmolStr, &SmolStr)| (host.clone(), namespace.clone(), secret.clone());
            table.certificates.extend(taken.certificates.into_iter().map(of));
        }
        for host in table.hosts.values_mut().chain([&mut table.others]) {
            host.routes.sort_by_key(|r| (Reverse(r.path.trim_end_matches('/').len()), r.kind));
        }
        table
    }

    fn host(&mut self, name: &SmolStr) -> &mut Host {
        if name.is_empty() { &mut self.others } else { self.hosts.entry(name.clone()).or_default() }
    }

    /// Where a request goes. `host` is in lower case and without a port.
    pub fn find(&self, host: &str, path: &str) -> Found<'_> {
        let host = self.hosts.get(host).or_else(|| self.hosts.get(&*wildcard(host)?)).unwrap_or(&self.others);
        if let Some((route, target)) = host.routes.iter().find_map(|r| r.matches(path).then_some((r, &r.target))) {
            return target.as_ref().map_or(Found::Nowhere, |t| Found::Target(t, route.expression.as_ref()));
        }
        let default = host.fallback.as_ref().or(self.default.as_ref());
        default.map_or(Found::Nothing, |t| Found::Target(t, None))
    }

    /// What requests are counted under.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &metrics::Route> {
        let hosts = self.hosts.values().chain([&self.others]);
        let targets = hosts.flat_map(|h| h.routes.iter().filter_map(|r| r.target.as_ref()).chain(&h.fallback));
        targets.chain(&self.default).map(|t| &t.route)
    }

    /// Is there anything to serve?
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.others.routes.is_empty() && self.default.is_none()
    }
}

/// `*.` and all but the first label.
pub(crate) fn wildcard(host: &str) -> Option<String> {
    let (first, rest) = host.split_once('.')?;
    (!first.is_empty()).then(|| format!("*.{rest}"))
}

impl Route {
    /// None for an expression that cannot be used: the path is as if it were not there.
    fn new(
        path: &Path,
        ingress: &Ingress,
        settings: &Settings,
        target: &mut impl FnMut(&str, &Wanted) -> Arc<Target>,
    ) -> Option<Self> {
        let expression = path
            .expression(settings.rewrite.is_some())
            .inspect_err(|e| tracing::warn!(ingress = %ingress.key(), path = path.path, "no regular expression: {e}"))
            .ok()?;
        let text = match path.kind {
            PathType::Exact => path.path.as_str(),
            _ if expression.is_some() => path.path.as_str(),
            _ => path.path.trim_end_matches('/'),
        };
        let target = path.backend.as_ref().map(|wanted| target(&path.path, wanted));
        Some(Self { kind: path.kind, path: text.to_owned(), expression, target })
    }

    fn matches(&self, path: &str) -> bool {
        if let Some(expression) = &self.expression {
            return expression.is_match(path);
        }
        match self.kind {
            PathType::Exact => path == self.path,
            _ => path.strip_prefix(&*self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}
