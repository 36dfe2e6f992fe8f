//! A server: the store's member, the API server over it, and, while it leads, the controllers.

use super::certificates::{self, Follower, Keeper};
use super::join::{self, Bundle};
use super::leading::Leading;
use super::outside;
use crate::cli::ServerArgs;
use crate::config::{Part, Server};
use crate::{clock, footprint, keys, telemetry};
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use kybern_api::seam::{SystemClock, SystemIds};
use kybern_apiserver::audit::{Audit, Log, Policy, Sink, Sinks, Webhook};
use kybern_apiserver::nodes::peers::GrpcPeers;
use kybern_apiserver::{ApiServer, Parts};
use kybern_authn::join::{JoinToken, Role, SERVER_BUNDLE_PATH};
use kybern_authn::pki::{ClusterKeys, San};
use kybern_authn::tls;
use kybern_authn::{Assembly, TokenConfig};
use kybern_client::http::Connector;
use kybern_raftstore::Member;
use kybern_raftstore::node::{self, RaftStore};
use kybern_raftstore::store::Error as StoreError;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

/// A server that does not accept in this time is passed over.
const PEER_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The DNS domain of the cluster.
pub const DOMAIN: &str = "cluster.local";

/// Runs a server until it is told to stop.
///
/// # Errors
/// One line with the cause and what to do.
pub fn run(args: ServerArgs) -> Result<()> {
    let (debug, otlp) = (args.debug, args.otlp_endpoint.clone());
    let config = Server::resolve(args)?;
    super::runtime()?.block_on(async {
        let _telemetry = telemetry::start("kybern-server", debug, otlp.as_deref())?;
        serve(config).await
    })
}

async fn serve(config: Server) -> Result<()> {
    let stop = super::until_told_to_stop()?;
    tls::provider().as_ref().clone().install_default().ok();
    let (machine, moved) = (SystemClock::default(), clock::of_cluster()?);
    // Ports first: a conflict should show before anything is made.
    let listener = listen(config.api_port).await?;
    let place = place(&config, clock::founding(machine, moved)).await?;
    let keeper = Keeper::new(place.keys, names(&config), Arc::new(machine), Arc::new(moved))?;
    let mut metrics = Registry::default();
    let store = RaftStore::start(store_config(&config, &keeper, place.cluster, place.member)?, &mut metrics).await?;
    // Its parent is closed already; a copy of it, or a parent that was opened, should not be enough.
    std::fs::set_permissions(store_dir(&config), std::fs::Permissions::from_mode(0o700))?;
    let founded = place.peers.is_none();
    let log = audit_log(&config, moved, &mut metrics)?;
    let told = outside::audit(&config.outside, &mut metrics)?;
    let audit = log.clone().map(|(policy, log)| audit(policy, log, told.clone()));
    let api = api_server(&config, &keeper, &store, moved, metrics, audit)?;
    let peers = Arc::new(peers(&keeper, &api, store.id())?);
    api.nodes().set_peers(peers.clone());
    let serving = tokio::spawn({
        let (api, tls, stop) = (api.clone(), Arc::new(tls::api_server(keeper.serving.clone())?), stop.clone());
        async move { api.serve(listener, Some(tls), stop).await }
    });
    let leading = Leading {
        api: api.clone(),
        keeper: keeper.clone(),
        members: store.watch_members(),
        clock: moved,
        name: config.name.clone(),
        cluster_cidr: config.cluster_cidr,
        scheduler: config.scheduler.clone(),
        tokens: if founded { given_tokens(&config)? } else { Vec::new() },
        serves_ingress: !config.disabled.contains(&Part::Ingress),
    };
    let working = tokio::spawn(leading.run(store.clone(), stop.clone()));
    match stop.run_until_cancelled(enter(&store, place.peers.as_deref())).await {
        Some(entered) => entered.context("this server could not enter its cluster")?,
        None => return Ok(()),
    }
    keeper.write_kubeconfig()?;
    let keeping = tokio::spawn(keep_certificates(keeper, api, peers, stop.clone()));
    let telling = told.map(|webhook| tokio::spawn(webhook.run(stop.clone())));
    footprint::shrink_when_started(stop.clone());
    tracing::info!(address = %config.address, port = config.api_port, "the server is up");
    stop.cancelled().await;
    serving.await.ok();
    working.await.ok();
    keeping.await.ok();
    if let Some(telling) = telling {
        telling.await.ok();
    }
    if let Some((_, log)) = log {
        log.close();
    }
    store.shutdown().await;
    Ok(())
}

