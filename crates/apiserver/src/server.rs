//! The server as a handle: its parts, and the tasks it owns.

use crate::audit::{Audit, Auditor};
use crate::cache::Caches;
use crate::cache::window::Bounds;
use crate::config::Config;
use crate::error::{of_store, retry_later};
use crate::fairness::Fairness;
use crate::nodes::Nodes;
use crate::recovery::{self, Recovery};
use crate::registry::kinds::Kinds;
use crate::registry::seal::Sealer;
use crate::registry::service_ips::Ranges;
use crate::request::chain::Authorized;
use crate::request::rounds::Rounds;
use bytes::Bytes;
use kybern_admission::{Chain, Env};
use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::error::Status;
use kybern_api::kind::KindDef;
use kybern_api::seam::{Clock, Ids};
use kybern_authn::Authenticator;
use kybern_authn::issuer::Issuer;
use kybern_raftstore::store::Store;
use kybern_rbac::{Authorizer, Decision};
use kybern_wire::node::Server;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a server is made of.
pub struct Parts {
    /// Settings.
    pub config: Config,
    /// The replicated store.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Uids and name suffixes.
    pub ids: Arc<dyn Ids>,
    /// Finds out who asks.
    pub authenticator: Arc<dyn Authenticator>,
    /// Decides who may.
    pub authorizer: Arc<dyn Authorizer>,
    /// Admission plugins, in order.
    pub admission: Arc<Chain>,
    /// Mints service-account tokens; None: the token subresource answers 503.
    pub issuer: Option<Arc<Issuer>>,
    /// Encrypts sealed kinds.
    pub sealer: Arc<dyn Sealer>,
    /// The kinds to serve.
    pub kinds: Vec<Arc<KindDef>>,
    /// Paths of the binary's own, by their whole path.
    pub paths: Vec<(String, Arc<dyn PathHandler>)>,
    /// Who did what is written down; None: it is not.
    pub audit: Option<Audit>,
    /// Where the parts below register their figures; `/metrics` shows them with the server's own.
    pub metrics: Registry,
}

/// Answers POSTs to one path, after authentication and authorisation (as a path request) like any other.
#[async_trait::async_trait]
pub trait PathHandler: Send + Sync + 'static {
    /// The answer's JSON.
    ///
    /// # Errors
    /// The Status to answer with.
    async fn post(&self, user: &UserInfo, body: Bytes) -> Result<Bytes, Status>;
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("config", &self.config).finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) admission: Arc<Chain>,
    pub(crate) issuer: Option<Arc<Issuer>>,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) paths: Vec<(String, Arc<dyn PathHandler>)>,
    pub(crate) caches: Arc<Caches>,
    pub(crate) ranges: Ranges,
    pub(crate) metrics: crate::metrics::Metrics,
    pub(crate) fairness: Fairness,
    pub(crate) auditor: Auditor,
    pub(crate) rounds: Rounds,
    pub(crate) recovery: Arc<Recovery>,
    /// The nodes that connections go to.
    pub(crate) nodes: Arc<Nodes>,
    /// What the policies come to on each node.
    pub(crate) policies: crate::nodes::policy::Policies,
    /// What the nodes said last of what they use.
    pub(crate) usage: crate::usage::Summaries,
    /// The live servers, for the agents.
    pub(crate) servers: watch::Sender<Vec<Server>>,
    pub(crate) documents: crate::documents::Documents,
    pub(crate) tasks: TaskTracker,
    /// Ends streams and accepts nothing new.
    pub(crate) drain: CancellationToken,
    /// Ends the server's own tasks.
    pub(crate) stop: CancellationToken,
}

/// A running API server. Clones are handles to the same one.
#[derive(Clone)]
pub struct ApiServer(pub(crate) Arc<Inner>);

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// A decision is repeated after a barrier of at most this long.
const BARRIER: Duration = Duration::from_secs(1);

