//! A node's network as a whole: waits for the node's podCIDR, installs the CNI configuration, keeps the
//! overlay, the service rules and DNS equal to what the cluster says.

use crate::cni::{self, Backend, NetConf, Overlay, Paths, Peer};
use crate::dns::{self, Custom, Dns, Upstream, Zone};
use crate::feed::Feed;
use crate::net::link::Links;
use crate::nft::Table;
use crate::policy;
use crate::proxy::{self, HealthChecks, Model, Network, Proxy};
use arc_swap::ArcSwap;
use futures::future::select_all;
use ipnet::Ipv4Net;
use kybern_api::dns::CUSTOM;
use kybern_api::object::{EventType, Object};
use kybern_client::informer::Informer;
use kybern_client::set::InformerSet;
use kybern_client::store::{Delta, Name};
use kybern_client::transport::{Resource, Selection};
use parking_lot::RwLock;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A step that failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// How long a node that knows its pod network from before waits for the API to confirm it.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the node's network is made of.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Where the network policies come from.
    pub feed: Feed,
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub address: Ipv4Addr,
    /// All pods' addresses.
    pub cluster_cidr: Ipv4Net,
    /// All services' addresses.
    pub service_cidr: Ipv4Net,
    /// The cluster's DNS address.
    pub dns: Ipv4Addr,
    /// The cluster's domain.
    pub domain: String,
    /// How pod traffic travels between nodes.
    pub backend: Backend,
    /// Where allocated addresses are kept.
    pub data_dir: PathBuf,
    /// File that keeps the node's pod network for a start without the API.
    pub remembered: PathBuf,
    /// Where the runtime looks for plugins.
    pub cni: Paths,
    /// This program, which is also the plugin.
    pub program: PathBuf,
    /// Servers for names outside the cluster.
    pub upstream: Upstream,
}

/// The running network. Its tasks end with the token given to [`NodeNetwork::start`].
#[derive(Debug)]
pub struct NodeNetwork {
    ready: watch::Receiver<bool>,
}

impl NodeNetwork {
    /// Starts the tasks over the node's informers; `mine` follows the node's pods.
    pub fn start(
        config: NetworkConfig,
        informers: &InformerSet,
        mine: Arc<Informer>,
        cancel: &CancellationToken,
    ) -> Self {
        let (ready, watched) = watch::channel(false);
        let nodes = informers.all(&Resource::new("", "v1", "nodes"));
        let services = informers.all(&Resource::new("", "v1", "services"));
        let slices = informers.all(&Resource::new("discovery.k8s.io", "v1", "endpointslices"));
        let own = own_pods(Arc::clone(&nodes), config.clone(), cancel);
        let overlay = run_overlay(config.clone(), Arc::clone(&nodes), own.clone(), ready);
        let sources: [Source; 4] = [
            (Arc::clone(&services), Model::service),
            (Arc::clone(&slices), Model::slice),
            (mine, Model::pod),
            (nodes, Model::node),
        ];
        let proxy = run_proxy(config.clone(), sources, own.clone());
        spawn(cancel, overlay);
        spawn(cancel, proxy);
        spawn(cancel, run_policies(config.clone(), watched.clone(), own));
        let (namespace, name) = CUSTOM;
        let one =
            Selection { namespace: namespace.into(), fields: format!("metadata.name={name}"), ..Selection::default() };
        let customs = informers.informer(&Resource::new("", "v1", "configmaps"), &one);
        spawn(cancel, run_dns(config, services, slices, customs, cancel.clone()));
        Self { ready: watched }
    }

    /// Can pods be wired? Becomes true once the node has its podCIDR and the overlay is up.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }
}

fn spawn(cancel: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
    let cancel = cancel.clone();
    tokio::spawn(async move { cancel.run_until_cancelled(task).await });
}

/// The node's own podCIDR: as the API says, or as it said last, while there is no API.
fn own_pods(nodes: Arc<Informer>, config: NetworkConfig, cancel: &CancellationToken) -> watch::Receiver<Option<Peer>> {
    let (found, out) = watch::channel(None);
    spawn(cancel, async move {
        let name = Name::new("", config.node.clone());
        let peer = |n: &Name| nodes.get(n).and_then(|i| Peer::of(&i.object));
        let told = nodes.until(|store| store.get(&name).is_some_and(|i| Peer::of(&i.object).is_some()));
        tokio::pin!(told);
        if tokio::time::timeout(PATIENCE, &mut told).await.is_err() {
            if let Some(pods) = remembered(&config.remembered) {
                tracing::info!(%pods, "there is no API: the pod network is set up as it was");
                found.send_replace(Some(Peer { pods, address: config.address }));
            }
            told.await;
        }
        let Some(own) = peer(&name) else { return };
        if let Err(e) = remember(&config.remembered, own.pods) {
            tracing::warn!("a start without the API will have no pod network: {e}");
        }
        let is_news = |known: &mut Option<Peer>| known.replace(own).is_none_or(|k| k.pods != own.pods);
        found.send_if_modified(is_news);
    });
    out
}

