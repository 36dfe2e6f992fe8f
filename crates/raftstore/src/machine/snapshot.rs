//! A state as a stream of chunks, and back.

use super::state::State;
use crate::columns::{Damaged, decode_value, encode_value};
use crate::model::{KeyValue, Revision};
use bytes::{BufMut, Bytes, BytesMut};
use std::sync::Arc;

/// Size of a chunk; a larger value gets a chunk of its own.
const CHUNK: usize = 256 << 10;

/// The rows of a state, chunk by chunk, from a pointer copy: nothing waits for the transfer.
///
/// A row is: length of the key, length of the value row (4 bytes each, big-endian), key, value row.
pub(crate) fn chunks(state: State) -> impl Iterator<Item = Bytes> + Send {
    let mut after: Option<Bytes> = None;
    std::iter::from_fn(move || {
        let mut chunk = BytesMut::new();
        let rest = match &after {
            Some(key) => state.map.range::<_, [u8]>((std::ops::Bound::Excluded(&key[..]), std::ops::Bound::Unbounded)),
            None => state.map.range::<_, [u8]>(..),
        };
        let mut last = None;
        for (key, kv) in rest {
            put_row(&mut chunk, kv);
            last = Some(key.clone());
            if chunk.len() >= CHUNK {
                break;
            }
        }
        after = Some(last?);
        Some(chunk.freeze())
    })
}

fn put_row(chunk: &mut BytesMut, kv: &KeyValue) {
    let row = encode_value(kv);
    chunk.reserve(kv.key.len() + row.len() + 8);
    chunk.put_u32(kv.key.len() as u32);
    chunk.put_u32(row.len() as u32);
    chunk.put_slice(&kv.key);
    chunk.put_slice(&row);
}

/// Collects the chunks of a state.
pub(crate) struct Assembly(State);

impl Assembly {
    /// Begins the state of a revision.
    pub(crate) fn new(revision: Revision) -> Self {
        Self(State { revision, ..State::default() })
    }

    /// Adds the rows of a chunk.
    pub(crate) fn add(&mut self, chunk: &[u8]) -> Result<(), Damaged> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let (key, row, remainder) = split_row(rest).ok_or(Damaged("snapshot"))?;
            let kv = decode_value(key, row)?;
            self.0.map.insert(kv.key.clone(), Arc::new(kv));
            rest = remainder;
        }
        Ok(())
    }

    /// The whole state.
    pub(crate) fn finish(self) -> State {
        self.0
    }
}

fn split_row(rest: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (key_len, rest) = rest.split_first_chunk::<4>()?;
    let (row_len, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(u32::from_be_bytes(*key_len) as usize)?;
    let (row, rest) = rest.split_at_checked(u32::from_be_bytes(*row_len) as usize)?;
    Some((key, row, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::apply::apply;
    use crate::model::{Op, Txn};

    #[test]
    fn a_state_survives_its_chunks() {
        let mut state = State::default();
        for n in 0..500 {
            let value = Bytes::from(vec![b'x'; n * 7]);
            let op = Op::Put { key: format!("k{n}").into(), value, stamp: Some(0), lease: 0, ttl: Some(9) };
            apply(&mut state, &Txn { ops: vec![op], ..Txn::default() }, 1).0.unwrap();
        }
        let chunks: Vec<Bytes> = chunks(state.clone()).collect();
        assert!(chunks.len() > 2);
        let mut assembly = Assembly::new(state.revision);
        chunks.iter().for_each(|chunk| assembly.add(chunk).unwrap());
        let copy = assembly.finish();
        assert_eq!(copy.checksum(), state.checksum());
        assert!(copy.map == state.map);
    }

    #[test]
    fn a_torn_chunk_is_an_error() {
        let mut state = State::default();
        let op = Op::Put { key: "k".into(), value: "v".into(), stamp: None, lease: 0, ttl: None };
        apply(&mut state, &Txn { ops: vec![op], ..Txn::default() }, 1).0.unwrap();
        let chunk = chunks(state).next().unwrap();
        assert!(Assembly::new(1).add(&chunk[..chunk.len() - 1]).is_err());
        assert!(Assembly::new(1).add(&chunk[..3]).is_err());
    }
}
