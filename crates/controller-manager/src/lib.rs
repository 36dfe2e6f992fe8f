//! The controllers of a cluster: pure plans in one table, run by `kybern-reconcile`.
//!
//! Must never know: the store, TLS, keys (certificates are signed by what is handed in), where it
//! runs. Every controller is a client with its own identity and role.
//!
//! Entry points: [`run`] (on the server that leads, until it no longer does), [`roles`] (what each
//! controller may do) and [`definitions`], all from the same table. Invariants: a plan is a function of the view, the
//! key and the time; a converged cluster is not written to; nothing is polled.

mod controllers;
mod hash;
mod kinds;
mod members;
pub mod metrics;
mod ownership;
mod revisions;
mod rows;
mod shares;
mod template;

#[cfg(test)]
mod cases;

pub use controllers::AUTOSCALER;
use controllers::{Settings, table};
use ipnet::IpNet;
use kybern_api::seam::{Clock, Ids};
use kybern_client::set::InformerSet;
use kybern_client::write::Writer;
use kybern_reconcile::def::{ControllerDef, Role, role};
use kybern_reconcile::lease;
use kybern_reconcile::run::{Runtime, TransportFactory};
use kybern_reconcile::steady::Steady;
pub use rows::rows as informer_rows;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The identity of the shared informers and of the leader lease (user `system:NAME`).
pub const NAME: &str = "kube-controller-manager";
/// Wait before the lease is tried again while the API is not ready.
const LEASE_RETRY: Duration = Duration::from_millis(200);

/// Signs certificates for approved requests.
pub trait CertificateSigner: Send + Sync {
    /// Signs a PEM request for one of Kubernetes' signers. `expiration_seconds` is what the request
    /// wishes; the signer may shorten it.
    ///
    /// # Errors
    /// Why it does not sign; becomes the request's Failed condition.
    fn sign(
        &self,
        signer_name: &str,
        csr_pem: &str,
        usages: &[String],
        expiration_seconds: Option<u32>,
        now: jiff::Timestamp,
    ) -> Result<String, String>;
}

/// What the controllers run with.
pub struct Config {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Names.
    pub ids: Arc<dyn Ids>,
    /// The range of all pod addresses, for example 10.42.0.0/16.
    pub cluster_cidr: IpNet,
    /// The CA that signs the servers' certificates, PEM; published in every namespace.
    pub ca_pem: String,
    /// Signs node and client certificates.
    pub signer: Arc<dyn CertificateSigner>,
    /// What autoscaling goes by.
    pub metrics: Arc<dyn metrics::Metrics>,
    /// Transport of an identity: [`NAME`] itself (user `system:kube-controller-manager`), or a
    /// controller (service account `kube-system/NAME-OF-CONTROLLER`).
    pub transports: TransportFactory,
    /// Leader term that fences every write; 0: none.
    pub term: u64,
    /// Name of this server; with the term it is the lease's holder.
    pub holder: String,
}

/// Runs every controller until `cancel` fires.
pub async fn run(config: Config, cancel: CancellationToken) {
    let steady = Steady::new(Arc::clone(&config.clock));
    let shared = (config.transports)(NAME);
    let holder = format!("{}_{}", config.holder, config.term);
    let lease = hold_lease(Writer::new(Arc::clone(&shared), NAME, config.term), holder, Arc::clone(&config.clock));
    let runtime = Runtime {
        informers: InformerSet::new(shared, rows::rows(&steady), cancel.clone()),
        transports: config.transports,
        clock: config.clock,
        ids: config.ids,
        steady,
        term: config.term,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(cancel.clone().run_until_cancelled_owned(lease));
    let settings = Settings {
        cluster_cidr: config.cluster_cidr,
        ca_pem: config.ca_pem,
        signer: config.signer,
        metrics: config.metrics,
    };
    for def in table(settings) {
        let (runtime, cancel) = (runtime.clone(), cancel.clone());
        tasks.spawn(async move {
            runtime.run(def, cancel).await;
            None
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Takes the lease over, however long the API needs to become ready.
async fn hold_lease(writer: Writer, holder: String, clock: Arc<dyn Clock>) {
    while let Err(status) = lease::take_over(&writer, "kube-system", NAME, &holder, clock.now()).await {
        tracing::debug!(error = %status, "lease not taken yet");
        tokio::time::sleep(LEASE_RETRY).await;
    }
}

/// Every controller's definition, for who reads definitions without running them (roles, simulations,
/// benchmarks). Their signer signs nothing.
pub fn definitions() -> Vec<ControllerDef> {
    struct NoSigner;
    impl CertificateSigner for NoSigner {
        fn sign(&self, _: &str, _: &str, _: &[String], _: Option<u32>, _: jiff::Timestamp) -> Result<String, String> {
            Err("definitions need no signer".into())
        }
    }
    table(Settings {
        cluster_cidr: IpNet::V4(ipnet::Ipv4Net::default()),
        ca_pem: String::new(),
        signer: Arc::new(NoSigner),
        metrics: Arc::new(metrics::NoMetrics),
    })
}

/// What each controller may do. (The shared informers and the lease are the default cluster role
/// `system:kube-controller-manager`'s business.)
pub fn roles() -> Vec<Role> {
    definitions().iter().map(role).collect()
}
