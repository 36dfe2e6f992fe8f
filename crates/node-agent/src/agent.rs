//! The agent as a whole: joins, registers, runs pods, until told to stop.

use crate::cgroup::Cgroups;
use crate::cni::{self, Backend};
use crate::config::Config;
use crate::dns::Upstream;
use crate::error::{Error, Result};
use crate::events::Recorder;
use crate::feed::{Connect, Feed, FeedConfig, tls_connect};
use crate::images::credentials::Keyring;
use crate::images::directory::Directory;
use crate::images::pull::Puller;
use crate::images::registries::Registries;
use crate::images::share::{Mirror, Peers};
use crate::ingress::IngressNode;
use crate::netcheck::NetCheck;
use crate::network::{NetworkConfig, NodeNetwork};
use crate::node::capacity::Capacity;
use crate::node::certificate::{self, Credential, Store};
use crate::node::guard::Guard;
use crate::node::pressure::Pressure;
use crate::node::rotation::Rotation;
use crate::node::shutdown::Shutdown;
use crate::node::stats::Stats;
use crate::node::status::NodeStatus;
use crate::node::trust::Trust;
use crate::node::{lease, system};
use crate::offline::Offline;
use crate::pods::admit::Abilities;
use crate::pods::find::RuntimeContainers;
use crate::pods::sources::Sources;
use crate::pods::{Command, Pods, Shared, security};
use crate::references::References;
use crate::runtime::Runtime;
use crate::runtime::containerd::Tell;
use crate::runtime::engine::Engine;
use crate::stream::{Services, Streams};
use crate::volumes::local;
use crate::volumes::token::Tokens;
use ipnet::Ipv4Net;
use kybern_api::seam::{Clock, Ids};
use kybern_client::informer::Informer;
use kybern_client::set::InformerSet;
use kybern_client::transport::{Resource, Selection, Transport};
use kybern_client::write::Writer;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Changes of containers that wait to be looked at. More may wait in the runtime.
const CHANGES: usize = 256;

/// Orders to pods that wait to be passed on.
const ORDERS: usize = 16;

/// How to get into the cluster.
#[derive(Debug, Clone)]
pub struct Join {
    /// API addresses (`host:port`).
    pub servers: Vec<String>,
    /// The servers' CAs, PEM; already checked against the join token's hash.
    pub ca: String,
    /// Where they are kept: they are replaced while the node runs.
    pub ca_file: PathBuf,
    /// The bootstrap token; needed until there is a certificate.
    pub bearer: Option<String>,
}

/// The cluster's networks.
#[derive(Debug, Clone)]
pub struct Networks {
    /// All pods' addresses.
    pub pods: Ipv4Net,
    /// All services' addresses.
    pub services: Ipv4Net,
    /// How pod traffic travels between nodes.
    pub backend: Backend,
}

/// A node agent, ready to run.
pub struct Agent {
    config: Config,
    join: Join,
    networks: Networks,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    /// What the Ingress proxy counts.
    ingress: Arc<kybern_ingress::Metrics>,
}

impl Agent {
    /// An agent with these settings.
    pub fn new(config: Config, join: Join, networks: Networks, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { config, join, networks, clock, ids, ingress: Arc::default() }
    }