fn remembered(file: &Path) -> Option<Ipv4Net> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Written whole or not at all.
fn remember(file: &Path, pods: Ipv4Net) -> io::Result<()> {
    if remembered(file) == Some(pods) {
        return Ok(());
    }
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, format!("{pods}\n"))?;
    std::fs::rename(fresh, file)
}

async fn known(own: &mut watch::Receiver<Option<Peer>>) -> Option<Peer> {
    own.wait_for(Option::is_some).await.ok().and_then(|p| *p)
}

async fn run_overlay(
    config: NetworkConfig,
    nodes: Arc<Informer>,
    mut own: watch::Receiver<Option<Peer>>,
    ready: watch::Sender<bool>,
) {
    loop {
        let Some(me) = known(&mut own).await else { return };
        let overlay = loop {
            match prepare(&config, me).await {
                Ok(o) => break o,
                Err(e) => tracing::error!("the pod network can't be set up: {e}; trying again"),
            }
            tokio::time::sleep(RETRY).await;
        };
        ready.send_replace(true);
        tracing::info!(pods = %me.pods, "the pod network is up");
        tokio::select! {
            () = follow_peers(&config.node, &nodes, overlay) => return,
            Ok(()) = own.changed() => tracing::warn!("the node has another pod network than it had before"),
        }
    }
}

/// Keeps the ways to the other nodes' pods.
async fn follow_peers(node: &str, nodes: &Informer, mut overlay: Overlay) {
    let mut deltas = nodes.subscribe();
    while let Some(delta) = deltas.recv().await {
        let Some(item) = delta.latest().filter(|i| i.object.head.name != node) else { continue };
        let peer = delta.new.as_ref().and_then(|i| Peer::of(&i.object));
        if let Err(e) = overlay.set(&item.object.head.name, peer).await {
            tracing::warn!(node = %item.object.head.name, "no route to the pods of this node: {e}");
        }
    }
}

/// Begins when the doors are closed.
async fn run_policies(
    config: NetworkConfig,
    mut closed: watch::Receiver<bool>,
    mut own: watch::Receiver<Option<Peer>>,
) {
    if closed.wait_for(|closed| *closed).await.is_err() {
        return;
    }
    let directory = cni::ipam::directory(&config.data_dir);
    while let Some(me) = known(&mut own).await {
        tokio::select! {
            () = policy::run(config.feed.clone(), me.pods, &directory) => return,
            // Another pod network has a table of its own.
            Ok(()) = own.changed() => {}
        }
    }
}

async fn prepare(config: &NetworkConfig, me: Peer) -> io::Result<Overlay> {
    let under = Links::open()?.with_address(IpAddr::V4(config.address)).await?;
    policy::close(me.pods).await.map_err(io::Error::other)?;
    let overlay = Overlay::start(Peer { address: config.address, ..me }, config.backend).await?;
    let conf = NetConf {
        cni_version: "1.0.0".into(),
        name: "kybern".into(),
        plugin: "kybern".into(),
        pod_cidr: me.pods,
        mtu: Overlay::pod_mtu(under.mtu, config.backend),
        data_dir: config.data_dir.clone(),
    };
    cni::install(&config.cni, &config.program, &conf)?;
    Ok(overlay)
}

/// Where the proxy's model learns from, and how.
type Source = (Arc<Informer>, fn(&mut Model, EventType, &Object) -> Result<(), serde_json::Error>);

