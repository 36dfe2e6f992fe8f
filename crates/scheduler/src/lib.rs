//! Decides which node runs a pod.
//!
//! Must never know: the store, TLS, what a node does with a pod.
//!
//! Entry points: [`run`], on the server that leads; what it may do is the default cluster role
//! `system:kube-scheduler`. [`Settings`] reads a KubeSchedulerConfiguration. [`trial`] is the decision
//! without IO, for measurements. Parts: `pod`, `node`, `volume` and `world` read objects; `snapshot` is
//! the columnar table of nodes with every placed and assumed pod, `tally` and `held` its counts per
//! topology; `framework` has the extension traits and `plugins` one file each; `profile` puts them
//! together; `cycle` and `preempt` are the pure decision; `queue` holds pods that wait; `bind` is the
//! only IO; `driver` turns events into decisions.
//!
//! Invariants: a decision is a function of pod, profile, snapshot and random numbers; a pod is decided
//! at most once at a time; a decided pod counts on its node from that moment (assumed), until the
//! binding fails or the pod goes; no decision waits for a write.

mod bind;
mod cycle;
mod driver;
mod framework;
mod held;
mod node;
mod nominated;
mod plugins;
mod pod;
mod preempt;
mod profile;
mod queue;
#[cfg(test)]
mod reference_tests;
mod settings;
mod snapshot;
mod tally;
#[cfg(test)]
mod testing;
mod topology;
pub mod trial;
mod volume;
mod world;

pub use settings::{Invalid, Settings};

use driver::{Driver, Feeds};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kybern_api::seam::{Clock, Ids};
use kybern_client::set::InformerSet;
use kybern_client::typed;
use kybern_client::write::Writer;
use kybern_reconcile::events::Recorder;
use kybern_reconcile::lease;
use kybern_reconcile::run::TransportFactory;
use profile::Profile;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use world::{Topic, topics};

/// The scheduler's identity (user `system:kube-scheduler`) and lease.
pub const NAME: &str = "kube-scheduler";
/// The `schedulerName` of pods that name none.
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
    /// Profiles and their plugins.
    pub settings: Settings,
}

/// Schedules until `cancel` fires.
pub async fn run(config: Config, cancel: CancellationToken) {
    let transport = (config.transports)(NAME);
    let writer = Writer::new(Arc::clone(&transport), NAME, config.term);
    let informers = InformerSet::new(transport, HashMap::new(), cancel.clone());
    let Some(feeds) = cancel.run_until_cancelled(feeds(&informers, &cancel)).await else { return };
    let recorder = |name: &str| {
        let (clock, ids) = (Arc::clone(&config.clock), Arc::clone(&config.ids));
        Recorder::start(writer.clone(), name, clock, ids, cancel.clone())
    };
    let profiles = &config.settings.profiles;
    let recorders = profiles.iter().map(|p| (p.name.clone(), recorder(&p.name))).collect();
    let profiles = profiles.iter().map(|p| (p.name.clone(), Profile::new(p))).collect();
    let holder = format!("{}_{}", config.holder, config.term);
    let lease = hold_lease(writer.clone(), holder, Arc::clone(&config.clock));
    let claims = informers.all(&typed::resource::<PersistentVolumeClaim>());
    let binder = bind::Binder::new(writer, recorders, Arc::clone(&config.clock), claims);
    let driver = Driver::new(binder, profiles, config.settings.backoff, &*config.ids);
    cancel.run_until_cancelled(futures::future::join(lease, driver.run(feeds))).await;
}

/// Waits until everything that decisions rest on is known once.
async fn feeds(informers: &InformerSet, cancel: &CancellationToken) -> Feeds {
    let (nodes, pods) = (informers.all(&typed::resource::<Node>()), informers.all(&typed::resource::<Pod>()));
    let others: Vec<_> = topics().into_iter().map(|(topic, resource)| (topic, informers.all(&resource))).collect();
    let (sender, receiver) = mpsc::unbounded_channel();
    for (_, informer) in &others {
        informer.synced().await;
    }
    nodes.synced().await;
    pods.synced().await;
    for (topic, informer) in others {
        let mut deltas = informer.subscribe();
        let sender = sender.clone();
        // What is there now goes in before the first decision.
        while let Ok(delta) = deltas.try_recv() {
            // The receiver is in our hands.
            _ = sender.send((topic, delta));
        }
        tokio::spawn(cancel.clone().run_until_cancelled_owned(forward(topic, deltas, sender)));
    }
    Feeds { nodes: nodes.subscribe(), pods: pods.subscribe(), others: receiver }
}

/// Tags what happens to one topic; ends with the scheduler.
async fn forward(
    topic: Topic,
    mut deltas: mpsc::UnboundedReceiver<kybern_client::store::Delta>,
    sender: mpsc::UnboundedSender<(Topic, kybern_client::store::Delta)>,
) {
    while let Some(delta) = deltas.recv().await {
        if sender.send((topic, delta)).is_err() {
            return;
        }
    }
}

async fn hold_lease(writer: Writer, holder: String, clock: Arc<dyn Clock>) {
    while let Err(status) = lease::take_over(&writer, "kube-system", NAME, &holder, clock.now()).await {
        tracing::debug!(error = %status, "lease not taken yet");
        tokio::time::sleep(LEASE_RETRY).await;
    }
}
