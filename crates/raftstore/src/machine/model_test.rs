//! Apply against a model that could not be simpler, over random transactions.

use super::apply::apply;
use super::state::State;
use crate::model::{Guard, Op, Txn, TxnOutcome};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Key to (value, created, modified, version).
type Model = BTreeMap<String, (String, u64, u64, u64)>;

fn holds(model: &Model, guard: &Guard) -> bool {
    let found = model.get(std::str::from_utf8(guard.key()).unwrap());
    match guard {
        Guard::Absent(_) => found.is_none(),
        Guard::Present(_) => found.is_some(),
        Guard::Revision(_, revision) => found.is_some_and(|kv| kv.2 == *revision),
        Guard::Below(_, delta, max) => {
            let count = found.map_or(Ok(0), |kv| kv.0.parse::<i64>());
            count.is_ok_and(|n| n + delta <= *max)
        }
    }
}

/// The next model and whether anything changed; None when the transaction fails.
fn step(model: &Model, txn: &Txn, next: u64) -> Option<(Model, bool)> {
    if !txn.guards.iter().all(|guard| holds(model, guard)) {
        return None;
    }
    let mut model = model.clone();
    let mut changed = false;
    for op in &txn.ops {
        let (key, value) = match op {
            Op::Delete(key) => {
                changed |= model.remove(std::str::from_utf8(key).unwrap()).is_some();
                continue;
            }
            Op::Put { key, value, .. } => (key, String::from_utf8(value.to_vec()).unwrap()),
            Op::Add { key, delta, max } => {
                let old = model.get(std::str::from_utf8(key).unwrap());
                let sum = old.map_or(Ok(0), |kv| kv.0.parse::<i64>()).ok()? + delta;
                if sum > *max {
                    return None;
                }
                if old.is_some_and(|kv| kv.0.parse() == Ok(sum.max(0))) {
                    continue;
                }
                (key, sum.max(0).to_string())
            }
        };
        let key = String::from_utf8(key.to_vec()).unwrap();
        let (created, version) = model.get(&key).map_or((next, 0), |kv| (kv.1, kv.3));
        model.insert(key, (value, created, next, version + 1));
        changed = true;
    }
    Some((model, changed))
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "a/b", "b", "n"]).prop_map(Bytes::from)
}

fn guard() -> impl Strategy<Value = Guard> {
    prop_oneof![
        key().prop_map(Guard::Absent),
        key().prop_map(Guard::Present),
        (key(), 1u64..12).prop_map(|(key, revision)| Guard::Revision(key, revision)),
        (key(), -3i64..4, 0i64..6).prop_map(|(key, delta, max)| Guard::Below(key, delta, max)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let put = (key(), "[0-9x]{1,2}").prop_map(|(key, value)| Op::Put {
        key,
        value: value.into(),
        stamp: None,
        lease: 0,
        ttl: None,
    });
    let add = (key(), -3i64..4, 0i64..9).prop_map(|(key, delta, max)| Op::Add { key, delta, max });
    prop_oneof![3 => put, 2 => key().prop_map(Op::Delete), 2 => add]
}

fn txn() -> impl Strategy<Value = Txn> {
    (prop::collection::vec(guard(), 0..2), prop::collection::vec(op(), 0..4)).prop_map(|(guards, ops)| Txn {
        guards,
        ops,
        term: 0,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn apply_agrees_with_the_model(txns in prop::collection::vec(txn(), 1..30)) {
        let mut state = State::default();
        let mut model = Model::new();
        for txn in &txns {
            let before = state.clone();
            let (outcome, commit) = apply(&mut state, txn, 1);
            match step(&model, txn, before.revision + 1) {
                None => {
                    prop_assert!(
                        matches!(outcome, Ok(TxnOutcome::GuardFailed { .. })) && commit.is_none(), "{:?}", outcome
                    );
                    prop_assert_eq!(state.checksum(), before.checksum());
                }
                Some((next, changed)) => {
                    model = next;
                    prop_assert_eq!(state.revision, before.revision + u64::from(changed));
                    prop_assert_eq!(commit.is_some(), changed);
                    let found: Model = state.map.values().map(|kv| {
                        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                        (text(&kv.key), (text(&kv.value), kv.create_revision, kv.mod_revision, kv.version))
                    }).collect();
                    prop_assert_eq!(&found, &model);
                }
            }
            if let Some(commit) = commit {
                let mut undone = state.clone();
                undone.undo(&commit.events);
                prop_assert_eq!(undone.checksum(), before.checksum(), "events lead back");
            }
        }
    }
}
