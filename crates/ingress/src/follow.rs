//! Keeps the proxy equal to what the cluster says, and listens while there is something to serve.

use crate::backend::{self, Backend, Backends, Endpoints, service_of};
use crate::listen::{Config, Listeners};
use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::routes::Table;
use crate::secrets::Secrets;
use crate::tls::{self, Certificates};
use kybern_api::ingress::{self as facts, Backend as Wanted};
use kybern_api::object::Object;
use kybern_client::informer::Informer;
use kybern_client::store::{Delta, Name};
use kybern_client::transport::{Resource, Selection, Transport};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use smol_str::SmolStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A port that could not be bound is tried again after this long.
const RETRY: Duration = Duration::from_secs(5);

/// Where the proxy learns from.
pub struct Sources {
    /// Ingresses and their classes, as the proxy's own account.
    pub own: Arc<dyn Transport>,
    /// Secrets, as the node: it may read those that an Ingress it serves names.
    pub node: Arc<dyn Transport>,
    /// All nodes.
    pub nodes: Arc<Informer>,
    /// All Services.
    pub services: Arc<Informer>,
    /// All EndpointSlices.
    pub slices: Arc<Informer>,
}

/// The Ingress proxy of a node.
pub struct Ingress {
    /// The node's name.
    pub node: String,
    /// Where to listen.
    pub config: Config,
    /// Where to learn from.
    pub sources: Sources,
    /// Cryptography.
    pub provider: Arc<CryptoProvider>,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
}

impl Ingress {
    /// Follows the cluster and serves until `cancel`; requests that have begun come to their end.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), rustls::Error> {
        let certificates = Arc::new(Certificates::default());
        let tls = tls::server(certificates.clone(), self.provider.clone())?;
        let start = |plural| {
            let resource = Resource::new("networking.k8s.io", "v1", plural);
            Informer::start(self.sources.own.clone(), resource, Selection::default(), None, cancel.clone())
        };
        let (ingresses, classes) = (start("ingresses"), start("ingressclasses"));
        let follower = Follower {
            proxy: Arc::new(Proxy::new(
                certificates.clone(),
                self.config.https.port(),
                self.metrics,
                cancel.child_token(),
            )),
            secrets: Secrets::new(self.sources.node, self.provider, cancel.child_token()),
            certificates,
            tls,
            node: Name::new("", self.node),
            config: self.config,
            ingresses,
            classes,
            nodes: self.sources.nodes,
            services: self.sources.services,
            slices: self.sources.slices,
            backends: Backends::default(),
            named: Vec::new(),
            active: None,
            tracker: TaskTracker::new(),
        };
        let tracker = follower.tracker.clone();
        cancel.run_until_cancelled(follower.run()).await;
        tracker.close();
        tracker.wait().await;
        Ok(())
    }
}

struct Follower {
    node: Name,
    config: Config,
    ingresses: Arc<Informer>,
    classes: Arc<Informer>,
    nodes: Arc<Informer>,
    services: Arc<Informer>,
    slices: Arc<Informer>,
    proxy: Arc<Proxy>,
    certificates: Arc<Certificates>,
    tls: Arc<ServerConfig>,
    secrets: Secrets,
    backends: Backends,
    /// Hosts, and the Secrets with their certificates.
    named: Vec<(SmolStr, Name)>,
    /// While there is something to serve.
    active: Option<Active>,
    tracker: TaskTracker,
}

/// What goes on only while there is something to serve.
struct Active {
    services: UnboundedReceiver<Delta>,
    slices: UnboundedReceiver<Delta>,
    /// The listeners end with it.
    _listening: tokio_util::sync::DropGuard,
}

/// What has to be done.
enum Step {
    Routes,
    Certificates,
    /// The endpoints of a service: namespace and name.
    Endpoints(Name),
    /// Nothing of this concerns the proxy.
    Nothing,
}

impl Follower {
    async fn run(mut self) {
        self.ingresses.synced().await;
        self.classes.synced().await;
        self.services.synced().await;
        self.slices.synced().await;
        let mut ingresses = self.ingresses.subscribe();
        let mut classes = self.classes.subscribe();
        let mut nodes = self.nodes.subscribe();
        let mut step = Step::Routes;
        loop {
            match step {
                Step::Routes => {
                    // What has come meanwhile is in the stores that are read now.
                    while ingresses.try_recv().is_ok() || classes.try_recv().is_ok() {}
                    self.routes();
                    self.exchange_certificates();
                }
                Step::Certificates => self.exchange_certificates(),
                Step::Endpoints(service) => self.refill(&service),
                Step::Nothing => {}
            }
            step = tokio::select! {
                Some(_) = ingresses.recv() => Step::Routes,
                Some(_) = classes.recv() => Step::Routes,
                Some(delta) = nodes.recv() => self.of_node(&delta),
                () = self.secrets.changed() => Step::Certificates,
                step = next(&mut self.active) => step,
                else => return,
            };
        }
    }