/// Keeps this server's certificates young and its keys those of the cluster.
async fn keep_certificates(keeper: Arc<Keeper>, api: ApiServer, peers: Arc<GrpcPeers>, stop: CancellationToken) {
    let follower = Follower { keeper: keeper.clone(), api: Arc::new(api.own_transport()) };
    let mut taken = keeper.taken();
    // A certificate is shown once, at the beginning of a connection.
    let reconnect = async {
        while taken.changed().await.is_ok() {
            peers.reconnect();
        }
    };
    tokio::join!(
        follower.run(stop.clone()),
        keeper.clone().renew_in_time(stop.clone()),
        stop.run_until_cancelled(reconnect),
    );
}

/// Founds, joins, or catches up with the cluster. Without a quorum it waits for one, however long: the
/// other servers may only just be starting.
async fn enter(store: &RaftStore, peers: Option<&[String]>) -> Result<(), StoreError> {
    loop {
        let entered = match peers {
            _ if store.is_initialized().await? => store.recovered().await,
            None => store.init_cluster().await,
            Some(peers) => store.join(peers).await,
        };
        match entered {
            Err(StoreError::NoLeader(why)) => tracing::warn!("waiting for a quorum of the servers: {why}"),
            done => return done,
        }
    }
}

async fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind(("0.0.0.0", port))
        .await
        .with_context(|| format!("port {port} can't be listened on; find who uses it with `ss -ltnp`, or choose another with --https-listen-port"))
}

/// Where this server belongs.
struct Place {
    keys: ClusterKeys,
    /// The cluster's id, where this start decides it.
    cluster: Option<String>,
    member: Option<u64>,
    /// Members to join; None: this server founds (or founded) the cluster.
    peers: Option<Vec<String>>,
}

/// Decides by the data directory first, then by the flags: restart, join or found.
async fn place(config: &Server, founded: Timestamp) -> Result<Place> {
    let dir = store_dir(config);
    let known = RaftStore::identity(&dir)?;
    match (keys::load(&config.data_dir)?, known, &config.join) {
        (Some(keys), Some((cluster, member)), join) => {
            if join.is_some() {
                of_the_same_cluster(config, &keys, &cluster)?;
            }
            let peers = (member != RaftStore::FOUNDER).then(Vec::new);
            Ok(Place { keys, cluster: None, member: None, peers })
        }
        (None, Some((cluster, _)), _) => bail!(
            "{} holds the store of cluster {cluster} but not its keys; restore server/tls or choose another --data-dir",
            config.data_dir.display()
        ),
        (_, None, Some(url)) => {
            let admission = join::ask(config, url).await?;
            let keys = admission.keys()?;
            keys.save(&keys::dir(&config.data_dir))?;
            let (cluster, member) = (Some(admission.cluster), Some(admission.member));
            Ok(Place { keys, cluster, member, peers: Some(admission.peers) })
        }
        (keys, None, None) => {
            let keys = match keys {
                Some(k) => k,
                None => keys::load_or_create(&config.data_dir, founded)?,
            };
            // The cluster is known by the CA that its servers show.
            let cluster = keys.server_ca.fingerprint().chars().take(16).collect();
            Ok(Place { keys, cluster: Some(cluster), member: Some(RaftStore::FOUNDER), peers: None })
        }
    }
}

/// A server that has joined needs its token no more; one of another cluster shows a wrong directory.
fn of_the_same_cluster(config: &Server, keys: &ClusterKeys, cluster: &str) -> Result<()> {
    let Some(token) = &config.token else { return Ok(()) };
    let token: JoinToken = token.parse().context("--token can't be used")?;
    // A token may be older than the present CA.
    if !keys.knows_server_ca(&hex::encode(token.ca_hash)) {
        bail!(
            "{} holds the data of cluster {cluster}, and the token is another cluster's; choose another --data-dir, or this cluster's server and token",
            config.data_dir.display()
        );
    }
    Ok(())
}

fn store_dir(config: &Server) -> std::path::PathBuf {
    config.data_dir.join("server/store")
}

fn store_config(
    config: &Server,
    keeper: &Keeper,
    cluster: Option<String>,
    member: Option<u64>,
) -> Result<node::Config> {
    let (identity, trust) = keeper.peer.clone();
    let meta = BTreeMap::from([
        ("api".to_owned(), format!("{}:{}", config.address, config.api_port)),
        ("name".to_owned(), config.name.clone()),
    ]);
    Ok(node::Config {
        data_dir: store_dir(config),
        cluster,
        id: member,
        listen: format!("0.0.0.0:{}", config.peer_port),
        advertise: Member { peer: format!("{}:{}", config.address, config.peer_port), meta },
        tls_server: Arc::new(tls::peer_server(identity.clone(), trust.clone())?),
        tls_client: Arc::new(tls::client(trust, Some(identity))?),
        timing: node::Timing::default(),
        retention: kybern_raftstore::Retention::default(),
        log: node::LogLimits::default(),
    })
}

