//! The state and its recent events, read back from disk at start.

use super::apply::Commit;
use super::state::{FIRST_REVISION, State};
use crate::columns::{Applied, Changed, Family, decode, decode_events, decode_value, meta, number, state_key};
use crate::disk::{Disk, Row};
use crate::model::{Event, KeyValue, Revision};
use bytes::Bytes;
use imbl::OrdMap;
use rocksdb::{Direction, IteratorMode};
use std::io;
use std::sync::Arc;

/// What was on disk.
pub(crate) struct Loaded {
    pub(crate) state: State,
    pub(crate) applied: Applied,
    /// Ends with the state's revision, without a gap; as much of it as the window may hold.
    pub(crate) commits: Vec<Commit>,
}

/// Loads the state of the generation that counts and removes what an unfinished install left behind.
pub(crate) fn load(disk: &Disk, window_bytes: usize) -> io::Result<Loaded> {
    let row = disk.db().get(meta::APPLIED).map_err(io::Error::other)?;
    let mut applied: Applied = row.map(|row| decode(&row, "meta")).transpose()?.unwrap_or_default();
    applied.revision = applied.revision.max(FIRST_REVISION);
    let generation = applied.generation;
    if has_unfinished(disk, generation)? {
        let (from, to) = (state_key(generation + 1, b""), state_key(u32::MAX, b""));
        disk.write_later(vec![Row::DeleteRange(Family::State, from, to)]);
    }
    let state = State { revision: applied.revision, map: load_map(disk, generation)? };
    let commits = load_commits(disk, &state, window_bytes)?;
    Ok(Loaded { state, applied, commits })
}

/// Did an install end before its generation counted?
fn has_unfinished(disk: &Disk, generation: u32) -> io::Result<bool> {
    let from = state_key(generation + 1, b"");
    let mut rows = disk.db().iterator_cf(disk.family(Family::State)?, IteratorMode::From(&from, Direction::Forward));
    rows.next().transpose().map(|row| row.is_some()).map_err(io::Error::other)
}

fn load_map(disk: &Disk, generation: u32) -> io::Result<OrdMap<Bytes, Arc<KeyValue>>> {
    let family = disk.family(Family::State)?;
    let from = state_key(generation, b"");
    let mut map = OrdMap::new();
    for row in disk.db().iterator_cf(family, IteratorMode::From(&from, Direction::Forward)) {
        let (key, value) = row.map_err(io::Error::other)?;
        let Some(key) = key.strip_prefix(&generation.to_be_bytes()[..]) else { break };
        let kv = decode_value(key, &value)?;
        map.insert(kv.key.clone(), Arc::new(kv));
    }
    Ok(map)
}

/// Walks back from the state: an event's new value is what the state holds before the event is undone.
fn load_commits(disk: &Disk, state: &State, window_bytes: usize) -> io::Result<Vec<Commit>> {
    let family = disk.family(Family::Events)?;
    let mut state = state.clone();
    let mut commits = Vec::new();
    let mut bytes = 0;
    for row in disk.db().iterator_cf(family, IteratorMode::End) {
        let (key, value) = row.map_err(io::Error::other)?;
        bytes += value.len();
        if number(&key)? != state.revision || bytes > window_bytes {
            break;
        }
        let events = undo(&mut state, decode_events(&value)?);
        commits.push(Commit { revision: state.revision + 1, events });
    }
    commits.reverse();
    Ok(commits)
}

/// Undoes one revision and returns its events.
fn undo(state: &mut State, changes: Vec<Changed>) -> Arc<[Event]> {
    let revision: Revision = state.revision;
    let events: Vec<Event> = changes
        .into_iter()
        .map(|(key, previous)| {
            let current = state.map.get(&key).map(|kv| KeyValue::clone(kv));
            state.set(&key, previous.clone());
            Event { key, current, previous: previous.map(|kv| KeyValue::clone(&kv)), revision }
        })
        .collect();
    state.revision -= 1;
    events.into()
}