impl ApiServer {
    /// Starts a server: its caches begin to follow the store. Must be called inside a tokio runtime.
    pub fn new(parts: Parts) -> Self {
        let caches = Arc::new(Caches::new(parts.clock.clone()));
        let kinds = Arc::new(Kinds::new(parts.kinds, caches.clone(), parts.sealer, Bounds::default()));
        let server = Self(Arc::new(Inner {
            ranges: parts.config.ranges,
            fairness: Fairness::new(&parts.config),
            auditor: Auditor::new(parts.audit, parts.clock.clone(), kinds.clone(), parts.ids.as_ref()),
            rounds: Rounds::default(),
            recovery: Arc::default(),
            config: parts.config,
            store: parts.store,
            clock: parts.clock,
            ids: parts.ids,
            authenticator: parts.authenticator,
            authorizer: parts.authorizer,
            admission: parts.admission,
            issuer: parts.issuer,
            kinds,
            paths: parts.paths,
            caches,
            metrics: crate::metrics::Metrics::new(parts.metrics),
            nodes: Nodes::new(),
            policies: crate::nodes::policy::Policies::default(),
            usage: crate::usage::Summaries::default(),
            servers: watch::Sender::new(Vec::new()),
            documents: crate::documents::Documents::default(),
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
        }));
        // Before anything is served: a reader that asks for any state must not find none.
        let loaded = server.0.caches.load(server.0.store.as_ref());
        let (caches, store, stop) = (server.0.caches.clone(), server.0.store.clone(), server.0.stop.clone());
        let recovering = recovery::run(server.0.recovery.clone(), store.clone(), caches.clone());
        server.0.tasks.spawn(stop.clone().run_until_cancelled_owned(recovering));
        server.0.tasks.spawn(async move {
            tokio::select! {
                () = caches.feed(store, loaded) => tracing::info!("the store has stopped: the caches stand still"),
                () = stop.cancelled() => {}
            }
        });
        server
    }

    /// Other objects, as this server's caches know them.
    pub fn lister(&self) -> Arc<dyn kybern_api::seam::Lister> {
        self.0.kinds.clone()
    }

    /// The served kinds.
    pub fn kinds(&self) -> Arc<Kinds> {
        self.0.kinds.clone()
    }

    /// The nodes connected to this server. [`Nodes::set_peers`] lets it reach the others.
    pub fn nodes(&self) -> &Arc<Nodes> {
        &self.0.nodes
    }

    /// Tells the agents which servers live, now and at each change.
    pub fn publish_servers(&self, servers: Vec<Server>) {
        self.0.servers.send_replace(servers);
    }

    /// The servers last published, and their changes; what [`crate::nodes::peers::GrpcPeers`] follows.
    pub fn servers(&self) -> watch::Receiver<Vec<Server>> {
        self.0.servers.subscribe()
    }

    /// Lets open streams end and waits for the server's tasks, up to the drain timeout.
    pub async fn stop(&self) {
        self.0.drain.cancel();
        self.0.stop.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(self.0.config.drain_timeout, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.drain.cancel();
        self.stop.cancel();
    }
}

impl Inner {
    /// Waits until the store's state here holds everything committed before the call.
    pub(crate) async fn read_barrier(&self) -> Result<u64, Status> {
        match tokio::time::timeout(BARRIER, self.store.read_barrier()).await {
            Ok(r) => r.map_err(of_store),
            Err(_) => Err(retry_later()),
        }
    }

    /// Waits until the store's state and the caches hold everything committed before the call.
    pub(crate) async fn barrier(&self) -> Result<u64, Status> {
        let revision = self.read_barrier().await?;
        if !self.caches.wait_applied(revision, BARRIER).await {
            return Err(retry_later());
        }
        Ok(revision)
    }

    /// Runs a stage of admission.
    pub(crate) fn admit(
        &self,
        stage: impl FnOnce(&Chain, &Env<'_>) -> Result<(), Status>,
        auth: &Authorized,
    ) -> Result<(), Status> {
        let may = |a: &Attributes| matches!(self.authorizer.authorize(a, self.kinds.as_ref()), Decision::Allow(_));
        let warn = |text| auth.warn([text]);
        let env = Env { objects: self.kinds.as_ref(), ids: self.ids.as_ref(), may: &may, warn: &warn, now: auth.now };
        stage(&self.admission, &env)
    }
}
