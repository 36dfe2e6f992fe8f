//! A member of a replicated store: start, found or join a cluster, serve, stop.
//!
//! Tasks, all owned by the [`RaftStore`] and ended with it: the members' port (`net::server`), proposals
//! (`propose`), barriers (`barrier`), leadership (`leadership`), expiry (`expire`); openraft has its own.

use crate::barrier::{self, Barrier, barrier};
use crate::columns::{self, FORMAT, Family, Identity, meta};
use crate::core::Core;
use crate::disk::{Disk, Row};
use crate::expire;
use crate::history::Retention;
use crate::leadership;
use crate::log::Log;
use crate::machine::applier::Applier;
use crate::machine::load::load;
use crate::membership::{self, FOUNDER, MemberInfo};
use crate::metrics::Metrics;
use crate::model::{Revision, Txn, TxnOutcome};
use crate::net::client::Network;
use crate::net::listen::accept;
use crate::net::peers::Peers;
use crate::net::server;
use crate::pending::Pending;
use crate::propose::{self, propose, queue};
use crate::replica::Replica;
use crate::store::{Error, Leadership, Store, View, Watch};
use crate::types::{Member, MemberId, Raft};
use bytes::Bytes;
use openraft::SnapshotPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How fast members notice that a leader is gone.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A leader shows itself this often.
    pub heartbeat: Duration,
    /// A follower that has heard nothing for `election_max` plus a random time between these two
    /// stands for election.
    pub election_min: Duration,
    /// See `election_min`; also how long a quorum's acknowledgement lets a leader act.
    pub election_max: Duration,
}

impl Default for Timing {
    /// For small machines: an election 1.2 to 1.5 s after a leader died, none because a disk was slow.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(750),
        }
    }
}

/// When the log is cut off.
#[derive(Debug, Clone, Copy)]
pub struct LogLimits {
    /// After so many entries the log is cut.
    pub cut_every: u64,
    /// So many entries stay, for members that come back; a member further behind gets a snapshot.
    pub keep: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { cut_every: 5_000, keep: 10_000 }
    }
}

/// What a member needs to start.
pub struct Config {
    /// Where its data is; created when missing.
    pub data_dir: PathBuf,
    /// The cluster's id (visible ASCII). None: the one in the data directory.
    pub cluster: Option<String>,
    /// This member's id: [`RaftStore::FOUNDER`] for the first member of a cluster, an allocated one for
    /// others. None: the one in the data directory.
    pub id: Option<MemberId>,
    /// `host:port` to listen on for the other members.
    pub listen: String,
    /// What the other members are told: the address to reach it, which its certificate must name, and more.
    pub advertise: Member,
    /// For the members' port: must ask for client certificates of the members' CA.
    pub tls_server: Arc<rustls::ServerConfig>,
    /// For connections to other members: must present this member's certificate.
    pub tls_client: Arc<rustls::ClientConfig>,
    /// Election and heartbeat times.
    pub timing: Timing,
    /// The replay window.
    pub retention: Retention,
    /// Length of the log.
    pub log: LogLimits,
}