    fn of_node(&self, delta: &Delta) -> Step {
        let labels = |i: &Option<kybern_client::store::Item>| i.as_ref().map(|i| i.object.head.labels.clone());
        let is_own = delta.latest().is_some_and(|i| i.object.head.name == self.node.name);
        if is_own && labels(&delta.old) != labels(&delta.new) { Step::Routes } else { Step::Nothing }
    }

    /// The Ingresses that this node serves, oldest first.
    fn served(&self) -> Vec<facts::Ingress> {
        let Some(node) = self.nodes.get(&self.node) else { return Vec::new() };
        let classes = self.classes.store();
        let mut classes = facts::classes(classes.iter().map(|i| &i.object));
        classes.retain(|c| c.is_served_by(&node.object.head));
        let read = |object: &Object| {
            facts::Ingress::of(object)
                .inspect_err(|e| tracing::warn!(ingress = %object.head.key(), "can't be read and is left out: {e}"))
                .ok()
        };
        let store = self.ingresses.store();
        let mut served: Vec<facts::Ingress> = store.iter().filter_map(|i| read(&i.object)).collect();
        served.retain(|i| classes.iter().any(|c| c.name == i.class));
        served.sort_by(facts::order);
        served
    }

    fn routes(&mut self) {
        let served = self.served();
        if served.is_empty() {
            // Whoever is still connected is told that nothing is served.
            self.active = None;
        } else if self.active.is_none() {
            self.active = Some(self.activate());
        }
        let mut new = Vec::new();
        let backends = &mut self.backends;
        let table = Table::new(&served, |namespace, wanted| {
            let (backend, is_new) = backends.get(namespace, wanted);
            if is_new {
                new.push((namespace.clone(), wanted.clone(), backend.clone()));
            }
            backend
        });
        for (namespace, wanted, backend) in new {
            self.fill(&namespace, &wanted, &backend);
        }
        self.named =
            table.certificates.iter().map(|(h, ns, s)| (h.clone(), Name::new(ns.clone(), s.clone()))).collect();
        self.secrets.want(self.named.iter().map(|(_, secret)| secret.clone()).collect());
        self.proxy.set(table);
        self.backends.sweep();
        tracing::debug!(ingresses = served.len(), "routes are in force");
    }

    fn activate(&self) -> Active {
        let cancel = CancellationToken::new();
        let listening = listen(self.config, self.proxy.clone(), self.tls.clone(), cancel.clone());
        self.tracker.spawn(listening);
        Active { services: self.services.subscribe(), slices: self.slices.subscribe(), _listening: cancel.drop_guard() }
    }

    fn exchange_certificates(&mut self) {
        let secrets = &mut self.secrets;
        let found = self.named.iter().filter_map(|(host, secret)| Some((host.clone(), secrets.certificate(secret)?)));
        self.certificates.set(found.collect());
    }

    fn refill(&self, service: &Name) {
        for (wanted, backend) in self.backends.of(&service.namespace, &service.name) {
            self.fill(&service.namespace, wanted, &backend);
        }
    }

    fn fill(&self, namespace: &str, wanted: &Wanted, backend: &Backend) {
        let name = Name::new(namespace, wanted.service.clone());
        let slices = self.slices.store();
        let of_service = slices.in_namespace(namespace).map(|i| &i.object);
        let of_service = of_service.filter(|o| service_of(o) == Some(wanted.service.as_str()));
        let found = match self.services.get(&name) {
            Some(service) => backend::endpoints(&service.object, &wanted.port, of_service),
            None => Ok(Endpoints::default()),
        };
        match found {
            Ok(endpoints) => backend.set(endpoints),
            // The endpoints known before may still answer.
            Err(e) => tracing::warn!(service = %format!("{namespace}/{}", name.name), "can't be read: {e}"),
        }
    }
}

/// The next change of a service or its endpoints; none ever comes while there is nothing to serve.
async fn next(active: &mut Option<Active>) -> Step {
    let Some(active) = active else { return std::future::pending().await };
    let of_service = |delta: &Delta| delta.latest().map(|i| Name::of(&i.object));
    let of_slice = |delta: &Delta| {
        let object = &delta.latest()?.object;
        Some(Name::new(object.head.namespace.clone(), service_of(object)?))
    };
    let service = tokio::select! {
        delta = active.services.recv() => delta.and_then(|d| of_service(&d)),
        delta = active.slices.recv() => delta.and_then(|d| of_slice(&d)),
    };
    service.map_or(Step::Nothing, Step::Endpoints)
}

/// Listens and serves. A port that another program holds is waited for.
async fn listen(config: Config, proxy: Arc<Proxy>, tls: Arc<ServerConfig>, cancel: CancellationToken) {
    let bound = async {
        loop {
            match Listeners::bind(&config).await {
                Ok(listeners) => return listeners,
                Err(e) => tracing::error!("Ingress is not served: {e}; trying again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    let Some(listeners) = cancel.run_until_cancelled(bound).await else { return };
    tracing::info!(http = %config.http, https = %config.https, "Ingress is served");
    listeners.serve(proxy, tls, cancel).await;
}
