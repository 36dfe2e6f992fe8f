//! All keys at one revision, in a persistent map: a clone is a pointer copy.

use crate::model::{Event, KeyValue, Revision};
use crate::store::View;
use bytes::Bytes;
use imbl::OrdMap;
use std::ops::Bound;
use std::sync::Arc;

/// The revision of an empty store, as in etcd: the first write is revision 2.
pub(crate) const FIRST_REVISION: Revision = 1;

/// The state at one revision.
#[derive(Clone)]
pub(crate) struct State {
    /// Revision of the last modifying transaction.
    pub(crate) revision: Revision,
    /// Every key. Values are shared with events and answers.
    pub(crate) map: OrdMap<Bytes, Arc<KeyValue>>,
}

impl Default for State {
    fn default() -> Self {
        Self { revision: FIRST_REVISION, map: OrdMap::new() }
    }
}

impl State {
    /// Sets a key to what it is after an event, or to what it was before (None removes it).
    pub(crate) fn set(&mut self, key: &Bytes, value: Option<Arc<KeyValue>>) {
        match value {
            Some(kv) => {
                self.map.insert(kv.key.clone(), kv);
            }
            None => {
                self.map.remove(key);
            }
        }
    }

    /// Takes back the events of the newest revision.
    pub(crate) fn undo(&mut self, events: &[Event]) {
        for event in events {
            self.set(&event.key, event.previous.clone().map(Arc::new));
        }
        self.revision -= 1;
    }

    fn iter<'a>(&'a self, start: &'a [u8], end: &'a [u8]) -> Box<dyn Iterator<Item = &'a Arc<KeyValue>> + 'a> {
        if !end.is_empty() && start >= end {
            return Box::new(std::iter::empty());
        }
        let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        Box::new(self.map.range::<_, [u8]>((Bound::Included(start), upper)).map(|(_, kv)| kv))
    }

    /// CRC-32 over every key, value and number, in key order: equal on all members at one revision.
    pub(crate) fn checksum(&self) -> u32 {
        let mut hash = crc32fast::Hasher::new();
        hash.update(&self.revision.to_be_bytes());
        for kv in self.map.values() {
            for number in [kv.key.len() as u64, kv.value.len() as u64, kv.create_revision, kv.mod_revision, kv.version]
            {
                hash.update(&number.to_be_bytes());
            }
            hash.update(&kv.key);
            hash.update(&kv.value);
        }
        hash.finalize()
    }
}

impl View for State {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.map.get(key).map(|kv| KeyValue::clone(kv))
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> (Vec<KeyValue>, bool) {
        let mut keys = self.iter(start, end);
        let most = if limit == 0 { usize::MAX } else { limit };
        let page = keys.by_ref().take(most).map(|kv| KeyValue::clone(kv)).collect();
        (page, keys.next().is_some())
    }

    fn count(&self, start: &[u8], end: &[u8]) -> usize {
        self.iter(start, end).count()
    }
}
