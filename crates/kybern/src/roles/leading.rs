//! Controllers and scheduler run on the server that leads Raft: started when it begins to lead, ended when
//! it no longer does. Their writes carry the term, so a stale leader's are refused.

use super::bootstrap;
use super::certificates::{self, Keeper};
use super::signer::ClusterSigner;
use futures::FutureExt;
use kybern_api::attributes::UserInfo;
use kybern_api::seam::{SystemClock, SystemIds};
use kybern_apiserver::ApiServer;
use kybern_authn::join::{JoinToken, Role};
use kybern_controller_manager::AUTOSCALER;
use kybern_controller_manager::metrics::MetricsApi;
use kybern_raftstore::MemberInfo;
use kybern_raftstore::store::{Leadership, Store};
use kybern_reconcile::run::TransportFactory;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A write that could not be made while the cluster comes up is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// What the leader works with.
#[derive(Clone)]
pub(super) struct Leading {
    pub(super) api: ApiServer,
    pub(super) keeper: Arc<Keeper>,
    /// The cluster's servers, over time.
    pub(super) members: watch::Receiver<Arc<Vec<MemberInfo>>>,
    pub(super) clock: SystemClock,
    pub(super) name: String,
    pub(super) cluster_cidr: ipnet::Ipv4Net,
    pub(super) scheduler: kybern_scheduler::Settings,
    pub(super) tokens: Vec<(Role, JoinToken)>,
    /// Does the cluster begin with an IngressClass?
    pub(super) serves_ingress: bool,
}

impl Leading {
    /// Follows leadership until `cancel`.
    pub(super) async fn run(self, store: Arc<dyn Store>, cancel: CancellationToken) {
        let mut leadership = store.leadership();
        while let Some(Ok(term)) = cancel.run_until_cancelled(begins(&mut leadership)).await {
            let ended = cancel.child_token();
            let work = tokio::spawn(self.clone().lead(term, ended.clone()));
            let still = |l: &Leadership| l.leading && l.term == term;
            cancel.run_until_cancelled(leadership.wait_for(|l| !still(l))).await;
            ended.cancel();
            if let Err(e) = work.await {
                tracing::error!("a component of the leader failed: {e}");
            }
        }
    }

    async fn lead(self, term: u64, cancel: CancellationToken) {
        tracing::info!(term, "this server leads: controllers and scheduler start");
        let transports = self.transports();
        let controllers = kybern_controller_manager::Config {
            clock: Arc::new(self.clock),
            ids: Arc::new(SystemIds),
            cluster_cidr: self.cluster_cidr.into(),
            ca_pem: self.keeper.keys().server_ca.certificate_pem(),
            metrics: Arc::new(MetricsApi::new(transports(AUTOSCALER), Arc::new(self.clock))),
            signer: Arc::new(ClusterSigner(self.keeper.clone())),
            transports: self.transports(),
            term,
            holder: self.name.clone(),
        };
        let scheduler = kybern_scheduler::Config {
            clock: Arc::new(self.clock),
            ids: Arc::new(SystemIds),
            transports: self.transports(),
            term,
            holder: self.name.clone(),
            settings: self.scheduler.clone(),
        };
        let certificates = certificates::Leader {
            keeper: self.keeper.clone(),
            api: Arc::new(self.api.own_transport()),
            members: self.members.clone(),
            clock: Arc::new(self.clock),
            term,
        };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(certificates.run(cancel.clone()));
        tasks.spawn(cancel.clone().run_until_cancelled_owned(self.bootstrap()).map(|_| ()));
        tasks.spawn(kybern_controller_manager::run(controllers, cancel.clone()));
        tasks.spawn(kybern_scheduler::run(scheduler, cancel));
        while let Some(ended) = tasks.join_next().await {
            if let Err(e) = ended {
                tracing::error!("a component of the leader failed: {e}");
            }
        }
        tracing::info!(term, "this server leads no more: controllers and scheduler have stopped");
    }

    async fn bootstrap(self) {
        let api = self.api.own_transport();
        // The namespaces they live in are made by the API server itself, at the same time.
        while let Err(e) = bootstrap::run(&api, &self.tokens, self.serves_ingress).await {
            tracing::debug!("default objects are not all there yet: {e}");
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    /// Components are authenticated and authorised like anybody: the shared informers as their
    /// component's user, each controller as its own service account.
    fn transports(&self) -> TransportFactory {
        let api = self.api.clone();
        Arc::new(move |name| Arc::new(api.transport(component(name), name)))
    }
}

/// Waits until this server leads; the term.
async fn begins(leadership: &mut watch::Receiver<Leadership>) -> Result<u64, watch::error::RecvError> {
    Ok(leadership.wait_for(|l| l.leading).await?.term)
}

fn component(name: &str) -> UserInfo {
    if name == kybern_controller_manager::NAME || name == kybern_scheduler::NAME {
        return UserInfo {
            name: format!("system:{name}"),
            groups: vec!["system:authenticated".into()],
            ..UserInfo::default()
        };
    }
    UserInfo::service_account("kube-system", name)
}
