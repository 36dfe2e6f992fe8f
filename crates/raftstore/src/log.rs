//! The Raft log and vote, on disk before they are acknowledged, the newest entries also in memory.

use crate::columns::{Damaged, Family, decode, decode_entry, encode, encode_entry, meta, number};
use crate::disk::{Disk, Row};
use crate::types::{Entry, LogId, Types, Vote};
use bytes::Bytes;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use rocksdb::{Direction, IteratorMode};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// Flushed entries kept in memory for replication and apply, in bytes.
const CACHE_BYTES: usize = 8 << 20;

/// A read for replication returns about this many bytes at most, and at least one entry.
const READ_BYTES: usize = 2 << 20;

/// The log; clones share it.
#[derive(Clone)]
pub(crate) struct Log {
    disk: Arc<Disk>,
    state: Arc<Mutex<State>>,
}

struct State {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The newest entries without a gap; everything not yet on disk is here.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    /// Entries up to here are on disk.
    flushed: u64,
}

impl Log {
    /// Reads the ends of the log and the vote.
    pub(crate) fn open(disk: Arc<Disk>) -> io::Result<Self> {
        let vote = read_meta(&disk, meta::VOTE)?;
        let purged: Option<LogId> = read_meta(&disk, meta::PURGED)?;
        let last = newest(&disk)?.or(purged);
        let flushed = last.map_or(0, |id| id.index);
        let state = State { vote, purged, last, cache: VecDeque::new(), cache_bytes: 0, flushed };
        Ok(Self { disk, state: Arc::new(Mutex::new(state)) })
    }

    /// Entries of a range of indexes, up to about `limit` bytes.
    fn read(&self, range: (u64, u64), limit: usize) -> io::Result<Vec<Entry>> {
        let (start, end) = range;
        // Entries only leave the cache when they are on disk, so what is not in this copy is there.
        let cached: Vec<Entry> = {
            let state = self.state.lock();
            let skip = state.cache.partition_point(|entry| entry.log_id.index < start);
            let mut budget = limit;
            let within = |entry: &&Entry| {
                let fits = budget > 0;
                budget = budget.saturating_sub(size(entry));
                fits && entry.log_id.index < end
            };
            state.cache.range(skip..).take_while(within).cloned().collect()
        };
        let first_cached = match cached.first() {
            Some(entry) => entry.log_id.index,
            None => end,
        };
        if first_cached <= start {
            return Ok(cached);
        }
        let (mut entries, complete) = self.read_disk((start, first_cached), limit)?;
        if complete {
            entries.extend(cached);
        }
        Ok(entries)
    }

    /// Entries on disk, and whether the limit left none out.
    fn read_disk(&self, (start, end): (u64, u64), limit: usize) -> io::Result<(Vec<Entry>, bool)> {
        let family = self.disk.family(Family::Log)?;
        let from = start.to_be_bytes();
        let mut entries = Vec::new();
        let mut bytes = 0;
        for row in self.disk.db().iterator_cf(family, IteratorMode::From(&from, Direction::Forward)) {
            let (key, value) = row.map_err(io::Error::other)?;
            let index = number(&key).map_err(io::Error::other)?;
            if index >= end {
                break;
            }
            if bytes >= limit {
                return Ok((entries, false));
            }
            bytes += value.len();
            entries.push(decode_entry(index, &value).map_err(io::Error::other)?);
        }
        Ok((entries, true))
    }
}

impl State {
    fn push(&mut self, entry: Entry) {
        self.last = Some(entry.log_id);
        self.cache_bytes += size(&entry);
        self.cache.push_back(entry);
    }

    fn evict(&mut self) {
        while self.cache_bytes > CACHE_BYTES && self.cache.front().is_some_and(|e| e.log_id.index <= self.flushed) {
            if let Some(entry) = self.cache.pop_front() {
                self.cache_bytes -= size(&entry);
            }
        }
    }

    fn forget(&mut self, gone: impl Fn(u64) -> bool) {
        self.cache.retain(|entry| !gone(entry.log_id.index));
        self.cache_bytes = self.cache.iter().map(size).sum();
    }
}

/// What an entry is charged in memory and in a read.
fn size(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        EntryPayload::Normal(batch) => batch.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    payload + 128
}

fn read_meta<T: serde::de::DeserializeOwned>(disk: &Disk, key: &'static [u8]) -> io::Result<Option<T>> {
    let row = disk.db().get(key).map_err(io::Error::other)?;
    row.map(|row| decode(&row, "meta")).transpose().map_err(io::Error::other)
}

fn newest(disk: &Disk) -> io::Result<Option<LogId>> {
    let family = disk.family(Family::Log)?;
    let Some(row) = disk.db().iterator_cf(family, IteratorMode::End).next() else { return Ok(None) };
    let (key, value) = row.map_err(io::Error::other)?;
    let entry = number(&key).and_then(|index| decode_entry(index, &value)).map_err(io::Error::other)?;
    Ok(Some(entry.log_id))
}

fn key(index: u64) -> Bytes {
    Bytes::copy_from_slice(&index.to_be_bytes())
}

fn meta_row<T: serde::Serialize>(name: &'static [u8], record: &T) -> Row {
    Row::Put(Family::Meta, Bytes::from_static(name), encode(record).into())
}

fn half_open(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(at) => *at,
        Bound::Excluded(at) => at + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(at) => at + 1,
        Bound::Excluded(at) => *at,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<Entry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.read(half_open(&range), usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.state.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read((start, end), READ_BYTES)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.state.lock();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.disk.sync(vec![meta_row(meta::VOTE, vote)]).await?;
        self.state.lock().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut rows = Vec::new();
        let mut last = 0;
        {
            let mut state = self.state.lock();
            for entry in entries {
                last = entry.log_id.index;
                rows.push(Row::Put(Family::Log, key(last), encode_entry(&entry)));
                state.push(entry);
            }
        }
        let state = self.state.clone();
        self.disk.write_synced(rows, move || {
            {
                let mut state = state.lock();
                state.flushed = state.flushed.max(last);
                state.evict();
            }
            callback.io_completed(Ok(()));
        });
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let first_gone = last.map_or(0, |id| id.index + 1);
        self.disk.sync(vec![Row::DeleteRange(Family::Log, key(first_gone), key(u64::MAX))]).await?;
        let mut state = self.state.lock();
        state.forget(|index| index >= first_gone);
        state.last = state.last.min(last.or(state.purged));
        state.flushed = state.flushed.min(first_gone.saturating_sub(1));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let first;
        {
            let mut state = self.state.lock();
            // From where the last purge ended: a tombstone from 0 would overlap every table of the log.
            first = state.purged.map_or(0, |id| id.index);
            state.purged = Some(upto);
            state.last = state.last.max(Some(upto));
            state.forget(|index| index <= upto.index);
            state.flushed = state.flushed.max(upto.index);
        }
        let gone = Row::DeleteRange(Family::Log, key(first), key(upto.index + 1));
        self.disk.sync(vec![meta_row(meta::PURGED, &upto), gone]).await
    }
}

impl From<Damaged> for io::Error {
    fn from(damaged: Damaged) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, damaged)
    }
}