    /// Runs the node until cancelled. Containers outlive it.
    ///
    /// # Errors
    /// When the runtime does not start or the cluster refuses the node.
    pub async fn run(self, cancel: CancellationToken) -> Result<()> {
        let paths = self.config.paths();
        for dir in [paths.data(), paths.state()] {
            std::fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        }
        system::prepare();
        let registries = Registries::load(&self.config.registries)?;
        let mirror = if self.config.share_images { Some(Mirror::bind(self.ids.uid()).await?) } else { None };
        let peers = mirror.as_ref().map(Mirror::endpoint);
        let (credential, engine) =
            tokio::try_join!(self.credential(&cancel), Engine::start(&self.config, &registries, peers))?;
        let trust = self.trust(Some(&credential))?;
        let feed = self.feed(
            {
                let trust = trust.clone();
                move || trust.tls()
            },
            None,
        )?;
        let tasks = Tasks { cancel: cancel.clone(), tracker: tokio_util::task::TaskTracker::new() };
        tasks.spawn({
            let (feed, cancel) = (feed.clone(), cancel.clone());
            async move { feed.run(cancel).await }
        });
        self.keep_certificate(credential, &feed, &trust, &tasks);
        let runtime = engine.runtime();
        let containers = RuntimeContainers::new(runtime.clone(), paths);
        let stats = Stats::new(&self.config.name, runtime.clone(), self.clock.clone(), self.config.data_dir.clone());
        let stats = Arc::new(stats);
        let content = engine.content().filter(|_| self.config.share_images);
        let services = Services {
            runtime,
            containers: Arc::new(containers),
            clock: self.clock.clone(),
            stats: stats.clone(),
            content,
            check: NetCheck::new(
                &self.config.name,
                self.cni(),
                (ipv4(self.config.cluster_dns.first())?, self.config.cluster_domain.clone()),
            ),
            ingress: self.ingress.clone(),
        };
        let connect = tls_connect({
            let trust = trust.clone();
            move || trust.tls()
        });
        self.serve_streams(&feed, connect.clone(), services, &tasks);
        let keyring = registries.keyring();
        self.run_node(Parts { feed, connect, trust, engine, keyring, stats, mirror }, &tasks).await;
        tasks.tracker.close();
        tasks.tracker.wait().await;
        Ok(())
    }

    fn cni(&self) -> cni::Paths {
        let paths = self.config.paths();
        cni::Paths { bin_dir: paths.cni_bin(), conf_dir: paths.cni_conf() }
    }

    fn trust(&self, credential: Option<&Credential>) -> Result<Arc<Trust>> {
        Trust::new(&self.join.ca, &self.join.ca_file, credential)
    }

    /// The kept credential, or a new one. An expired one is shown when asking for the next: it is still good for
    /// that where the node was off until it had expired.
    async fn credential(&self, cancel: &CancellationToken) -> Result<Credential> {
        let store = Store::new(&self.config.paths().pki());
        let kept = store.load();
        let expired = match kept {
            Some(kept) if kept.is_valid(self.clock.now()) => return Ok(kept),
            kept => kept,
        };
        let bearer = self.join.bearer.clone();
        if expired.is_none() && bearer.is_none() {
            return Err(Error::Certificate("there is none, and no token to ask for one: give --token".into()));
        }
        if let Some(expired) = &expired {
            tracing::warn!(?expired, "the node's certificate has expired: asking for a new one");
        }
        let trust = self.trust(expired.as_ref())?;
        let feed = self.feed(move || trust.tls(), bearer)?;
        let stop = cancel.child_token();
        let _carry = stop.clone().drop_guard();
        tokio::spawn({
            let feed = feed.clone();
            async move { feed.run(stop).await }
        });
        let credential = certificate::obtain(Arc::new(feed), &self.config.name, &*self.ids).await?;
        store.save(&credential)?;
        Ok(credential)
    }

    fn feed(
        &self,
        tls: impl Fn() -> Arc<rustls::ClientConfig> + Send + Sync + 'static,
        bearer: Option<String>,
    ) -> Result<Feed> {
        let known = self.config.paths().data().join("servers");
        let config = FeedConfig { servers: self.join.servers.clone(), known, connect: tls_connect(tls), bearer };
        Ok(Feed::new(config)?)
    }

    /// Keeps a reverse stream to every server: logs, exec, attach and port-forward come over them.
    fn serve_streams(&self, feed: &Feed, connect: Connect, services: Services, tasks: &Tasks) {
        let streams = Streams { node: self.config.name.clone(), connect, services: Arc::new(services) };
        let (feed, cancel) = (feed.clone(), tasks.cancel.clone());
        tasks.spawn(async move { streams.run(&feed, cancel).await });
    }