async fn run_proxy(config: NetworkConfig, sources: [Source; 4], mut own: watch::Receiver<Option<Peer>>) {
    let own_pods = known(&mut own).await.map(|p| p.pods);
    let network = Network { pods: config.cluster_cidr, own_pods, services: config.service_cidr, dns: config.dns };
    let table = table().await;
    let mut proxy = Proxy::new(&config.node, network, table);
    let mut checks = HealthChecks::default();
    for (informer, _) in &sources {
        informer.synced().await;
    }
    let mut deltas = sources.map(|(informer, update)| (informer.subscribe(), update));
    loop {
        for (deltas, update) in &mut deltas {
            while let Ok(d) = deltas.try_recv() {
                note(&d, |event, object| update(proxy.model(), event, object));
            }
        }
        match proxy.sync().await {
            Ok(changed) => changed.iter().for_each(|key| checks.set(key, proxy.model().health(key))),
            Err(e) => {
                tracing::error!("service rules are not up to date: {e}; trying again");
                // Whatever it was, the next transaction does not build on it.
                proxy.invalidate();
                tokio::time::sleep(RETRY).await;
                continue;
            }
        }
        let next = deltas.iter_mut().map(|(deltas, update)| Box::pin(async { (deltas.recv().await, *update) }));
        tokio::select! {
            ((delta, update), ..) = select_all(next) => match delta {
                Some(d) => note(&d, |event, object| update(proxy.model(), event, object)),
                None => return,
            },
            () = proxy.disturbed() => proxy.invalidate(),
        }
    }
}

/// The proxy's table, as soon as the kernel lets it be watched.
async fn table() -> Table {
    loop {
        match Table::open(proxy::TABLE) {
            Ok(table) => return table,
            Err(e) => tracing::error!("service rules cannot be watched: {e}; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn run_dns(
    config: NetworkConfig,
    services: Arc<Informer>,
    slices: Arc<Informer>,
    customs: Arc<Informer>,
    cancel: CancellationToken,
) {
    let zone = Arc::new(RwLock::new(Zone::new(&config.domain)));
    services.synced().await;
    slices.synced().await;
    follow(services.subscribe(), &cancel, Arc::clone(&zone), Zone::service);
    follow(slices.subscribe(), &cancel, Arc::clone(&zone), Zone::slice);
    let dns = Dns::new(zone, config.upstream.clone());
    spawn(&cancel, follow_custom(customs, dns.custom()));
    let address = IpAddr::V4(config.dns);
    loop {
        let served = match dns::claim(address).await {
            Ok(()) => dns.clone().serve((address, 53).into(), cancel.clone()).await.map_err(io::Error::other),
            Err(e) => Err(e),
        };
        match served {
            Ok(()) => return,
            Err(e) => tracing::error!("DNS is not served: {e}; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Keeps stub domains and hosts as the config map says.
async fn follow_custom(customs: Arc<Informer>, custom: Arc<ArcSwap<Custom>>) {
    let mut deltas = customs.subscribe();
    while let Some(delta) = deltas.recv().await {
        let read = delta.new.as_ref().map(|item| item.object.view::<ConfigMap>()).transpose();
        let (read, problems) = match read {
            Ok(map) => Custom::read(&map.and_then(|m| m.data).unwrap_or_default()),
            Err(e) => (Custom::default(), vec![e.to_string()]),
        };
        for problem in problems {
            tracing::warn!(config_map = CUSTOM.1, "a line is left out: {problem}");
        }
        custom.store(Arc::new(read));
    }
}

#[derive(Deserialize)]
struct ConfigMap {
    data: Option<BTreeMap<String, String>>,
}

type ZoneUpdate = fn(&mut Zone, EventType, &Object) -> Result<(), serde_json::Error>;

fn follow(
    mut deltas: mpsc::UnboundedReceiver<Delta>,
    cancel: &CancellationToken,
    zone: Arc<RwLock<Zone>>,
    update: ZoneUpdate,
) {
    spawn(cancel, async move {
        while let Some(d) = deltas.recv().await {
            note(&d, |event, object| update(&mut zone.write(), event, object));
        }
    });
}

/// Hands a delta to a model; an object that can't be read is logged and left out.
fn note(delta: &Delta, apply: impl FnOnce(EventType, &Object) -> Result<(), serde_json::Error>) {
    let Some(item) = delta.latest() else { return };
    let event = match (&delta.old, &delta.new) {
        (_, None) => EventType::Deleted,
        (None, _) => EventType::Added,
        _ => EventType::Modified,
    };
    if let Err(e) = apply(event, &item.object) {
        tracing::warn!(object = %item.object.head.key(), "can't be read and is left out: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_network_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cni/own");
        assert_eq!(remembered(&file), None);
        for pods in ["10.42.1.0/24", "10.42.7.0/24"] {
            let pods: Ipv4Net = pods.parse().unwrap();
            remember(&file, pods).unwrap();
            assert_eq!(remembered(&file), Some(pods));
        }
        std::fs::write(&file, "10.42").unwrap();
        assert_eq!(remembered(&file), None, "half a word is none");
    }
}
