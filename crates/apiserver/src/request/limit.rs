//! How many requests may be under way at once: overload is refused, not queued.

use crate::config::Config;
use kybern_api::attributes::UserInfo;
use kybern_api::error::Status;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Never refused: without nodes' heartbeats and the administrator an overloaded cluster gets worse.
const EXEMPT: [&str; 2] = ["system:nodes", "system:masters"];

/// Room for reads and for writes.
#[derive(Debug)]
pub struct Limits {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl Limits {
    /// As configured.
    pub fn new(config: &Config) -> Self {
        let room = |n| Arc::new(Semaphore::new(n));
        Self { reads: room(config.max_reads), writes: room(config.max_writes) }
    }

    /// Takes a place until the permit is dropped; None: the user needs none.
    ///
    /// # Errors
    /// 429, when all places are taken.
    pub fn admit(&self, user: &UserInfo, write: bool) -> Result<Option<OwnedSemaphorePermit>, Status> {
        if EXEMPT.iter().any(|group| user.is_in(group)) {
            return Ok(None);
        }
        let places = if write { &self.writes } else { &self.reads };
        let busy = |_| Status::too_many_requests("Too many requests, please try again later.", 1);
        places.clone().try_acquire_owned().map(Some).map_err(busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_is_the_last() {
        let config = Config { max_writes: 1, ..Config::new(([127, 0, 0, 1], 1).into()) };
        let (limits, jane) = (Limits::new(&config), UserInfo::default());
        let node = UserInfo { groups: vec!["system:nodes".into()], ..UserInfo::default() };
        let taken = limits.admit(&jane, true).expect("there is room");
        assert_eq!(limits.admit(&jane, true).expect_err("there is none").code, 429);
        assert!(limits.admit(&jane, false).is_ok() && limits.admit(&node, true).is_ok());
        drop(taken);
        assert!(limits.admit(&jane, true).is_ok());
    }
}
