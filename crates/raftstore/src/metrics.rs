//! What the store tells about itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Cheap to clone: all clones count into the same metrics.
#[derive(Clone)]
pub(crate) struct Metrics {
    fsync: Histogram,
    batch: Histogram,
    proposals: Counter,
    forwards: Counter,
    barriers: Counter,
    /// The current term.
    pub(crate) term: Gauge,
    /// Index of the last applied log entry.
    pub(crate) applied: Gauge,
    /// The current revision.
    pub(crate) revision: Gauge,
    /// 1 while this member leads.
    pub(crate) leading: Gauge,
}

impl Metrics {
    /// Registers the metrics under `kybern_store_`.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            fsync: Histogram::new(exponential_buckets(0.000_05, 2.0, 16)),
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            proposals: Counter::default(),
            forwards: Counter::default(),
            barriers: Counter::default(),
            term: Gauge::default(),
            applied: Gauge::default(),
            revision: Gauge::default(),
            leading: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("kybern_store");
        registry.register("fsync_seconds", "Time of synced writes", metrics.fsync.clone());
        registry.register("batch_transactions", "Transactions per proposed log entry", metrics.batch.clone());
        registry.register("proposals", "Transactions proposed by callers of this member", metrics.proposals.clone());
        registry.register("forwards", "Groups forwarded to the leader", metrics.forwards.clone());
        registry.register("read_barriers", "Rounds of the read barrier", metrics.barriers.clone());
        registry.register("term", "Raft term", metrics.term.clone());
        registry.register("applied_index", "Index of the last applied log entry", metrics.applied.clone());
        registry.register("revision", "Revision of the applied state", metrics.revision.clone());
        registry.register("leading", "1 while this member leads", metrics.leading.clone());
        metrics
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.fsync.observe(took.as_secs_f64());
    }

    pub(crate) fn proposed(&self, transactions: usize) {
        self.batch.observe(transactions as f64);
    }

    pub(crate) fn proposal(&self) {
        self.proposals.inc();
    }

    pub(crate) fn forwarded(&self) {
        self.forwards.inc();
    }

    pub(crate) fn barrier(&self) {
        self.barriers.inc();
    }
}
