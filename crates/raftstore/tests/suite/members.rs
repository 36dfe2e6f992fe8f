//! What only real members can show: restarts, lost leaders, snapshots, membership, refusals at start.

use crate::common::{Cluster, Node, PATIENCE, Tls, config, events_until, free_port, next, ops, put, put_op};
use kybern_raftstore::model::{Op, TxnOutcome, WatchItem};
use kybern_raftstore::node::{LogLimits, RaftStore, StartError};
use kybern_raftstore::store::{Error, Store};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::Instant;

fn store(node: &Node) -> Arc<dyn Store> {
    node.store.clone()
}

/// All members have applied the same and hold the same.
async fn assert_equal(cluster: &Cluster) {
    let revision = cluster.nodes[0].store.read_barrier().await.unwrap();
    let mut sums = Vec::new();
    for node in &cluster.nodes {
        node.store.wait_for(revision, PATIENCE).await.unwrap();
        sums.push(node.store.checksum());
    }
    assert!(sums.iter().all(|sum| *sum == sums[0]), "K9: {sums:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k1_k4_k5_acknowledged_writes_survive_a_kill() {
    let mut cluster = Cluster::new(1).await;
    let before = {
        let only = store(&cluster.nodes[0]);
        for n in 0..50 {
            put(&only, &format!("k{n}"), "1").await;
        }
        put(&only, "k0", "2").await;
        (only.view().revision(), only.get(b"k0"), only.oldest())
    };
    let node = cluster.nodes.remove(0);
    let port = node.port;
    let dir = node.kill();
    cluster.restart(dir, port).await;
    cluster.nodes[0].store.recovered().await.unwrap();
    let only = store(&cluster.nodes[0]);
    assert_eq!((only.view().revision(), only.get(b"k0"), only.oldest()), before);
    assert_eq!(only.view().count(b"k", b"l"), 50);
    let mut replay = only.watch("k0".into(), 2).unwrap();
    let values: Vec<String> = events_until(&mut replay, before.0).await.into_iter().map(|event| event.2).collect();
    assert_eq!(values, ["1", "2"], "W5: the window is there again");
    assert_eq!(put(&only, "k0", "3").await, before.0 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k1_k9_k10_a_killed_leader_loses_nothing() {
    let mut cluster = Cluster::new(3).await;
    let leader = cluster.leader().await;
    let writers: Vec<_> = cluster
        .nodes
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != leader)
        .map(|(index, node)| {
            let store = store(node);
            tokio::spawn(async move {
                let mut acknowledged = BTreeMap::new();
                let mut unknown = Vec::new();
                let mut longest = Duration::ZERO;
                let begun = Instant::now();
                let mut n = 0;
                while begun.elapsed() < Duration::from_secs(6) {
                    let key = format!("{index}/{n}");
                    n += 1;
                    let asked = Instant::now();
                    match store.txn(ops(vec![put_op(&key, "1")])).await {
                        Ok(TxnOutcome::Applied { revision, .. }) => drop(acknowledged.insert(key, revision)),
                        Ok(refused) => panic!("{refused:?}"),
                        Err(Error::Unknown(_)) => unknown.push(key),
                        Err(Error::NoLeader(_)) => drop(acknowledged.insert(key, 0)),
                        Err(other) => panic!("{other}"),
                    }
                    longest = longest.max(asked.elapsed());
                }
                (acknowledged, unknown, longest)
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let killed = cluster.nodes.remove(leader);
    let port = killed.port;
    let dir = killed.kill();
    let mut claims = BTreeMap::new();
    for writer in writers {
        let (acknowledged, unknown, longest) = writer.await.unwrap();
        println!("{} answered, {} unknown, longest wait {longest:?}", acknowledged.len(), unknown.len());
        assert!(longest < Duration::from_secs(3), "writes resume within 3 s, not {longest:?}");
        claims.extend(acknowledged);
    }
    cluster.restart(dir, port).await;
    assert_equal(&cluster).await;
    for node in &cluster.nodes {
        for (key, revision) in &claims {
            let found = node.store.get(key.as_bytes()).map_or(0, |kv| kv.mod_revision);
            assert_eq!(found, *revision, "{key}: acknowledged at this revision, or certainly not applied");
        }
    }
}

/// Not a test of its own: the process that [`k1_what_a_killed_process_acknowledged_is_there`] kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by another test, as a process of its own"]
async fn writer_process() {
    let parent = std::env::var(CHILD_DIR).unwrap();
    let mut node_dir = TempDir::new_in(&parent).unwrap();
    // The parent reads it after this process was killed.
    node_dir.disable_cleanup(true);
    let node = Node::start(Arc::new(node_dir), config_of(Path::new(&parent))).await;
    node.store.init_cluster().await.unwrap();
    let only = store(&node);
    for n in 0.. {
        let revision = put(&only, &format!("k{n}"), "1").await;
        println!("ACK k{n} {revision}");
    }
}

const CHILD_DIR: &str = "KYBERN_TEST_CHILD_DIR";

fn config_of(dir: &Path) -> kybern_raftstore::node::Config {
    config(&dir.join("db"), Some(1), free_port(), &Tls::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k1_what_a_killed_process_acknowledged_is_there() {
    let dir = Arc::new(TempDir::new().unwrap());
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "members::writer_process", "--nocapture"])
        .env(CHILD_DIR, dir.path())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    while let Some(line) = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap() {
        let Some((_, rest)) = line.split_once("ACK ") else { continue };
        let (key, revision) = rest.split_once(' ').unwrap();
        acknowledged.push((key.to_owned(), revision.parse::<u64>().unwrap()));
        if acknowledged.len() == 200 {
            child.kill().await.unwrap();
        }
    }
    assert!(acknowledged.len() >= 200);
    let node = Node::start(dir.clone(), config_of(dir.path())).await;
    node.store.recovered().await.unwrap();
    for (key, revision) in acknowledged {
        assert_eq!(node.store.get(key.as_bytes()).map(|kv| kv.mod_revision), Some(revision), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k8_a_ttl_survives_the_leader_and_is_not_early() {
    let mut cluster = Cluster::new(3).await;
    let leader = cluster.leader().await;
    let written = Instant::now();
    let op = Op::Put { key: "k".into(), value: "v".into(), stamp: None, lease: 0, ttl: Some(3) };
    cluster.nodes[leader].store.txn(ops(vec![op])).await.unwrap();
    drop(cluster.nodes.remove(leader));
    let other = store(&cluster.nodes[0]);
    other.read_barrier().await.unwrap();
    let mut watch = other.watch("k".into(), other.get(b"k").unwrap().mod_revision + 1).unwrap();
    while !matches!(next(&mut watch).await.unwrap(), WatchItem::Events(..)) {}
    assert!(written.elapsed() >= Duration::from_secs(3), "early: {:?}", written.elapsed());
    assert!(other.get(b"k").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w1_w5_a_member_far_behind_gets_a_snapshot() {
    let limits = LogLimits { cut_every: 20, keep: 10 };
    let mut cluster = Cluster::with(3, |config| config.log = limits).await;
    let leader = cluster.leader().await;
    let behind = cluster.nodes.remove(if leader == 2 { 0 } else { 2 });
    let port = behind.port;
    let dir = behind.kill();
    let writer = store(&cluster.nodes[0]);
    for n in 0..800 {
        put(&writer, &format!("k{}", n % 50), &n.to_string()).await;
    }
    let at = cluster.restart(dir, port).await;
    assert_equal(&cluster).await;
    let caught_up = store(&cluster.nodes[at]);
    let mut watch = caught_up.watch("k".into(), 0).unwrap();
    let more = put(&writer, "k1", "after").await;
    assert_eq!(events_until(&mut watch, more).await, [(more, "k1".to_owned(), "after".to_owned())]);
    assert!(matches!(caught_up.watch("k".into(), 2), Err(Error::Compacted(_))), "no gap is ever replayed");
    // What was installed must also be on disk.
    let again = cluster.nodes.remove(at);
    let dir = again.kill();
    cluster.restart(dir, port).await;
    assert_equal(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_member_receives_a_snapshot_and_votes() {
    let mut cluster = Cluster::with(1, |config| config.log = LogLimits { cut_every: 10, keep: 1 }).await;
    let first = store(&cluster.nodes[0]);
    for n in 0..600 {
        put(&first, &format!("k{n}"), "1").await;
    }
    cluster.add(|_| {}).await;
    cluster.add(|_| {}).await;
    assert_equal(&cluster).await;
    let members = cluster.nodes[2].store.members();
    assert_eq!(members.iter().map(|m| (m.id, m.voter)).collect::<Vec<_>>(), [(1, true), (2, true), (3, true)]);
    assert!(members.iter().all(|m| m.member.meta.contains_key("api")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_are_never_used_twice_and_members_can_leave() {
    let mut cluster = Cluster::new(3).await;
    cluster.nodes[1].store.remove_member(3).await.unwrap();
    assert_eq!(cluster.nodes[0].store.allocate_id().await.unwrap(), 4);
    drop(cluster.nodes.remove(2));
    cluster.add(|_| {}).await;
    let ids: Vec<u64> = cluster.nodes[0].store.members().iter().map(|m| m.id).collect();
    assert_eq!(ids, [1, 2, 5]);
    assert_equal(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_in_order_hands_over() {
    let mut cluster = Cluster::new(3).await;
    let leader = cluster.leader().await;
    let leaving = cluster.nodes.remove(leader);
    let other = store(&cluster.nodes[0]);
    let stopped = Instant::now();
    leaving.store.shutdown().await;
    drop(leaving);
    put(&other, "k", "1").await;
    assert!(stopped.elapsed() < Duration::from_secs(1), "took {:?}", stopped.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_quorum_refuses_writes_and_consistent_reads() {
    let mut cluster = Cluster::new(3).await;
    let alone = store(&cluster.nodes[0]);
    put(&alone, "k", "1").await;
    cluster.nodes.truncate(1);
    let (write, read) = tokio::join!(alone.txn(ops(vec![put_op("k", "2")])), alone.read_barrier());
    assert!(matches!(write, Err(Error::NoLeader(_) | Error::Unknown(_))), "{write:?}");
    assert!(matches!(read, Err(Error::NoLeader(_))), "{read:?}");
    assert_eq!(alone.get(b"k").unwrap().value, "1");
    assert!(!alone.leadership().borrow().leading);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_from_nothing_start_quickly() {
    let begun = Instant::now();
    let cluster = Cluster::new(3).await;
    println!("three members ready after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_and_empty_directories_are_refused() {
    let tls = Tls::new();
    let dir = Arc::new(TempDir::new().unwrap());
    let refuse = |config| async move { RaftStore::start(config, &mut Default::default()).await.err() };
    let nobody = refuse(config(dir.path(), None, free_port(), &tls)).await;
    assert!(matches!(nobody, Some(StartError::Nobody(_))), "{nobody:?}");
    drop(Node::start(dir.clone(), config(dir.path(), Some(1), free_port(), &tls)).await);
    assert_eq!(RaftStore::identity(dir.path()).unwrap(), Some(("test-cluster".to_owned(), 1)));
    let mut other_cluster = config(dir.path(), Some(1), free_port(), &tls);
    other_cluster.cluster = Some("other".to_owned());
    assert!(matches!(refuse(other_cluster).await, Some(StartError::Foreign { .. })));
    let other_member = config(dir.path(), Some(2), free_port(), &tls);
    assert!(matches!(refuse(other_member).await, Some(StartError::Foreign { .. })));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = config(dir.path(), None, taken.local_addr().unwrap().port(), &tls);
    assert!(matches!(refuse(busy).await, Some(StartError::Listen { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_ca_or_cluster_is_refused() {
    let mut cluster = Cluster::new(1).await;
    let first = [format!("127.0.0.1:{}", cluster.nodes[0].port)];
    for (tls, name) in [(Tls::new(), "test-cluster"), (cluster.tls.clone(), "other-cluster")] {
        let dir = Arc::new(TempDir::new().unwrap());
        let mut stranger = config(dir.path(), Some(2), free_port(), &tls);
        stranger.cluster = Some(name.to_owned());
        let stranger = Node::start(dir, stranger).await;
        let joined = tokio::time::timeout(Duration::from_secs(1), stranger.store.join(&first)).await;
        assert!(!matches!(joined, Ok(Ok(()))));
        drop(stranger);
    }
    assert_eq!(cluster.nodes.remove(0).store.members().len(), 1);
}

/// Whoever asked before the member joined learns the leader's id before its address; that must not let
/// the barrier sleep until its deadline (5 s).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_asked_before_the_member_joined_passes_when_it_has() {
    let cluster = Cluster::new(1).await;
    let id = cluster.nodes[0].store.allocate_id().await.unwrap();
    let dir = Arc::new(TempDir::new().unwrap());
    let joining = Node::start(dir.clone(), config(dir.path(), Some(id), free_port(), &cluster.tls)).await;
    let early = tokio::spawn({
        let store = joining.store.clone();
        async move { store.recovered().await }
    });
    tokio::task::yield_now().await;
    joining.store.join(&[format!("127.0.0.1:{}", cluster.nodes[0].port)]).await.unwrap();
    let passed = tokio::time::timeout(Duration::from_secs(4), early).await;
    assert!(matches!(passed, Ok(Ok(Ok(())))), "{passed:?}");
}