/// Where requests are written down.
fn audit_log(config: &Server, clock: SystemClock, metrics: &mut Registry) -> Result<Option<(Policy, Arc<Log>)>> {
    let Some((policy, settings)) = &config.audit else { return Ok(None) };
    let log = Log::open(settings.clone(), Arc::new(clock), metrics)
        .with_context(|| format!("the audit log {} can't be opened", settings.path.display()))?;
    Ok(Some((policy.clone(), Arc::new(log))))
}

fn audit(policy: Policy, log: Arc<Log>, webhook: Option<Arc<Webhook>>) -> Audit {
    let sink: Arc<dyn Sink> = match webhook {
        Some(webhook) => Arc::new(Sinks(vec![webhook, log])),
        None => log,
    };
    Audit { policy: Arc::new(policy), sink }
}

fn api_server(
    config: &Server,
    keeper: &Arc<Keeper>,
    store: &Arc<RaftStore>,
    clock: SystemClock,
    metrics: Registry,
    audit: Option<Audit>,
) -> Result<ApiServer> {
    let keys = keeper.keys();
    let tokens = TokenConfig::for_domain(DOMAIN);
    let assembly = Assembly::with(&keys, &tokens, outside::authenticators(&config.outside, &tokens)?)?;
    keeper.tell(assembly.x509);
    let mut settings = kybern_apiserver::Config::new((config.address, config.api_port).into());
    settings.member = store.id();
    settings.ranges = kybern_apiserver::Ranges { services: config.service_cidr, ..settings.ranges };
    let bundle: Arc<dyn kybern_apiserver::PathHandler> = Arc::new(Bundle::new(keeper.clone(), store));
    Ok(ApiServer::new(Parts {
        config: settings,
        store: store.clone(),
        clock: Arc::new(clock),
        ids: Arc::new(SystemIds),
        authenticator: assembly.authenticator,
        authorizer: Arc::new(kybern_rbac::Standard::new()),
        admission: Arc::new(kybern_admission::Chain::new(&config.admission)?),
        issuer: Some(assembly.issuer),
        sealer: Arc::new(keys.sealing.clone()),
        kinds: kybern_api::kinds::table()
            .iter()
            .cloned()
            .chain(kybern_api::kinds::metrics::rows())
            .map(Arc::new)
            .collect(),
        paths: vec![(SERVER_BUNDLE_PATH.to_owned(), bundle)],
        audit,
        metrics,
    }))
}

/// The way to other servers, for streams to nodes that this server has no stream to.
fn peers(keeper: &Keeper, api: &ApiServer, store_id: u64) -> Result<GrpcPeers> {
    let (identity, trust) = keeper.relay.clone();
    let tls = Arc::new(tls::client(trust, Some(identity))?);
    let connect = move |address: &str| {
        let uri = http::Uri::try_from(format!("http://{address}")).unwrap_or_default();
        Endpoint::from(uri)
            .connect_timeout(PEER_CONNECT_TIMEOUT)
            .connect_with_connector_lazy(Connector::new(tls.clone()))
    };
    Ok(GrpcPeers::new(store_id, api.servers(), Arc::new(connect)))
}

/// What this server's certificates name, and where its files are. The Service's names are added.
fn names(config: &Server) -> certificates::Place {
    let service = config.service_cidr.hosts().next().map(|a| a.to_string());
    let own = [config.name.clone(), config.address.to_string()];
    let names = own.into_iter().chain(service).chain(config.sans.iter().cloned());
    certificates::Place {
        name: config.name.clone(),
        address: config.address.to_string(),
        url: format!("https://{}:{}", config.address, config.api_port),
        names: names.map(|n| San::host(&n)).collect(),
        domain: DOMAIN,
        data_dir: config.data_dir.clone(),
        kubeconfig: config.kubeconfig.clone(),
    }
}

/// The tokens that the first server was started with.
fn given_tokens(config: &Server) -> Result<Vec<(Role, JoinToken)>> {
    let given = [(Role::Server, &config.token, "--token"), (Role::Agent, &config.agent_token, "--agent-token")];
    given
        .into_iter()
        .filter_map(|(role, text, flag)| text.as_ref().map(|t| (role, t, flag)))
        .map(|(role, t, flag)| Ok((role, t.parse().with_context(|| format!("{flag} can't be used"))?)))
        .collect()
}
