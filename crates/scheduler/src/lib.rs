//! Decides which node runs a pod.
//!
//! Must never know: the store, TLS, what a node does with a pod.
//!
//! Entry point: [`run`], on the server that leads; what it may do is the default cluster role
//! `system:kube-scheduler`. Parts: `pod` and `node` read
//! objects, `snapshot` is the columnar table of nodes with every placed and assumed pod, `framework`
//! has the extension traits and `plugins` one file each, `cycle` is the pure decision, `queue` holds
//! pods that wait, `bind` is the only IO, `driver` turns events into decisions.
//!
//! Invariants: a decision is a function of pod, snapshot and random numbers; a pod is decided at
//! most once at a time; a decided pod counts on its node from that moment (assumed), until the
//! binding fails or the pod goes.

mod bind;
mod cycle;
mod driver;
mod framework;
mod node;
mod plugins;
mod pod;
mod queue;
mod snapshot;

use driver::Driver;
use k8s_openapi::api::core::v1::{Node, Pod};
use kybern_api::seam::{Clock, Ids};
use kybern_client::set::InformerSet;
use kybern_client::typed;
use kybern_client::write::Writer;
use kybern_reconcile::events::Recorder;
use kybern_reconcile::lease;
use kybern_reconcile::run::TransportFactory;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The scheduler's identity (user `system:kube-scheduler`) and lease.
pub const NAME: &str = "kube-scheduler";
/// The `schedulerName` of pods it decides.
pub const SCHEDULER_NAME: &str = "default-scheduler";
/// Wait before the lease is tried again while the API is not ready.
const LEASE_RETRY: Duration = Duration::from_millis(200);

/// What the scheduler runs with.
pub struct Config {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Random choices and names.
    pub ids: Arc<dyn Ids>,
    /// Transport of an identity; asked for [`NAME`].
    pub transports: TransportFactory,
    /// Leader term that fences every write; 0: none.
    pub term: u64,
    /// Name of this server; with the term it is the lease's holder.
    pub holder: String,
}

/// Schedules until `cancel` fires.
pub async fn run(config: Config, cancel: CancellationToken) {
    let transport = (config.transports)(NAME);
    let writer = Writer::new(Arc::clone(&transport), NAME, config.term);
    let informers = InformerSet::new(transport, HashMap::new(), cancel.clone());
    let (nodes, pods) = (informers.all(&typed::resource::<Node>()), informers.all(&typed::resource::<Pod>()));
    let synced = async {
        nodes.synced().await;
        pods.synced().await;
    };
    if cancel.run_until_cancelled(synced).await.is_none() {
        return;
    }
    let recorder = Recorder::start(
        writer.clone(),
        SCHEDULER_NAME,
        Arc::clone(&config.clock),
        Arc::clone(&config.ids),
        cancel.clone(),
    );
    let holder = format!("{}_{}", config.holder, config.term);
    let lease = hold_lease(writer.clone(), holder, Arc::clone(&config.clock));
    let binder = bind::Binder::new(writer, recorder, Arc::clone(&config.clock));
    let driver = Driver::new(binder, &*config.ids);
    let work = driver.run(nodes.subscribe(), pods.subscribe());
    cancel.run_until_cancelled(futures::future::join(lease, work)).await;
}

async fn hold_lease(writer: Writer, holder: String, clock: Arc<dyn Clock>) {
    while let Err(status) = lease::take_over(&writer, "kube-system", NAME, &holder, clock.now()).await {
        tracing::debug!(error = %status, "lease not taken yet");
        tokio::time::sleep(LEASE_RETRY).await;
    }
}
