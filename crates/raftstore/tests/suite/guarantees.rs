//! The guarantees of the store, the same on the memory model, one member and three members.
//!
//! A test's name begins with the number of its guarantee: K for the keys, W for watches. Revisions are
//! compared relative to the first, since members of a cluster are counted in the store too.

use crate::common::{World, delete, delete_op, events_until, guarded, next, ops, put, put_op, revision};
use bytes::Bytes;
use kybern_raftstore::Retention;
use kybern_raftstore::model::{Guard, Op, TxnOutcome, WatchItem, prefix_end};
use kybern_raftstore::store::Error;
use std::time::Duration;

/// Runs each guarantee on every kind of store.
macro_rules! guarantees {
    ($($(#[retention($retention:expr)])? $name:ident;)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::World::memory(super::retention(&[$($retention)?])).await).await;
            })*
        }
        mod one_member {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::World::members(1, super::retention(&[$($retention)?])).await).await;
            })*
        }
        mod three_members {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::World::members(3, super::retention(&[$($retention)?])).await).await;
            })*
        }
    };
}

fn retention(asked: &[Retention]) -> Retention {
    asked.first().copied().unwrap_or_default()
}

/// A window of about ten events.
fn short() -> Retention {
    Retention { bytes: 3_000, age: Duration::from_secs(300) }
}

guarantees! {
    k2_compare_and_swap_loses_no_update;
    k2_a_read_after_the_barrier_sees_what_was_acknowledged;
    k3_views_never_go_back;
    k4_revision_plus_one_per_write;
    k4_revision_is_written_at_the_stamp;
    k5_create_mod_revision_and_version;
    k6_count_and_pages_agree_at_one_revision;
    #[retention(super::short())] k7_compacted_readable_and_future_revisions;
    k8_ttl_is_never_early;
    k8_a_renewed_key_outlives_its_first_ttl;
    k2_guards_decide_and_report;
    k2_counters_are_exact_under_concurrency;
    k2_a_failed_bound_undoes_the_whole_transaction;
    k2_a_past_term_is_refused;
    too_large_is_refused;
    w1_w2_w3_events_are_ordered_unique_and_complete;
    w4_a_transaction_is_one_item;
    w5_a_watch_resumes_where_it_ended;
    w6_w12_progress_reaches_quiet_prefixes;
    w7_only_the_prefix;
    w8_w9_previous_values_and_creations;
    w10_nothing_before_the_start;
    w11_a_slow_watcher_is_told;
}

#[tokio::test]
async fn k4_the_first_write_of_an_empty_store_is_revision_2() {
    let world = World::members(1, Retention::default()).await;
    assert_eq!(world.first().view().revision(), 1);
    assert_eq!(put(world.first(), "a", "1").await, 2);
    let world = World::memory(Retention::default()).await;
    assert_eq!(put(world.first(), "a", "1").await, 2);
}

async fn k2_compare_and_swap_loses_no_update(world: World) {
    const CLIENTS: usize = 6;
    const ROUNDS: usize = 10;
    put(world.first(), "n", "0").await;
    let clients = (0..CLIENTS).map(|client| {
        let store = world.stores[client % world.stores.len()].clone();
        async move {
            for _ in 0..ROUNDS {
                loop {
                    store.read_barrier().await.unwrap();
                    let now = store.get(b"n").unwrap();
                    let n: usize = std::str::from_utf8(&now.value).unwrap().parse().unwrap();
                    let guard = Guard::Revision("n".into(), now.mod_revision);
                    let txn = guarded(vec![guard], vec![put_op("n", &(n + 1).to_string())]);
                    if matches!(store.txn(txn).await.unwrap(), TxnOutcome::Applied { .. }) {
                        break;
                    }
                }
            }
        }
    });
    futures::future::join_all(clients).await;
    world.last().read_barrier().await.unwrap();
    let now = world.last().get(b"n").unwrap();
    assert_eq!(now.value, (CLIENTS * ROUNDS).to_string());
    assert_eq!(now.version as usize, CLIENTS * ROUNDS + 1);
}

async fn k2_a_read_after_the_barrier_sees_what_was_acknowledged(world: World) {
    for n in 0..10 {
        let (writer, reader) = (&world.stores[n % world.stores.len()], &world.stores[(n + 1) % world.stores.len()]);
        let written = put(writer, "k", &n.to_string()).await;
        assert!(reader.read_barrier().await.unwrap() >= written);
        assert_eq!(reader.get(b"k").unwrap().value, n.to_string());
    }
}

