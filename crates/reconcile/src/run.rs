//! Runs controllers: watches feed queues, workers plan and act.

use crate::act::{Executor, Failure, Outcome, await_visible};
use crate::def::{ControllerDef, Key, KeyFn};
use crate::events::Recorder;
use crate::plan::describe;
use crate::queue::Queue;
use crate::steady::Steady;
use crate::view::{Source, View, World};
use kybern_api::error::Reason;
use kybern_api::seam::{Clock, Ids};
use kybern_client::informer::Informer;
use kybern_client::set::InformerSet;
use kybern_client::store::Delta;
use kybern_client::transport::Transport;
use kybern_client::write::Writer;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// A stale view is looked at again soon; the informer is usually milliseconds behind.
const STALE_DELAY: Duration = Duration::from_millis(20);

/// Makes the transport of a component, authenticated as the service account `kube-system/NAME` (or,
/// for the shared informers, as the controller manager itself).
pub type TransportFactory = Arc<dyn Fn(&str) -> Arc<dyn Transport> + Send + Sync>;

/// What all controllers of a process share.
#[derive(Clone)]
pub struct Runtime {
    /// Informers, one per resource.
    pub informers: InformerSet,
    /// One transport per identity.
    pub transports: TransportFactory,
    /// Wall-clock and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Names.
    pub ids: Arc<dyn Ids>,
    /// Time for observations; shared with the informers' rows.
    pub steady: Steady,
    /// Leader term that fences every write.
    pub term: u64,
}

impl Runtime {
    /// Runs one controller until `cancel` fires. Returns when all its tasks have ended.
    pub async fn run(&self, def: ControllerDef, cancel: CancellationToken) {
        let informers: Arc<[Arc<Informer>]> = def.watches.iter().map(|w| self.informers.all(&w.resource)).collect();
        let synced = async {
            for informer in informers.iter() {
                informer.synced().await;
            }
        };
        if cancel.run_until_cancelled(synced).await.is_none() {
            return;
        }
        let writer = Writer::new((self.transports)(def.name), def.name, self.term);
        let recorder =
            Recorder::start(writer.clone(), def.name, Arc::clone(&self.clock), Arc::clone(&self.ids), cancel.clone());
        let controller = Arc::new(Controller {
            sources: informers.iter().map(|i| Source::Live(Arc::clone(i))).collect(),
            executor: Executor::new(writer, recorder, Arc::clone(&self.ids)),
            queue: Queue::default(),
            failures: Mutex::default(),
            clock: Arc::clone(&self.clock),
            steady: self.steady.clone(),
            informers,
            def,
        });
        let mut tasks = JoinSet::new();
        for (watch, informer) in controller.def.watches.iter().zip(controller.informers.iter()) {
            let feed = Arc::clone(&controller).feed(Arc::clone(&watch.keys), informer.subscribe());
            tasks.spawn(cancel.clone().run_until_cancelled_owned(feed));
        }
        controller.def.seeds.iter().cloned().for_each(|key| controller.queue.add(key));
        for _ in 0..controller.def.workers.max(1) {
            let span = tracing::info_span!("controller", name = controller.def.name);
            tasks.spawn(cancel.clone().run_until_cancelled_owned(Arc::clone(&controller).work().instrument(span)));
        }
        while tasks.join_next().await.is_some() {}
    }
}

struct Controller {
    def: ControllerDef,
    informers: Arc<[Arc<Informer>]>,
    sources: Arc<[Source]>,
    executor: Executor,
    queue: Queue<Key>,
    /// What went wrong last, by key; told to the next plan.
    failures: Mutex<HashMap<Key, String>>,
    clock: Arc<dyn Clock>,
    steady: Steady,
}

impl Controller {
    async fn feed(self: Arc<Self>, keys: KeyFn, mut deltas: mpsc::UnboundedReceiver<Delta>) {
        while let Some(delta) = deltas.recv().await {
            let view = View::new(Arc::clone(&self.sources));
            keys(&delta, &view).into_iter().for_each(|key| self.queue.add(key));
        }
    }

    async fn work(self: Arc<Self>) {
        loop {
            let key = self.queue.next().await;
            self.reconcile(&key).await;
            self.queue.done(&key);
        }
    }

    async fn reconcile(&self, key: &Key) {
        let plan = {
            let failure = self.failures.lock().get(key).cloned();
            let view = View::new(Arc::clone(&self.sources));
            let (now, steady) = (self.clock.now(), self.steady.now());
            (self.def.plan)(&World { view: &view, now, steady, failure: failure.as_deref() }, key)
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                tracing::warn!(%key, error = %error, "cannot plan");
                self.queue.retry(key.clone());
                return;
            }
        };
        if plan.is_empty() {
            self.settle(key);
        } else {
            tracing::debug!(%key, plan = %describe(&plan), "acting");
            let outcome = self.executor.carry_out(&plan).await;
            await_visible(&outcome.expectations, &self.informers).await;
            self.conclude(key, outcome);
        }
        if let Some(delay) = plan.requeue {
            self.queue.add_after(key.clone(), delay);
        }
    }

    fn conclude(&self, key: &Key, outcome: Outcome) {
        match outcome.failure {
            None => self.settle(key),
            Some(Failure::Stale(why)) => {
                tracing::debug!(%key, why, "planned from a stale view");
                let backoff = self.queue.retry(key.clone());
                self.queue.add_after(key.clone(), backoff.min(STALE_DELAY));
            }
            Some(Failure::Refused(status)) => {
                if status.reason == Reason::Forbidden {
                    tracing::warn!(%key, error = %status, "refused");
                } else {
                    tracing::debug!(%key, error = %status, "failed");
                }
                self.failures.lock().insert(key.clone(), status.message);
                self.queue.retry(key.clone());
            }
        }
    }

    fn settle(&self, key: &Key) {
        self.queue.forget(key);
        self.failures.lock().remove(key);
    }
}