    /// Renews the certificate in time, and does what the cluster asks of nodes while it replaces its CAs.
    fn keep_certificate(&self, credential: Credential, feed: &Feed, trust: &Arc<Trust>, tasks: &Tasks) {
        let transport: Arc<dyn Transport> = Arc::new(feed.clone());
        let replaced = {
            let (feed, trust) = (feed.clone(), trust.clone());
            move |c: &Credential| {
                trust.show(c)?;
                feed.reconnect();
                Ok(())
            }
        };
        let renewal = certificate::Renewal {
            store: Store::new(&self.config.paths().pki()),
            transport: transport.clone(),
            node: self.config.name.clone(),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
        };
        let (renew, orders) = mpsc::channel(1);
        tasks.spawn(renewal.keep(credential, replaced, orders, tasks.cancel.clone()));
        let rotation = Rotation {
            node: self.config.name.clone(),
            writer: Writer::new(transport, "kubelet", 0),
            trust: trust.clone(),
            renew,
        };
        tasks.spawn(rotation.follow(tasks.cancel.clone()));
    }

    /// The Ingress proxy, where this node is to have one.
    fn serve_ingress(&self, parts: &Parts, informers: &InformerSet, writer: &Writer, tasks: &Tasks) {
        let Some(config) = self.config.ingress else { return };
        let node = IngressNode {
            node: self.config.name.clone(),
            config,
            trust: parts.trust.clone(),
            known: self.config.paths().data().join("servers-ingress"),
            feed: parts.feed.clone(),
            informers: informers.clone(),
            writer: writer.clone(),
            clock: self.clock.clone(),
            metrics: self.ingress.clone(),
        };
        tasks.spawn(node.run(tasks.cancel.clone()));
    }

    fn network(
        &self,
        feed: &Feed,
        informers: &InformerSet,
        mine: Arc<Informer>,
        cancel: &CancellationToken,
    ) -> Result<NodeNetwork> {
        let paths = self.config.paths();
        let program = std::env::current_exe().map_err(Error::file("find", Path::new("/proc/self/exe")))?;
        let config = NetworkConfig {
            feed: feed.clone(),
            node: self.config.name.clone(),
            address: ipv4(Some(&self.config.node_ip))?,
            cluster_cidr: self.networks.pods,
            service_cidr: self.networks.services,
            dns: ipv4(self.config.cluster_dns.first())?,
            domain: self.config.cluster_domain.clone(),
            backend: self.networks.backend,
            data_dir: paths.data().join("cni/addresses"),
            remembered: paths.data().join("cni/pod-network"),
            cni: self.cni(),
            program,
            upstream: self.upstream(),
        };
        Ok(NodeNetwork::start(config, informers, mine, cancel))
    }