async fn k3_views_never_go_back(world: World) {
    let store = world.last().clone();
    let writer = world.first().clone();
    let writing = tokio::spawn(async move {
        for n in 0..100 {
            put(&writer, "k", &n.to_string()).await;
        }
    });
    let mut last = (0, 0);
    while !writing.is_finished() {
        let view = store.view();
        let value = view.get(b"k").map_or(0, |kv| String::from_utf8(kv.value.to_vec()).unwrap().parse().unwrap());
        assert!(view.revision() >= last.0 && value >= last.1);
        last = (view.revision(), value);
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
}

async fn k4_revision_plus_one_per_write(world: World) {
    let store = world.last();
    let first = put(store, "a", "1").await;
    assert_eq!(put(store, "a", "1").await, first + 1, "an equal value is a write");
    assert_eq!(delete(store, "absent").await, first + 1, "deleting nothing is none");
    let refused = store.txn(guarded(vec![Guard::Absent("a".into())], vec![put_op("a", "2")])).await.unwrap();
    assert_eq!(revision(&refused), first + 1, "a refused transaction is none");
    let both = store.txn(ops(vec![put_op("b", "1"), delete_op("a")])).await.unwrap();
    assert_eq!(revision(&both), first + 2, "several changes are one");
    assert_eq!(revision(&store.txn(ops(vec![])).await.unwrap()), first + 2);
    assert_eq!(store.view().revision(), first + 2);
}

async fn k4_revision_is_written_at_the_stamp(world: World) {
    let value = Bytes::from_static(b"{\"rv\":\"\",\"x\":1}");
    let put = Op::Put { key: "k".into(), value: value.clone(), stamp: Some(7), lease: 0, ttl: None };
    let outcome = world.last().txn(ops(vec![put])).await.unwrap();
    let now = world.last().get(b"k").unwrap();
    assert_eq!(now.value, format!("{{\"rv\":\"{}\",\"x\":1}}", revision(&outcome)));
    assert_eq!(now.stamp, Some(7));
    let outside = Op::Put { key: "o".into(), value, stamp: Some(99), lease: 0, ttl: None };
    world.last().txn(ops(vec![outside])).await.unwrap();
    assert_eq!(world.last().get(b"o").unwrap().stamp, None);
}

async fn k5_create_mod_revision_and_version(world: World) {
    let store = world.last();
    let created = put(store, "k", "1").await;
    let changed = put(store, "k", "2").await;
    let now = store.get(b"k").unwrap();
    assert_eq!((now.create_revision, now.mod_revision, now.version), (created, changed, 2));
    delete(store, "k").await;
    assert_eq!(store.get(b"k"), None);
    let again = put(store, "k", "3").await;
    let now = store.get(b"k").unwrap();
    assert_eq!((now.create_revision, now.mod_revision, now.version), (again, again, 1));
}

async fn k6_count_and_pages_agree_at_one_revision(world: World) {
    let store = world.last();
    let mut at = 0;
    for n in 0..25 {
        at = put(store, &format!("/a/{n:02}"), "1").await;
    }
    put(store, "/b", "1").await;
    for n in 0..25 {
        delete(store, &format!("/a/{n:02}")).await;
    }
    let end = prefix_end(b"/a/");
    let mut start = b"/a/".to_vec();
    let mut keys = Vec::new();
    loop {
        let view = store.view_at(at).unwrap();
        assert_eq!((view.revision(), view.count(b"/a/", &end)), (at, 25));
        let (page, more) = view.range(&start, &end, 10);
        keys.extend(page.iter().map(|kv| kv.key.clone()));
        if !more {
            break;
        }
        start = [&keys.last().unwrap()[..], b"\0"].concat();
    }
    let expected: Vec<Bytes> = (0..25).map(|n| format!("/a/{n:02}").into()).collect();
    assert_eq!(keys, expected);
    assert_eq!(store.view().count(b"/a/", &end), 0);
}

async fn k7_compacted_readable_and_future_revisions(world: World) {
    let store = world.last();
    let first = put(store, "k", "0").await;
    for n in 1..40 {
        put(store, "k", &n.to_string()).await;
    }
    let now = store.view().revision();
    let oldest = store.oldest();
    assert!(oldest > first && oldest < now, "the window is short: {oldest} of {first} to {now}");
    for at in oldest - 1..=now {
        assert_eq!(store.view_at(at).unwrap().get(b"k").unwrap().mod_revision, at);
    }
    assert_eq!(store.view_at(oldest - 2).err(), Some(Error::Compacted(oldest - 1)));
    assert_eq!(store.view_at(now + 1).err(), Some(Error::Future(now)));
    assert_eq!(store.watch("k".into(), oldest - 1).err(), Some(Error::Compacted(oldest)));
    assert_eq!(store.watch("k".into(), now + 2).err(), Some(Error::Future(now)));
    let mut watch = store.watch("k".into(), oldest).unwrap();
    let events = events_until(&mut watch, now).await;
    assert_eq!(events.iter().map(|e| e.0).collect::<Vec<_>>(), (oldest..=now).collect::<Vec<_>>());
}

fn expiring(key: &'static str, seconds: u64) -> Op {
    Op::Put { key: key.into(), value: "v".into(), stamp: None, lease: 0, ttl: Some(seconds) }
}

async fn k8_ttl_is_never_early(world: World) {
    let store = world.last();
    let written = tokio::time::Instant::now();
    let at = revision(&store.txn(ops(vec![expiring("k", 1), put_op("stays", "1")])).await.unwrap());
    let mut watch = store.watch("k".into(), at + 1).unwrap();
    loop {
        if let WatchItem::Events(_, events) = next(&mut watch).await.unwrap() {
            assert!(events[0].current.is_none());
            break;
        }
    }
    assert!(written.elapsed() >= Duration::from_secs(1));
    assert!(store.get(b"k").is_none() && store.get(b"stays").is_some());
}

async fn k8_a_renewed_key_outlives_its_first_ttl(world: World) {
    let store = world.last();
    store.txn(ops(vec![expiring("k", 1)])).await.unwrap();
    let renewed = revision(&store.txn(ops(vec![expiring("k", 3_600), expiring("end", 2)])).await.unwrap());
    let mut watch = store.watch("end".into(), renewed + 1).unwrap();
    while !matches!(next(&mut watch).await.unwrap(), WatchItem::Events(..)) {}
    assert_eq!(store.get(b"k").unwrap().mod_revision, renewed);
}

async fn k2_guards_decide_and_report(world: World) {
    let store = world.last();
    let at = put(store, "k", "1").await;
    let cases = [
        (Guard::Absent("k".into()), false),
        (Guard::Absent("other".into()), true),
        (Guard::Present("k".into()), true),
        (Guard::Present("other".into()), false),
        (Guard::Revision("k".into(), at), true),
        (Guard::Revision("k".into(), at - 1), false),
        (Guard::Revision("other".into(), 0), false),
        (Guard::Below("count".into(), 3, 3), true),
        (Guard::Below("count".into(), 4, 3), false),
    ];
    for (guard, holds) in cases {
        let before = store.view().revision();
        let outcome = store.txn(guarded(vec![Guard::Present("k".into()), guard.clone()], vec![])).await.unwrap();
        match outcome {
            TxnOutcome::Applied { revision, .. } => assert!(holds && revision == before, "{guard:?}"),
            TxnOutcome::GuardFailed { index, current, revision } => {
                assert!(!holds && index == 1 && revision == before, "{guard:?}");
                assert_eq!(current, store.get(guard.key()));
            }
        }
    }
}

fn add(delta: i64, max: i64) -> Op {
    Op::Add { key: "count".into(), delta, max }
}

async fn k2_counters_are_exact_under_concurrency(world: World) {
    let takers = (0..12).map(|n| {
        let store = world.stores[n % world.stores.len()].clone();
        async move { matches!(store.txn(ops(vec![add(1, 7)])).await.unwrap(), TxnOutcome::Applied { .. }) }
    });
    let taken = futures::future::join_all(takers).await.into_iter().filter(|taken| *taken).count();
    assert_eq!(taken, 7);
    let store = world.last();
    store.read_barrier().await.unwrap();
    assert_eq!(store.get(b"count").unwrap().value, "7");
    store.txn(ops(vec![add(-100, i64::MAX)])).await.unwrap();
    assert_eq!(store.get(b"count").unwrap().value, "0", "never below 0");
}

async fn k2_a_failed_bound_undoes_the_whole_transaction(world: World) {
    let store = world.last();
    let before = put(store, "k", "1").await;
    let txn = guarded(vec![Guard::Present("k".into())], vec![put_op("k", "2"), put_op("new", "1"), add(2, 1)]);
    let outcome = store.txn(txn).await.unwrap();
    assert_eq!(outcome, TxnOutcome::GuardFailed { index: 3, current: None, revision: before });
    assert_eq!(store.get(b"k").unwrap().value, "1");
    assert_eq!(store.get(b"new"), None);
}

async fn k2_a_past_term_is_refused(world: World) {
    let store = world.last();
    let term = store.leadership().borrow().term;
    let mut txn = ops(vec![put_op("k", "1")]);
    txn.term = term;
    assert!(store.txn(txn.clone()).await.is_ok());
    if term > 1 {
        txn.term = term - 1;
        assert_eq!(store.txn(txn).await, Err(Error::StaleTerm));
    }
}

async fn too_large_is_refused(world: World) {
    let value = "x".repeat(kybern_raftstore::model::MAX_TXN_BYTES);
    assert!(matches!(world.last().txn(ops(vec![put_op("k", &value)])).await, Err(Error::TooLarge(_))));
    let fits = &value[..value.len() - 1];
    assert!(world.last().txn(ops(vec![put_op("k", fits)])).await.is_ok());
}

async fn w1_w2_w3_events_are_ordered_unique_and_complete(world: World) {
    let start = put(world.first(), "/k", "start").await;
    for store in &world.stores {
        store.wait_for(start, crate::common::PATIENCE).await.unwrap();
    }
    let mut watches: Vec<_> = world.stores.iter().map(|s| s.watch("/".into(), start + 1).unwrap()).collect();
    let writers = (0..6).map(|writer| {
        let store = world.stores[writer % world.stores.len()].clone();
        async move {
            for n in 0..20 {
                put(&store, &format!("/{writer}"), &n.to_string()).await;
            }
        }
    });
    futures::future::join_all(writers).await;
    let mut all = Vec::new();
    for watch in &mut watches {
        all.push(events_until(watch, start + 120).await);
    }
    let revisions: Vec<u64> = all[0].iter().map(|event| event.0).collect();
    assert_eq!(revisions, (start + 1..=start + 120).collect::<Vec<_>>());
    assert!(all.iter().all(|events| *events == all[0]), "members tell different stories");
}

async fn w4_a_transaction_is_one_item(world: World) {
    let store = world.last();
    let mut watch = store.watch("/".into(), 0).unwrap();
    let outcome = store.txn(ops(vec![put_op("/a", "1"), put_op("/b", "1"), put_op("x", "1")])).await.unwrap();
    loop {
        if let WatchItem::Events(at, events) = next(&mut watch).await.unwrap() {
            assert_eq!(at, revision(&outcome));
            assert_eq!(events.iter().map(|e| &e.key[..]).collect::<Vec<_>>(), [b"/a", b"/b"]);
            break;
        }
    }
}

async fn w5_a_watch_resumes_where_it_ended(world: World) {
    let store = world.last();
    let start = put(store, "k", "0").await;
    for n in 1..10 {
        put(store, "k", &n.to_string()).await;
    }
    let mut whole = store.watch("k".into(), start).unwrap();
    let whole = events_until(&mut whole, start + 9).await;
    let mut head = store.watch("k".into(), start).unwrap();
    let WatchItem::Events(seen, _) = next(&mut head).await.unwrap() else { panic!("an event comes first") };
    drop(head);
    let mut tail = store.watch("k".into(), seen + 1).unwrap();
    assert_eq!(events_until(&mut tail, start + 9).await, whole[1..]);
}

async fn w6_w12_progress_reaches_quiet_prefixes(world: World) {
    let store = world.last();
    let mut quiet = store.watch("/quiet/".into(), 0).unwrap();
    let at = put(store, "/busy/1", "1").await;
    assert!(events_until(&mut quiet, at).await.is_empty());
    let before_barrier = put(store, "/busy/2", "1").await;
    let barrier = store.read_barrier().await.unwrap();
    assert!(barrier >= before_barrier);
    assert!(events_until(&mut quiet, barrier).await.is_empty());
    let own = put(store, "/quiet/1", "1").await;
    assert_eq!(events_until(&mut quiet, own).await, [(own, "/quiet/1".to_owned(), "1".to_owned())]);
}

async fn w7_only_the_prefix(world: World) {
    let store = world.last();
    let prefixes = ["", "/a", "/a/", "/a/b", "/b/", "/c"];
    let mut watches: Vec<_> = prefixes.iter().map(|p| store.watch((*p).into(), 0).unwrap()).collect();
    let keys = ["/a", "/a/", "/a/1", "/a/b", "/a/bc", "/aa", "/b", "/b/1", "z"];
    let mut end = 0;
    for key in keys {
        end = put(store, key, "1").await;
    }
    for (prefix, watch) in prefixes.iter().zip(&mut watches) {
        let seen: Vec<String> = events_until(watch, end).await.into_iter().map(|event| event.1).collect();
        let expected: Vec<&str> = keys.into_iter().filter(|key| key.starts_with(prefix)).collect();
        assert_eq!(seen, expected, "prefix {prefix:?}");
    }
}

async fn w8_w9_previous_values_and_creations(world: World) {
    let store = world.last();
    let start = put(store, "k", "1").await;
    put(store, "k", "2").await;
    delete(store, "k").await;
    put(store, "k", "3").await;
    let mut watch = store.watch("k".into(), start).unwrap();
    let mut last = None;
    let mut shapes = Vec::new();
    while shapes.len() < 4 {
        if let WatchItem::Events(_, events) = next(&mut watch).await.unwrap() {
            assert_eq!(events[0].previous, last);
            last = events[0].current.clone();
            shapes.push((events[0].previous.is_some(), events[0].current.is_some()));
        }
    }
    assert_eq!(shapes, [(false, true), (true, true), (true, false), (false, true)]);
    assert!(last.is_some_and(|kv| kv.create_revision == kv.mod_revision), "a creation says so");
}

async fn w10_nothing_before_the_start(world: World) {
    let store = world.last();
    put(store, "k", "1").await;
    let second = put(store, "k", "2").await;
    let third = put(store, "k", "3").await;
    let mut watch = store.watch("k".into(), second).unwrap();
    assert_eq!(events_until(&mut watch, third).await.iter().map(|e| e.0).collect::<Vec<_>>(), [second, third]);
    let mut now = store.watch("k".into(), 0).unwrap();
    let fourth = put(store, "k", "4").await;
    assert_eq!(events_until(&mut now, fourth).await.iter().map(|e| e.0).collect::<Vec<_>>(), [fourth]);
}

async fn w11_a_slow_watcher_is_told(world: World) {
    let store = world.last();
    let mut slow = store.watch("".into(), 0).unwrap();
    let start = store.view().revision();
    let mut end = start;
    while end < start + 17_000 {
        let writes = (0..1_000).map(|n| store.txn(ops(vec![put_op(&n.to_string(), "1")])));
        let done = futures::future::join_all(writes).await;
        end = done.into_iter().map(|outcome| revision(&outcome.unwrap())).max().unwrap();
    }
    let mut last = start;
    let ended = loop {
        match next(&mut slow).await {
            Ok(WatchItem::Events(revision, _)) => {
                assert_eq!(revision, last + 1, "all events, or an end");
                last = revision;
            }
            Ok(WatchItem::Progress(_)) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(ended, Error::Lagged);
    let mut resumed = store.watch("".into(), last + 1).unwrap();
    assert_eq!(events_until(&mut resumed, end).await.len() as u64, end - last);
}

#[tokio::test(start_paused = true)]
async fn k7_events_leave_the_window_with_age() {
    let world = World::memory(Retention::default()).await;
    let store = world.first();
    let old = put(store, "k", "1").await;
    tokio::time::advance(Duration::from_secs(200)).await;
    let young = put(store, "k", "2").await;
    assert_eq!(store.oldest(), old);
    tokio::time::advance(Duration::from_secs(101)).await;
    assert_eq!(store.oldest(), young);
    assert_eq!(store.view_at(old).unwrap().get(b"k").unwrap().value, "1", "the state the window begins with");
    tokio::time::advance(Duration::from_secs(200)).await;
    assert_eq!(store.oldest(), young + 1);
    assert_eq!(store.watch("k".into(), young).err(), Some(Error::Compacted(young + 1)));
    assert_eq!(store.view_at(young).unwrap().revision(), young, "the current state is always readable");
}
