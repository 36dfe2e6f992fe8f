//! What one member has applied: the current view, the event fan-out and the keys that expire.
//!
//! One writer (the apply task) publishes; everybody else reads. Shared by the Raft node and the memory model.

use crate::expire::Deadlines;
use crate::history::Retention;
use crate::hub::Hub;
use crate::machine::apply::Commit;
use crate::machine::state::State;
use crate::model::Revision;
use crate::store::{Error, View, Watch};
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The applied state of one member.
pub(crate) struct Replica {
    view: ArcSwap<State>,
    hub: Arc<Hub>,
    revision: watch::Sender<Revision>,
    deadlines: Arc<Deadlines>,
}

impl Replica {
    /// A replica that begins with a state and the last commits that led to it.
    pub(crate) fn new(state: State, commits: &[Commit], retention: Retention) -> Self {
        let deadlines = Deadlines::default();
        deadlines.add_all(state.map.values().map(|kv| &**kv));
        let revision = watch::Sender::new(state.revision);
        let state = Arc::new(state);
        let hub = Hub::new(state.clone(), commits, retention);
        Self { view: ArcSwap::new(state), hub, revision, deadlines: Arc::new(deadlines) }
    }

    /// Shows a state and the commits that led to it: readers first, then watchers, then waiters.
    pub(crate) fn publish(&self, state: State, commits: &[Commit]) {
        let state = Arc::new(state);
        let revision = state.revision;
        self.view.store(state.clone());
        self.deadlines.add_all(commits.iter().flat_map(|c| c.events.iter()).filter_map(|e| e.current.as_ref()));
        self.hub.publish(state, commits);
        self.revision.send_if_modified(|seen| std::mem::replace(seen, revision) != revision);
    }

    /// Shows a state whose way there is unknown (an installed snapshot): every watch ends.
    pub(crate) fn reset(&self, state: State) {
        let state = Arc::new(state);
        self.deadlines.add_all(state.map.values().map(|kv| &**kv));
        self.view.store(state.clone());
        self.hub.reset(state.clone());
        self.revision.send_replace(state.revision);
    }

    /// Ends every watch.
    pub(crate) fn stop(&self) {
        self.hub.stop();
    }

    /// The current state.
    pub(crate) fn state(&self) -> Arc<State> {
        self.view.load_full()
    }

    /// The keys that expire.
    pub(crate) fn deadlines(&self) -> &Arc<Deadlines> {
        &self.deadlines
    }

    /// The state at an older revision.
    pub(crate) fn view_at(&self, revision: Revision) -> Result<Arc<dyn View>, Error> {
        let current = self.state();
        if current.revision == revision {
            return Ok(current);
        }
        Ok(self.hub.state_at(revision)?)
    }

    /// A watch of a prefix.
    pub(crate) fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, Error> {
        Ok(Box::new(self.hub.watch(prefix, from)?))
    }

    /// The oldest revision a watch may start from.
    pub(crate) fn oldest(&self) -> Revision {
        self.hub.oldest()
    }

    /// Lets idle watchers report the current revision, because somebody is about to rely on it.
    pub(crate) fn nudge(&self) {
        self.hub.nudge();
    }

    /// Waits until at least `revision` is applied.
    ///
    /// # Errors
    /// `Future` with the revision reached when the time is up.
    pub(crate) async fn wait_for(&self, revision: Revision, timeout: Duration) -> Result<(), Error> {
        let mut seen = self.revision.subscribe();
        let reached = tokio::time::timeout(timeout, seen.wait_for(|now| *now >= revision)).await;
        self.nudge();
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Future(self.state().revision)),
        }
    }
}
