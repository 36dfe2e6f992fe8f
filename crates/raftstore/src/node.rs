//! A member of a replicated store: start, found or join a cluster, serve, stop.
//!
//! Tasks, all owned by the [`RaftStore`] and ended with it: the members' port (`net::server`), proposals
//! (`propose`), barriers (`barrier`), leadership (`leadership`), expiry (`expire`); openraft has its own.

use crate::barrier::{self, Barrier, barrier};
use crate::columns::{self, FORMAT, Family, Identity, meta};
pub use crate::config::{Config, LogLimits, StartError, Timing};
use crate::core::Core;
use crate::disk::{Disk, Row};
use crate::expire;
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
use crate::propose::{self, Queue, propose, queue};
use crate::replica::Replica;
use crate::store::{Error, Leadership, Store, View, Watch};
use crate::types::{Member, MemberId, Raft};
use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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
        let (proposals, proposed) = queue();
        let core = Arc::new(assemble(&config, identity, disk, metrics, proposals).await?);
        let (barrier, barriers) = barrier();
        let known = watch::Sender::new(Arc::new(membership::members(&core)));
        let members = known.subscribe();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(server::serve(core.clone(), accept(listener, &config.tls_server), stop.clone()));
        tasks.spawn(propose::run(core.clone(), proposed));
        tasks.spawn(barrier::run(core.clone(), barriers));
        tasks.spawn(leadership::follow(core.clone(), known, config.timing.election_max));
        let (advertise, tasks) = (config.advertise, Mutex::new(tasks));
        let store = Arc::new(Self { core, barrier, members, advertise, address, stop, tasks });
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
        self.core.leadership.send_replace(Leadership::default());
        // Whoever came in between.
        self.core.pending.stop();
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

/// Loads what is on disk and starts Raft on it.
async fn assemble(
    config: &Config,
    identity: Identity,
    disk: Arc<Disk>,
    metrics: Metrics,
    queue: Queue,
) -> Result<Core, StartError> {
    let damaged = |reason: String| StartError::Damaged { path: config.data_dir.clone(), reason };
    let loaded = load(&disk, config.retention.bytes).map_err(|error| damaged(error.to_string()))?;
    let log = Log::open(disk.clone()).map_err(|error| damaged(error.to_string()))?;
    let replica = Arc::new(Replica::new(loaded.state.clone(), &loaded.commits, config.retention));
    let pending = Arc::new(Pending::new(identity.member << 32 | u64::from(identity.runs)));
    let applier = Applier::new(disk, replica.clone(), pending.clone(), metrics.clone(), loaded);
    let applied = applier.index();
    let peers = Arc::new(Peers::new(&config.tls_client, &identity.cluster).map_err(StartError::Invalid)?);
    let raft_config = Arc::new(config.raft(&identity.cluster).map_err(StartError::Invalid)?);
    let raft = Raft::new(identity.member, raft_config, Network(peers.clone()), log, applier).await;
    Ok(Core {
        id: identity.member,
        cluster: identity.cluster,
        raft: raft.map_err(|fatal| damaged(fatal.to_string()))?,
        replica,
        pending,
        peers,
        queue,
        applied,
        leadership: watch::Sender::new(Leadership::default()),
        metrics,
        membership: tokio::sync::Mutex::new(()),
    })
}
