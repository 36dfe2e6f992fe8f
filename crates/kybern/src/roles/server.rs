//! A server: the store's member, the API server over it, and, while it leads, the controllers.

use super::join::{self, Bundle};
use super::leading::Leading;
use crate::cli::ServerArgs;
use crate::config::{Part, Server};
use crate::{footprint, keys, telemetry};
use anyhow::{Context, Result, bail};
use kybern_api::seam::{Clock, SystemClock, SystemIds};
use kybern_apiserver::audit::{Audit, Log, Policy};
use kybern_apiserver::doors::relay::SERVERS;
use kybern_apiserver::nodes::peers::GrpcPeers;
use kybern_apiserver::{ApiServer, Parts};
use kybern_authn::join::{JoinToken, Role, SERVER_BUNDLE_PATH};
use kybern_authn::pki::{ClusterKeys, Kubeconfig, San};
use kybern_authn::tls::{self, Identity};
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
use tonic::transport::Endpoint;

/// A server that does not accept in this time is passed over.
const PEER_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Certificates towards other servers are made anew at every start.
const PEER_CERTIFICATE_LIFETIME: jiff::SignedDuration = jiff::SignedDuration::from_hours(365 * 24);

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
    let (clock, moved) = (SystemClock::default(), crate::clock::of_cluster()?);
    // Ports first: a conflict should show before anything is made.
    let listener = listen(config.api_port).await?;
    let place = place(&config, clock).await?;
    let keys = Arc::new(place.keys);
    let mut metrics = Registry::default();
    let store =
        RaftStore::start(store_config(&config, &keys, place.cluster, place.member, clock)?, &mut metrics).await?;
    // Its parent is closed already; a copy of it, or a parent that was opened, should not be enough.
    std::fs::set_permissions(store_dir(&config), std::fs::Permissions::from_mode(0o700))?;
    let founded = place.peers.is_none();
    let log = audit_log(&config, moved, &mut metrics)?;
    let api = api_server(&config, &keys, &store, moved, metrics, log.clone())?;
    api.nodes().set_peers(Arc::new(peers(&config, &keys, &api, store.id(), clock)?));
    let identity = Identity::new(&keys.serving_certificate(&config.name, &names(&config), DOMAIN, clock.now())?)?;
    let serving = tokio::spawn({
        let (api, tls, stop) = (api.clone(), Arc::new(tls::api_server(identity)?), stop.clone());
        async move { api.serve(listener, Some(tls), stop).await }
    });
    let leading = Leading {
        api: api.clone(),
        keys: keys.clone(),
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
    write_kubeconfig(&config, &keys, clock)?;
    footprint::shrink_when_started(stop.clone());
    tracing::info!(address = %config.address, port = config.api_port, "the server is up");
    stop.cancelled().await;
    serving.await.ok();
    working.await.ok();
    if let Some((_, log)) = log {
        log.close();
    }
    store.shutdown().await;
    Ok(())
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
async fn place(config: &Server, clock: SystemClock) -> Result<Place> {
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
                None => keys::load_or_create(&config.data_dir, clock.now())?,
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
    if hex::encode(token.ca_hash) != keys.server_ca.fingerprint() {
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
    keys: &ClusterKeys,
    cluster: Option<String>,
    member: Option<u64>,
    clock: SystemClock,
) -> Result<node::Config> {
    let own = San::host(&config.address.to_string());
    let identity = Identity::new(&keys.peer_certificate(&config.name, &[own], clock.now())?)?;
    let authorities = keys.peer_ca.trusted();
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
        tls_server: Arc::new(tls::peer_server(identity.clone(), authorities)?),
        tls_client: Arc::new(tls::client(authorities, Some(identity))?),
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

fn api_server(
    config: &Server,
    keys: &Arc<ClusterKeys>,
    store: &Arc<RaftStore>,
    clock: SystemClock,
    metrics: Registry,
    log: Option<(Policy, Arc<Log>)>,
) -> Result<ApiServer> {
    let assembly = Assembly::new(keys, &TokenConfig::for_domain(DOMAIN))?;
    let mut settings = kybern_apiserver::Config::new((config.address, config.api_port).into());
    settings.member = store.id();
    settings.ranges = kybern_apiserver::Ranges { services: config.service_cidr, ..settings.ranges };
    let bundle: Arc<dyn kybern_apiserver::PathHandler> = Arc::new(Bundle::new(keys.clone(), store));
    Ok(ApiServer::new(Parts {
        config: settings,
        store: store.clone(),
        clock: Arc::new(clock),
        ids: Arc::new(SystemIds),
        authenticator: assembly.authenticator,
        authorizer: Arc::new(kybern_rbac::Standard::new()),
        admission: Arc::new(kybern_admission::Chain::new(&kybern_admission::Switches::default())?),
        issuer: Some(assembly.issuer),
        sealer: Arc::new(keys.sealing.clone()),
        kinds: kybern_api::kinds::table()
            .iter()
            .cloned()
            .chain(kybern_api::kinds::metrics::rows())
            .map(Arc::new)
            .collect(),
        paths: vec![(SERVER_BUNDLE_PATH.to_owned(), bundle)],
        audit: log.map(|(policy, log)| Audit { policy: Arc::new(policy), sink: log }),
        metrics,
    }))
}

/// The way to other servers, for streams to nodes that this server has no stream to.
fn peers(config: &Server, keys: &ClusterKeys, api: &ApiServer, store_id: u64, clock: SystemClock) -> Result<GrpcPeers> {
    let user = format!("kybern:server:{}", config.name);
    let issued = keys.client_certificate(&user, &[SERVERS], clock.now(), PEER_CERTIFICATE_LIFETIME)?;
    let tls = Arc::new(tls::client(keys.server_ca.trusted(), Some(Identity::new(&issued)?))?);
    let connect = move |address: &str| {
        let uri = http::Uri::try_from(format!("http://{address}")).unwrap_or_default();
        Endpoint::from(uri)
            .connect_timeout(PEER_CONNECT_TIMEOUT)
            .connect_with_connector_lazy(Connector::new(tls.clone()))
    };
    Ok(GrpcPeers::new(store_id, api.servers(), Arc::new(connect)))
}

/// Names and addresses for the serving certificate besides the Service's.
fn names(config: &Server) -> Vec<San> {
    let service = config.service_cidr.hosts().next().map(|a| a.to_string());
    let own = [config.name.clone(), config.address.to_string()];
    own.into_iter().chain(service).chain(config.sans.iter().cloned()).map(|n| San::host(&n)).collect()
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

/// The administrator's kubeconfig; one that is there and still fits is kept.
fn write_kubeconfig(config: &Server, keys: &ClusterKeys, clock: SystemClock) -> Result<()> {
    if config.kubeconfig.exists() {
        return Ok(());
    }
    let kubeconfig = Kubeconfig {
        cluster: "kybern",
        server: &format!("https://{}:{}", config.address, config.api_port),
        ca: &keys.server_ca.certificate_pem(),
        user: "kybern-admin",
        identity: &keys.admin_certificate(clock.now())?,
    };
    Ok(kubeconfig.write(&config.kubeconfig)?)
}
