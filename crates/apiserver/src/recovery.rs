//! Before a server has caught up with its cluster it answers nothing but health checks: what lies on its
//! disk may be older than what it showed before it was stopped.

use crate::cache::Caches;
use crate::error::retry_later;
use kybern_api::error::Status;
use kybern_raftstore::store::{Error, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A request waits so long for the server to catch up; then the client had better ask another one.
const PATIENCE: Duration = Duration::from_secs(1);
/// A barrier that was refused is tried again after this time at the latest.
const RETRY: Duration = Duration::from_secs(1);

/// Has the server caught up since it was started? Once it has, that stays so: from then on every
/// consistent read asks for itself.
#[derive(Debug, Default)]
pub struct Recovery(watch::Sender<bool>);

impl Recovery {
    /// Has it?
    pub fn done(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for it, but not for long.
    ///
    /// # Errors
    /// 500 ServerTimeout.
    pub async fn wait(&self) -> Result<(), Status> {
        if self.done() {
            return Ok(());
        }
        let mut recovered = self.0.subscribe();
        match tokio::time::timeout(PATIENCE, recovered.wait_for(|done| *done)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(retry_later()),
        }
    }
}

/// Catches up: a first read barrier of the store, and the caches as far as that.
pub(crate) async fn run(recovery: Arc<Recovery>, store: Arc<dyn Store>, caches: Arc<Caches>) {
    let mut leadership = store.leadership();
    loop {
        leadership.borrow_and_update();
        match store.read_barrier().await {
            Ok(revision) => {
                caches.reached(revision).await;
                recovery.0.send_replace(true);
                tracing::info!(revision, "the server has caught up with its cluster");
                return;
            }
            Err(Error::Stopped) => return,
            Err(error) => tracing::debug!(%error, "not caught up yet"),
        }
        // Whoever leads now may answer.
        tokio::time::timeout(RETRY, leadership.changed()).await.ok();
    }
}
