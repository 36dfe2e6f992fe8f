//! Read barriers that strangers may cause: few, and shared by all who wait.

use crate::server::Inner;
use kybern_api::error::Status;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Between the beginnings of two such barriers.
const PAUSE: Duration = Duration::from_millis(100);

/// The last barrier of this kind: when it began, and what came of it.
#[derive(Debug, Default)]
pub struct Rounds(Mutex<Option<(Instant, Result<(), Status>)>>);

impl Rounds {
    /// Waits until the caches hold everything committed before the call. Whoever waits when a barrier
    /// begins is served by it, so a crowd takes one; the next begins [`PAUSE`] later at the earliest.
    ///
    /// # Errors
    /// As the barrier.
    pub async fn join(&self, server: &Inner) -> Result<(), Status> {
        let came = Instant::now();
        let mut last = self.0.lock().await;
        if let Some((began, done)) = last.as_ref() {
            if *began >= came {
                return done.clone();
            }
            tokio::time::sleep_until(*began + PAUSE).await;
        }
        let began = Instant::now();
        let done = server.barrier().await.map(drop);
        *last = Some((began, done.clone()));
        done
    }
}