/// Why a member could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be opened: damaged, locked by another process, or not permitted.
    #[error("cannot open the store in {path}: {reason}")]
    Open {
        /// The data directory.
        path: PathBuf,
        /// What the database says.
        reason: String,
    },
    /// The data directory belongs to something else.
    #[error("{path} holds the data of {found}, not of {wanted}: choose another data directory or the right cluster")]
    Foreign {
        /// The data directory.
        path: PathBuf,
        /// Whose data it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// The data directory is empty and the configuration does not say what to begin.
    #[error("{0} is empty: found a cluster or join one")]
    Nobody(PathBuf),
    /// The data was written by a newer version.
    #[error("{path} has format {found}, this version knows {FORMAT}: it was written by a newer version")]
    Newer {
        /// The data directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The address cannot be listened on.
    #[error("cannot listen for members on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A value of the configuration is not usable.
    #[error("invalid configuration: {0}")]
    Invalid(String),
    /// What was read from disk makes no sense.
    #[error("the store in {path} is damaged: {reason}")]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A running member.
pub struct RaftStore {
    core: Arc<Core>,
    barrier: Barrier,
    members: watch::Receiver<Arc<Vec<MemberInfo>>>,
    advertise: Member,
    address: std::net::SocketAddr,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

impl RaftStore {
    /// The id of the member that founds a cluster.
    pub const FOUNDER: MemberId = FOUNDER;

    /// The cluster and member id a data directory belongs to, if it holds any data.
    ///
    /// # Errors
    /// When the directory holds data that cannot be read.
    pub fn identity(data_dir: &Path) -> Result<Option<(String, MemberId)>, StartError> {
        if !data_dir.join("CURRENT").exists() {
            return Ok(None);
        }
        let db = open(data_dir)?;
        Ok(read_identity(&db, data_dir)?.map(|identity| (identity.cluster, identity.member)))
    }

    /// Starts a member on its data. It serves the other members from here on; a new one does nothing
    /// by itself until it founds or joins a cluster.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config, registry: &mut Registry) -> Result<Arc<Self>, StartError> {
        let listen_error = |source| StartError::Listen { address: config.listen.clone(), source };
        let listener = TcpListener::bind(&config.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let metrics = Metrics::new(registry);
        let disk = open_disk(&config, &metrics)?;
        let identity = identify(&config, &disk).await?;
        let damaged =
            |error: std::io::Error| StartError::Damaged { path: config.data_dir.clone(), reason: error.to_string() };
        let loaded = load(&disk, config.retention.bytes).map_err(damaged)?;
        let log = Log::open(disk.clone()).map_err(damaged)?;
        let replica = Arc::new(Replica::new(loaded.state.clone(), &loaded.commits, config.retention));
        let pending = Arc::new(Pending::new(identity.member << 32 | u64::from(identity.runs)));
        let applier = Applier::new(disk, replica.clone(), pending.clone(), metrics.clone(), loaded);
        let applied = applier.index();
        let peers = Arc::new(Peers::new(&config.tls_client, &identity.cluster).map_err(StartError::Invalid)?);
        let raft_config = raft_config(&config, &identity.cluster).map_err(StartError::Invalid)?;
        let network = Network(peers.clone());
        let raft = Raft::new(identity.member, Arc::new(raft_config), network, log, applier).await;
        let raft = raft.map_err(|fatal| damaged(std::io::Error::other(fatal.to_string())))?;
        let (proposals, proposed) = queue();
        let core = Arc::new(Core {
            id: identity.member,
            cluster: identity.cluster,
            raft,
            replica,
            pending,
            peers,
            queue: proposals,
            applied,
            leadership: watch::Sender::new(Leadership::default()),
            metrics,
            membership: tokio::sync::Mutex::new(()),
        });
        let (barrier, barriers) = barrier();
        let known = watch::Sender::new(Arc::new(membership::members(&core)));
        let members = known.subscribe();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(server::serve(core.clone(), accept(listener, &config.tls_server), stop.clone()));
        tasks.spawn(propose::run(core.clone(), proposed));
        tasks.spawn(barrier::run(core.clone(), barriers));
        tasks.spawn(leadership::follow(core.clone(), known, config.timing.election_max));
        let store = Arc::new(Self {
            core,
            barrier,
            members,
            advertise: config.advertise,
            address,
            stop,
            tasks: Mutex::new(tasks),
        });
        let deadlines = store.core.replica.deadlines().clone();
        let expiry = expire::run(Arc::downgrade(&store), deadlines, store.core.leadership.subscribe());
        store.tasks.lock().spawn(expiry);
        Ok(store)
    }

    /// Has this member founded or joined a cluster, now or in an earlier run?
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn is_initialized(&self) -> Result<bool, Error> {
        self.core.raft.is_initialized().await.map_err(|_| Error::Stopped)
    }

    /// Founds a cluster with this member as its only voter, and waits until it leads. Without effect on
    /// a member that belongs to a cluster already.
    ///
    /// # Errors
    /// `NoLeader` when it could not elect itself.
    pub async fn init_cluster(&self) -> Result<(), Error> {
        if !self.is_initialized().await? {
            let founder = BTreeMap::from([(self.core.id, self.advertise.clone())]);
            let founded = self.core.raft.initialize(founder).await;
            founded.map_err(|error| Error::NoLeader(error.to_string()))?;
            self.core.raft.trigger().elect(false).await.map_err(|_| Error::Stopped)?;
        }
        self.recovered().await
    }

    /// Asks the members at `addresses` (peer addresses; any will do) to admit this member, and waits
    /// until it votes and has caught up. On a member of the cluster it renews what the others know of it.
    ///
    /// # Errors
    /// `NoLeader` with the reason when nobody admitted it in time.
    pub async fn join(&self, addresses: &[String]) -> Result<(), Error> {
        let core = &self.core;
        membership::join(&core.peers, &core.cluster, core.id, &self.advertise, addresses).await?;
        self.recovered().await
    }

    /// Waits until this member has caught up with the cluster: before that its views may be older than
    /// what it showed before a restart, so nothing may be served from them.
    ///
    /// # Errors
    /// `NoLeader` when the cluster has no leader.
    pub async fn recovered(&self) -> Result<(), Error> {
        self.barrier.pass().await.map(drop)
    }

    /// An id for a new member, different from all that were ever given out.
    ///
    /// # Errors
    /// As [`Store::txn`].
    pub async fn allocate_id(&self) -> Result<MemberId, Error> {
        membership::allocate(&self.core).await
    }

    /// Takes a member out of the cluster for good; any member can be asked.
    ///
    /// # Errors
    /// `NoLeader` with the reason when it did not succeed.
    pub async fn remove_member(&self, id: MemberId) -> Result<(), Error> {
        if self.core.leadership.borrow().leading {
            return membership::dismiss(&self.core, id).await.map_err(Error::NoLeader);
        }
        let addresses: Vec<String> = self.members().iter().map(|m| m.member.peer.clone()).collect();
        membership::leave(&self.core.peers, id, &addresses).await
    }

    /// All members, as this member knows them.
    pub fn members(&self) -> Vec<MemberInfo> {
        membership::members(&self.core)
    }

    /// All members, over time.
    pub fn watch_members(&self) -> watch::Receiver<Arc<Vec<MemberInfo>>> {
        self.members.clone()
    }

    /// This member's id.
    pub fn id(&self) -> MemberId {
        self.core.id
    }

    /// The cluster's id.
    pub fn cluster(&self) -> &str {
        &self.core.cluster
    }

    /// Where it listens for other members.
    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// The revision and a checksum of everything at it: equal on all members at one revision.
    pub fn checksum(&self) -> (Revision, u32) {
        let state = self.core.replica.state();
        (state.revision, state.checksum())
    }

    /// Stops in order: hands over leadership, answers everybody who waits, closes the database.
    pub async fn shutdown(&self) {
        self.hand_over().await;
        self.stop.cancel();
        self.core.pending.stop();
        self.core.replica.stop();
        if self.core.raft.shutdown().await.is_err() {
            tracing::warn!("Raft ended before it was stopped");
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
    }

    /// Lets the member that is most up to date lead, so that nobody has to notice that this one is gone.
    async fn hand_over(&self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        if !self.core.leadership.borrow().leading {
            return;
        }
        let metrics = self.core.raft.metrics().borrow_watched().clone();
        let voters: Vec<MemberId> = metrics.membership_config.voter_ids().filter(|id| *id != self.core.id).collect();
        let matched = |id: &MemberId| metrics.replication.as_ref().and_then(|all| all.get(id).copied().flatten());
        let Some(next) = voters.into_iter().max_by_key(|id| matched(id).map(|log| log.index)) else { return };
        if self.core.raft.trigger().transfer_leader(next).await.is_ok() {
            let mut changes = self.core.leadership.subscribe();
            let gone = changes.wait_for(|now| !now.leading);
            let _ = tokio::time::timeout(PATIENCE, gone).await;
        }
    }
}

impl Drop for RaftStore {
    fn drop(&mut self) {
        self.stop.cancel();
        self.core.pending.stop();
        self.core.replica.stop();
    }
}

#[async_trait::async_trait]
impl Store for RaftStore {
    fn view(&self) -> Arc<dyn View> {
        self.core.replica.state()
    }

    fn view_at(&self, revision: Revision) -> Result<Arc<dyn View>, Error> {
        self.core.replica.view_at(revision)
    }

    async fn read_barrier(&self) -> Result<Revision, Error> {
        self.barrier.pass().await
    }

    async fn wait_for(&self, revision: Revision, timeout: Duration) -> Result<(), Error> {
        self.core.replica.wait_for(revision, timeout).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        propose(&self.core, &txn).await
    }

    fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, Error> {
        self.core.replica.watch(prefix, from)
    }

    fn oldest(&self) -> Revision {
        self.core.replica.oldest()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.core.leadership.subscribe()
    }
}

fn open(data_dir: &Path) -> Result<rocksdb::DB, StartError> {
    let failed = |reason: String| StartError::Open { path: data_dir.to_owned(), reason };
    std::fs::create_dir_all(data_dir).map_err(|error| failed(error.to_string()))?;
    columns::open(data_dir).map_err(|error| failed(error.to_string()))
}

fn open_disk(config: &Config, metrics: &Metrics) -> Result<Arc<Disk>, StartError> {
    let disk = Disk::start(open(&config.data_dir)?, metrics.clone());
    let failed = |error: std::io::Error| StartError::Open { path: config.data_dir.clone(), reason: error.to_string() };
    disk.map(Arc::new).map_err(failed)
}

fn read_identity(db: &rocksdb::DB, data_dir: &Path) -> Result<Option<Identity>, StartError> {
    let damaged = |reason: String| StartError::Damaged { path: data_dir.to_owned(), reason };
    let row = db.get(meta::IDENTITY).map_err(|error| damaged(error.to_string()))?;
    let Some(row) = row else { return Ok(None) };
    let identity: Identity = columns::decode(&row, "identity").map_err(|error| damaged(error.to_string()))?;
    if identity.format > FORMAT {
        return Err(StartError::Newer { path: data_dir.to_owned(), found: identity.format });
    }
    Ok(Some(identity))
}

/// Who this member is: what the data directory says, which must be what the configuration says.
/// Counts the run.
async fn identify(config: &Config, disk: &Disk) -> Result<Identity, StartError> {
    let found = read_identity(disk.db(), &config.data_dir)?;
    let mut identity = match (found, &config.cluster, config.id) {
        (Some(found), cluster, id) => {
            let cluster = cluster.as_ref().unwrap_or(&found.cluster);
            let id = id.unwrap_or(found.member);
            if *cluster != found.cluster || id != found.member {
                return Err(StartError::Foreign {
                    path: config.data_dir.clone(),
                    found: format!("member {} of cluster {}", found.member, found.cluster),
                    wanted: format!("member {id} of cluster {cluster}"),
                });
            }
            found
        }
        (None, Some(cluster), Some(member)) => Identity { format: FORMAT, cluster: cluster.clone(), member, runs: 0 },
        (None, _, _) => return Err(StartError::Nobody(config.data_dir.clone())),
    };
    if identity.member == 0 || identity.member > u64::from(u32::MAX) {
        return Err(StartError::Invalid(format!("{} is not a member id", identity.member)));
    }
    identity.runs = identity.runs.wrapping_add(1);
    let row = Row::Put(Family::Meta, Bytes::from_static(meta::IDENTITY), columns::encode(&identity).into());
    let saved = disk.sync(vec![row]).await;
    saved.map_err(|error| StartError::Open { path: config.data_dir.clone(), reason: error.to_string() })?;
    Ok(identity)
}

fn raft_config(config: &Config, cluster: &str) -> Result<openraft::Config, String> {
    let millis = |duration: Duration| duration.as_millis() as u64;
    let raft = openraft::Config {
        cluster_name: cluster.to_owned(),
        heartbeat_interval: millis(config.timing.heartbeat),
        election_timeout_min: millis(config.timing.election_min),
        election_timeout_max: millis(config.timing.election_max),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.log.cut_every),
        max_in_snapshot_log_to_keep: config.log.keep,
        purge_batch_size: 256,
        replication_lag_threshold: config.log.cut_every.max(config.log.keep) * 2,
        // A snapshot is streamed whole; this bounds the transfer of a large state over a slow link.
        install_snapshot_timeout: 600_000,
        enable_pre_vote: Some(true),
        // After a restart a member stands for election like any other: a term means one run of a leader,
        // which is what makes proposals of a past term certainly lost (`pending`).
        enable_leader_restore: Some(false),
        backoff: "50ms 100ms 200ms ..500ms".to_owned(),
        ..openraft::Config::default()
    };
    raft.validate().map_err(|error| error.to_string())
}
