//! openraft's own suite for log and state machine, and what a damaged directory does.

use crate::columns;
use crate::disk::Disk;
use crate::history::Retention;
use crate::log::Log;
use crate::machine::applier::Applier;
use crate::machine::load::load;
use crate::metrics::Metrics;
use crate::pending::Pending;
use crate::replica::Replica;
use crate::types::{Entry, Types, Vote, log_id};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Membership, RaftLogReader, StorageError};
use prometheus_client::registry::Registry;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

fn open(path: &Path) -> (Log, Applier) {
    let metrics = Metrics::new(&mut Registry::default());
    let disk = Arc::new(Disk::start(columns::open(path).unwrap(), metrics.clone()).unwrap());
    let loaded = load(&disk, usize::MAX).unwrap();
    let replica = Arc::new(Replica::new(loaded.state.clone(), &loaded.commits, Retention::default()));
    let log = Log::open(disk.clone()).unwrap();
    (log, Applier::new(disk, replica, Arc::new(Pending::new(1)), metrics, loaded))
}

struct Builder;

impl StoreBuilder<Types, Log, Applier, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Log, Applier), StorageError<Types>> {
        let dir = TempDir::new().unwrap();
        let (log, applier) = open(dir.path());
        Ok((dir, log, applier))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_storage_suite() {
    Suite::<Types, Log, Applier, Builder, TempDir>::test_all(Builder).await.unwrap();
}

fn blank(term: u64, index: u64) -> Entry {
    Entry { log_id: log_id(term, index), payload: EntryPayload::Blank }
}

fn vote(term: u64) -> Vote {
    Vote { leader_id: RaftLeaderId::new(term, 1), committed: true }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_reopen() {
    let dir = TempDir::new().unwrap();
    {
        let (mut log, mut applier) = open(dir.path());
        log.save_vote(&vote(2)).await.unwrap();
        log.blocking_append((0..10).map(|index| blank(2, index))).await.unwrap();
        log.truncate_after(Some(log_id(2, 7))).await.unwrap();
        log.blocking_append([blank(3, 8)]).await.unwrap();
        log.purge(log_id(2, 3)).await.unwrap();
        let membership = Membership::new_with_defaults(vec![[1].into()], []);
        let entry = Entry { log_id: log_id(2, 4), payload: EntryPayload::Membership(membership) };
        applier.apply(futures::stream::iter([Ok((entry, None))])).await.unwrap();
    }
    let (mut log, mut applier) = open(dir.path());
    assert_eq!(log.read_vote().await.unwrap(), Some(vote(2)));
    let ends = log.get_log_state().await.unwrap();
    assert_eq!((ends.last_purged_log_id, ends.last_log_id), (Some(log_id(2, 3)), Some(log_id(3, 8))));
    let kept: Vec<_> = log.try_get_log_entries(..).await.unwrap().iter().map(|entry| entry.log_id).collect();
    assert_eq!(kept, [log_id(2, 4), log_id(2, 5), log_id(2, 6), log_id(2, 7), log_id(3, 8)]);
    let (applied, membership) = applier.applied_state().await.unwrap();
    assert_eq!((applied, *membership.log_id()), (Some(log_id(2, 4)), Some(log_id(2, 4))));
}

/// The newest write-ahead log of a closed database.
fn newest_wal(dir: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|x| x == "log")).max().unwrap()
}

async fn with_ten_entries() -> TempDir {
    let dir = TempDir::new().unwrap();
    let (mut log, _applier) = open(dir.path());
    for index in 0..10 {
        log.blocking_append([blank(1, index)]).await.unwrap();
    }
    dir
}

#[tokio::test]
async fn a_torn_end_is_cut_off_and_the_rest_is_whole() {
    let dir = with_ten_entries().await;
    let wal = newest_wal(dir.path());
    let length = std::fs::metadata(&wal).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&wal).unwrap().set_len(length - 3).unwrap();
    let (mut log, _applier) = open(dir.path());
    let kept: Vec<u64> = log.try_get_log_entries(..).await.unwrap().iter().map(|e| e.log_id.index).collect();
    assert_eq!(kept, (0..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_flipped_bit_before_the_end_is_refused() {
    let dir = with_ten_entries().await;
    let wal = newest_wal(dir.path());
    let mut bytes = std::fs::read(&wal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&wal, bytes).unwrap();
    assert!(columns::open(dir.path()).is_err(), "acknowledged entries must not vanish silently");
}
