//! The database on disk: column families, key layouts, row encodings.
//!
//! | family | key | value |
//! |---|---|---|
//! | default | the names in [`meta`] | small records |
//! | log | index, big-endian | term, payload |
//! | state | generation (4 bytes, big-endian), key | a [`KeyValue`] |
//! | events | revision, big-endian | the revision's changed keys with what they were before |
//!
//! An installed snapshot is written under the next generation and becomes visible by one record, so
//! a crash in the middle leaves the old state whole. An event's new value is not stored: it is the
//! previous value of the key's next event, or the key's value in the state.

use crate::model::{Event, KeyValue, Revision};
use crate::types::{Entry, LogId, Membership, log_id};
use bytes::Bytes;
use openraft::EntryPayload;
use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Options};
use rocksdb::{LogLevel, WriteBufferManager};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// Version of all encodings below, kept in the database. A database of a newer version is not opened.
pub(crate) const FORMAT: u32 = 1;

/// A column family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Meta,
    Log,
    State,
    Events,
}

impl Family {
    pub(crate) const ALL: [Family; 4] = [Family::Meta, Family::Log, Family::State, Family::Events];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::Meta => "default",
            Family::Log => "log",
            Family::State => "state",
            Family::Events => "events",
        }
    }
}

/// Keys of the default family.
pub(crate) mod meta {
    /// [`super::Identity`].
    pub(crate) const IDENTITY: &[u8] = b"identity";
    /// The last vote.
    pub(crate) const VOTE: &[u8] = b"vote";
    /// The last purged log id.
    pub(crate) const PURGED: &[u8] = b"purged";
    /// [`super::Applied`].
    pub(crate) const APPLIED: &[u8] = b"applied";
}

/// Whose data this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) format: u32,
    /// The cluster's id.
    pub(crate) cluster: String,
    /// The member's id.
    pub(crate) member: u64,
    /// Starts of this member, so that tickets of an earlier run mean nothing to a later one.
    pub(crate) runs: u32,
}

/// How far the state has come; written in one batch with the state's changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Applied {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: Membership,
    pub(crate) revision: Revision,
    /// Which rows of the state family count.
    pub(crate) generation: u32,
}