    /// Where names outside the cluster are asked for.
    fn upstream(&self) -> Upstream {
        match &self.config.upstream_dns {
            Some(servers) => Upstream::new(servers.iter().map(|a| (*a, 53).into()).collect()),
            None => Upstream::from_resolv_conf(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
        }
    }

    /// Debian's containerd has neither user namespaces nor strict groups. One that does not say which it is
    /// can do no more than the first.
    async fn abilities(&self, runtime: &dyn Runtime) -> Abilities {
        let version = runtime.version().await.unwrap_or_default();
        let own = Abilities {
            apparmor: Path::new("/sys/kernel/security/apparmor").exists(),
            user_namespaces: false,
            strict_groups: false,
            image_volumes: false,
            unsafe_sysctls: self.config.unsafe_sysctls.clone(),
        };
        own.of_runtime(&version.runtime_name, &version.runtime_version)
    }

    /// Sees to the node's images: what comes from other nodes, and archives that are put into a directory.
    fn serve_images(&self, parts: &mut Parts, nodes: &Arc<Informer>, tell: &Tell, tasks: &Tasks) {
        if let Some(mirror) = parts.mirror.take() {
            let (node, connect) = (self.config.name.clone(), parts.connect.clone());
            let peers = Peers { node, connect, feed: parts.feed.clone(), nodes: nodes.clone() };
            tasks.spawn(mirror.run(peers, tasks.cancel.clone()));
        }
        if let Some(importer) = parts.engine.importer() {
            let (dir, record) = (self.config.images.clone(), self.config.paths().imported_images());
            let (runtime, changes) = (parts.engine.runtime(), tell.changes.clone());
            let images = Directory { dir, record, importer, runtime, changes };
            tasks.spawn(images.run(tasks.cancel.clone()));
        }
    }

    async fn run_node(&self, mut parts: Parts, tasks: &Tasks) {
        let (feed, engine) = (&parts.feed, &parts.engine);
        let cancel = &tasks.cancel;
        let transport: Arc<dyn Transport> = Arc::new(feed.clone());
        let runtime = engine.runtime();
        let informers = InformerSet::new(transport.clone(), HashMap::new(), cancel.clone());
        let capacity = Capacity::probe(&self.config.data_dir);
        let allocatable = capacity.allocatable(&self.config.reserved, self.config.eviction.memory_reserve());
        let writer = Writer::new(transport.clone(), "kubelet", 0);
        let pods = Resource::new("", "v1", "pods");
        let selection = Selection { fields: format!("spec.nodeName={}", self.config.name), ..Selection::default() };
        let mine = Informer::start(transport.clone(), pods.clone(), selection, None, cancel.clone());
        let network = match self.network(feed, &informers, Arc::clone(&mine), cancel) {
            Ok(network) => network,
            Err(e) => return tracing::error!(error = %e, "no pod network"),
        };
        let house = self.keep_house(&runtime, parts.stats.clone(), &mine, tasks);
        let (changes, changed) = mpsc::channel(CHANGES);
        let tell = Tell { changes, images: Arc::default() };
        let status = NodeStatus {
            config: self.config.clone(),
            capacity: capacity.clone(),
            allocatable: allocatable.clone(),
            runtime: runtime.clone(),
            writer: writer.clone(),
            clock: self.clock.clone(),
            network: network.ready(),
            pressures: house.pressures.clone(),
            leaving: house.leaving.clone(),
            images: tell.images.clone(),
        };
        let (registered, node_uid) = watch::channel(None);
        let leases = (writer.clone(), self.config.name.clone(), self.clock.clone());
        tasks.spawn(show_node(status, leases, registered, cancel.clone()));
        let nodes = informers.all(&Resource::new("", "v1", "nodes"));
        let give_back = local::give_back(nodes.clone(), writer.clone(), self.config.paths(), self.config.name.clone());
        let stop = cancel.clone();
        tasks.spawn(async move { stop.run_until_cancelled(give_back).await.unwrap_or_default() });
        self.serve_ingress(&parts, &informers, &writer, tasks);
        self.serve_images(&mut parts, &nodes, &tell, tasks);
        tasks.spawn(parts.engine.supervise(tell, cancel.clone()));
        let cgroups = Cgroups::new(&self.config.cgroup_root);
        let huge = if cgroups.counts_huge_pages() { capacity.huge.keys().copied().collect() } else { Vec::new() };
        let abilities = self.abilities(&*runtime).await;
        let memory = || Arc::new(Offline::new(&self.config.paths().offline()));
        let offline = self.config.offline_restart.then(memory);
        let shared = Shared {
            paths: self.config.paths(),
            puller: Arc::new(Puller::new(runtime.clone(), self.clock.clone(), parts.keyring)),
            cgroups,
            references: References::new(transport, offline.clone(), cancel.clone()),
            offline,
            tokens: Tokens::new(writer.clone()),
            events: Recorder::start(writer.clone(), &self.config.name, self.clock.clone(), self.ids.clone()),
            writer,
            runtime,
            clock: self.clock.clone(),
            services: informers.all(&Resource::new("", "v1", "services")),
            mine,
            capacity,
            allocatable,
            nodes,
            huge,
            orders: house.orders,
            ledger: Default::default(),
            left: Default::default(),
            abilities,
            seccomp: security::seccomp_supported(),
            network_ready: network.ready(),
            leaving: house.leaving,
            pressures: house.pressures,
            pods,
            node_uid,
            mirrors: Default::default(),
            known: Default::default(),
            config: self.config.clone(),
        };
        let sources = Sources::new(&self.config.manifests, &self.config.name, self.clock.clone());
        let statics = sources.start(cancel.clone());
        Pods::new(Arc::new(shared)).run(statics, changed, house.commands, cancel.clone()).await;
    }

    /// Starts what looks after the node as a whole.
    fn keep_house(&self, runtime: &Arc<dyn Runtime>, stats: Arc<Stats>, mine: &Arc<Informer>, tasks: &Tasks) -> House {
        let (orders, commands) = mpsc::channel(ORDERS);
        let (pressures, leaving) = (watch::Sender::default(), watch::Sender::default());
        let house =
            House { orders: orders.clone(), commands, pressures: pressures.subscribe(), leaving: leaving.subscribe() };
        let shutdown = Shutdown { pods: mine.clone(), orders: orders.clone(), leaving };
        tasks.spawn(shutdown.run(tasks.cancel.clone()));
        let guard = Guard {
            paths: self.config.paths(),
            runtime: runtime.clone(),
            cgroups: Cgroups::new(&self.config.cgroup_root),
            stats,
            clock: self.clock.clone(),
            pods: mine.clone(),
            orders,
            thresholds: self.config.eviction.clone(),
            image_gc: self.config.image_gc,
            pressures,
        };
        tasks.spawn(guard.run(tasks.cancel.clone()));
        house
    }
}

/// What the node's parts are made of.
struct Parts {
    /// The servers, as a transport.
    feed: Feed,
    /// Makes connections to servers.
    connect: Connect,
    /// Whom the node believes.
    trust: Arc<Trust>,
    /// The container engine.
    engine: Engine,
    /// The node's own credentials for registries.
    keyring: Keyring,
    /// What the node uses.
    stats: Arc<Stats>,
    /// Where its containerd finds content of other nodes.
    mirror: Option<Mirror>,
}

/// What the housekeepers tell the rest of the agent.
struct House {
    /// Orders to pods: where they are given.
    orders: mpsc::Sender<Command>,
    /// And where they come out.
    commands: mpsc::Receiver<Command>,
    /// What runs short.
    pressures: watch::Receiver<Vec<Pressure>>,
    /// Is the machine going down?
    leaving: watch::Receiver<bool>,
}

/// Registers the node, then keeps its status and its lease. Pods that need no API do not wait for it.
async fn show_node(
    status: NodeStatus,
    (writer, name, clock): (Writer, String, Arc<dyn Clock>),
    registered: watch::Sender<Option<String>>,
    cancel: CancellationToken,
) {
    let Some(uid) = cancel.run_until_cancelled(status.register()).await else { return };
    registered.send_replace(Some(uid.clone()));
    tokio::join!(status.run(cancel.clone()), lease::run(writer, name, uid, clock, cancel));
}

fn ipv4(address: Option<&IpAddr>) -> Result<Ipv4Addr> {
    match address {
        Some(IpAddr::V4(a)) => Ok(*a),
        _ => Err(Error::Pod("the node and cluster DNS need IPv4 addresses".into())),
    }
}

/// The tasks of an agent, waited for at its end.
struct Tasks {
    cancel: CancellationToken,
    tracker: tokio_util::task::TaskTracker,
}

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }
}
