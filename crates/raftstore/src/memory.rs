//! The store without Raft and disk: the same machine, views and fan-out in one process's memory.
//! The reference for the suite, and what the API server's own tests run on.

use crate::expire;
use crate::history::Retention;
use crate::machine::apply::apply;
use crate::machine::state::State;
use crate::model::{KeyValue, MAX_TXN_BYTES, Revision, Txn, TxnOutcome};
use crate::replica::Replica;
use crate::store::{Error, Leadership, Store, View, Watch};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// The one member's id and term.
const ALONE: Leadership = Leadership { term: 1, leading: true, leader: Some(1) };

/// A store in memory. It forgets everything when dropped.
pub struct MemoryStore {
    replica: Replica,
    leadership: watch::Sender<Leadership>,
    /// Serialises transactions; the machine's state lives here, its published copy in the replica.
    writer: Mutex<State>,
    expiring: std::sync::Once,
    me: Weak<Self>,
}

impl MemoryStore {
    /// An empty store that keeps the usual history.
    #[expect(clippy::new_ret_no_self, reason = "callers hold the trait, as with a Raft node")]
    pub fn new() -> Arc<dyn Store> {
        Self::with_retention(Retention::default())
    }

    /// An empty store with a replay window of its own size.
    pub fn with_retention(retention: Retention) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            replica: Replica::new(State::default(), &[], retention),
            leadership: watch::Sender::new(ALONE),
            writer: Mutex::new(State::default()),
            expiring: std::sync::Once::new(),
            me: me.clone(),
        })
    }

    /// Ends every watch and refuses what comes after, as a server's shutdown does.
    pub fn stop(&self) {
        self.leadership.send_replace(Leadership::default());
        self.replica.stop();
    }

    fn stopped(&self) -> bool {
        !self.leadership.borrow().leading
    }

    fn expire(&self) {
        let (me, leadership) = (self.me.clone(), self.leadership.subscribe());
        let deadlines = self.replica.deadlines().clone();
        self.expiring.call_once(|| drop(tokio::spawn(expire::run(me, deadlines, leadership))));
    }
}

#[async_trait::async_trait]
impl Store for MemoryStore {
    fn view(&self) -> Arc<dyn View> {
        self.replica.state()
    }

    fn view_at(&self, revision: Revision) -> Result<Arc<dyn View>, Error> {
        self.replica.view_at(revision)
    }

    async fn read_barrier(&self) -> Result<Revision, Error> {
        if self.stopped() {
            return Err(Error::Stopped);
        }
        self.replica.nudge();
        Ok(self.replica.state().revision)
    }

    async fn wait_for(&self, revision: Revision, timeout: Duration) -> Result<(), Error> {
        self.replica.wait_for(revision, timeout).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        if self.stopped() {
            return Err(Error::Stopped);
        }
        if txn.size() > MAX_TXN_BYTES {
            return Err(Error::TooLarge(txn.size()));
        }
        let (outcome, commit) = {
            let mut state = self.writer.lock();
            let (outcome, commit) = apply(&mut state, &txn, ALONE.term);
            if let Some(commit) = &commit {
                self.replica.publish(state.clone(), std::slice::from_ref(commit));
            }
            (outcome, commit)
        };
        if commit.is_some_and(|c| c.events.iter().any(|e| e.current.as_ref().is_some_and(|kv| kv.ttl > 0))) {
            self.expire();
        }
        outcome
    }

    fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, Error> {
        self.replica.watch(prefix, from)
    }

    fn oldest(&self) -> Revision {
        self.replica.oldest()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.replica.state().get(key)
    }
}