/// A row that cannot be read back.
#[derive(Debug, thiserror::Error)]
#[error("damaged {0} row")]
pub(crate) struct Damaged(pub(crate) &'static str);

/// Rows wait in memory up to this size, of all families together, before they are written as tables. Under
/// load flushes and compactions cost as much as everything else the store does, and the less the larger
/// this is; an idle store has next to nothing in it.
const WRITE_BUFFERS: usize = 16 << 20;

/// Opens or creates the database with a small memory profile.
///
/// Recovery refuses a write-ahead log that is damaged anywhere but at its torn end: a silently shortened
/// log would take back what this member has voted for or acknowledged.
pub(crate) fn open(path: &Path) -> Result<DB, rocksdb::Error> {
    let cache = Cache::new_lru_cache(4 << 20);
    let mut db = Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    let buffers = WriteBufferManager::new_write_buffer_manager(WRITE_BUFFERS, false);
    db.set_write_buffer_manager(&buffers);
    // One thread writes.
    db.set_allow_concurrent_memtable_write(false);
    db.set_max_background_jobs(2);
    db.set_max_open_files(64);
    db.set_max_file_opening_threads(1);
    db.set_max_total_wal_size(3 * WRITE_BUFFERS as u64);
    db.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    db.set_recycle_log_file_num(0);
    db.set_keep_log_file_num(2);
    db.set_max_log_file_size(1 << 20);
    db.set_log_level(LogLevel::Warn);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    let families = Family::ALL.map(|family| ColumnFamilyDescriptor::new(family.name(), family_options(&cache)));
    DB::open_cf_descriptors(&db, path, families)
}

fn family_options(cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(8 << 10);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut family = Options::default();
    family.set_write_buffer_size(WRITE_BUFFERS / 4);
    family.set_max_write_buffer_number(2);
    family.set_arena_block_size(64 << 10);
    family.set_target_file_size_base(8 << 20);
    family.set_max_bytes_for_level_base(64 << 20);
    family.set_level_zero_file_num_compaction_trigger(8);
    // What is young is soon written again.
    let (young, old) = (DBCompressionType::None, DBCompressionType::Lz4);
    family.set_compression_per_level(&[young, young, old, old, old, old, old]);
    family.set_block_based_table_factory(&table);
    family
}

/// Encodes a small record. Writing to memory does not fail for types without maps of unknown length.
pub(crate) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    postcard::to_stdvec(record).unwrap_or_default()
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(row: &'a [u8], what: &'static str) -> Result<T, Damaged> {
    postcard::from_bytes(row).map_err(|_| Damaged(what))
}

pub(crate) fn state_key(generation: u32, key: &[u8]) -> Bytes {
    [&generation.to_be_bytes(), key].concat().into()
}

/// The numbers of a [`KeyValue`]; the value's bytes follow them.
#[derive(Serialize, Deserialize)]
struct ValueHeader {
    create_revision: Revision,
    mod_revision: Revision,
    version: u64,
    lease: i64,
    stamp: Option<u32>,
    ttl: u64,
}

pub(crate) fn encode_value(kv: &KeyValue) -> Bytes {
    let header = ValueHeader {
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
        stamp: kv.stamp,
        ttl: kv.ttl,
    };
    let mut row = Vec::with_capacity(kv.value.len() + 32);
    row = postcard::to_extend(&header, row).unwrap_or_default();
    row.extend_from_slice(&kv.value);
    row.into()
}

/// Decodes a value into allocations of its own.
pub(crate) fn decode_value(key: &[u8], row: &[u8]) -> Result<KeyValue, Damaged> {
    let (header, value) = postcard::take_from_bytes::<ValueHeader>(row).map_err(|_| Damaged("state"))?;
    Ok(KeyValue {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        create_revision: header.create_revision,
        mod_revision: header.mod_revision,
        version: header.version,
        lease: header.lease,
        stamp: header.stamp,
        ttl: header.ttl,
    })
}

/// One changed key of an event row: the key, and its value row before.
#[derive(Serialize, Deserialize)]
struct Change {
    key: Bytes,
    previous: Option<Bytes>,
}

pub(crate) fn encode_events(events: &[Event]) -> Bytes {
    let changes = events
        .iter()
        .map(|event| Change { key: event.key.clone(), previous: event.previous.as_ref().map(encode_value) });
    encode(&changes.collect::<Vec<_>>()).into()
}

/// A key and what it was before.
pub(crate) type Changed = (Bytes, Option<Arc<KeyValue>>);

/// The changed keys of a revision with what they were before.
pub(crate) fn decode_events(row: &[u8]) -> Result<Vec<Changed>, Damaged> {
    decode::<Vec<Change>>(row, "event")?
        .into_iter()
        .map(|change| {
            let previous = change.previous.map(|row| decode_value(&change.key, &row).map(Arc::new)).transpose()?;
            Ok((change.key, previous))
        })
        .collect()
}

const BLANK: u8 = 0;
const BATCH: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    let (kind, payload) = match &entry.payload {
        EntryPayload::Blank => (BLANK, Bytes::new()),
        EntryPayload::Normal(batch) => (BATCH, batch.0.clone()),
        EntryPayload::Membership(membership) => (MEMBERSHIP, encode(membership).into()),
    };
    let mut row = Vec::with_capacity(payload.len() + 9);
    row.extend_from_slice(&entry.log_id.leader_id.term.to_be_bytes());
    row.push(kind);
    row.extend_from_slice(&payload);
    row.into()
}

pub(crate) fn decode_entry(index: u64, row: &[u8]) -> Result<Entry, Damaged> {
    let (term, rest) = row.split_first_chunk::<8>().ok_or(Damaged("log"))?;
    let (kind, payload) = rest.split_first().ok_or(Damaged("log"))?;
    let payload = match *kind {
        BLANK => EntryPayload::Blank,
        BATCH => EntryPayload::Normal(crate::batch::Batch(Bytes::copy_from_slice(payload))),
        MEMBERSHIP => EntryPayload::Membership(decode(payload, "log")?),
        _ => return Err(Damaged("log")),
    };
    Ok(Entry { log_id: log_id(u64::from_be_bytes(*term), index), payload })
}

/// The index or revision a key of the log or events family stands for.
pub(crate) fn number(key: &[u8]) -> Result<u64, Damaged> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| Damaged("key"))
}
