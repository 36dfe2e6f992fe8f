//! Figures on demand: `cargo test --release -p kybern-raftstore --test suite figures -- --ignored --nocapture`.

use crate::common::{Cluster, ops, put_op};
use kybern_raftstore::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const VALUE: usize = 1_024;

/// Writes per second of `clients` that each write one value after the other, and the median latency.
async fn writes(store: Arc<dyn Store>, clients: usize, span: Duration) -> (f64, Duration) {
    let value = "x".repeat(VALUE);
    let begun = Instant::now();
    let clients = (0..clients).map(|client| {
        let (store, value) = (store.clone(), value.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            while begun.elapsed() < span {
                let asked = Instant::now();
                store.txn(ops(vec![put_op(&format!("{client}/{}", times.len() % 100), &value)])).await.unwrap();
                times.push(asked.elapsed());
            }
            times
        })
    });
    let mut times = Vec::new();
    for client in futures::future::join_all(clients).await {
        times.extend(client.unwrap());
    }
    times.sort_unstable();
    (times.len() as f64 / begun.elapsed().as_secs_f64(), times[times.len() / 2])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run on demand, in the release profile"]
async fn write_rates_and_barriers() {
    let mut cluster = Cluster::new(3).await;
    let leader = cluster.leader().await;
    let span = Duration::from_secs(3);
    for (name, index) in [("leader", leader), ("follower", (leader + 1) % 3)] {
        let store: Arc<dyn Store> = cluster.nodes[index].store.clone();
        for clients in [1, 16, 64, 256] {
            let (rate, median) = writes(store.clone(), clients, span).await;
            println!("{name}: {clients} clients: {rate:.0} writes/s, median {median:?}");
        }
        let begun = Instant::now();
        for _ in 0..100 {
            store.read_barrier().await.unwrap();
        }
        println!("{name}: read barrier {:?}", begun.elapsed() / 100);
    }
    drop(cluster.nodes.remove((leader + 1) % 3));
    for node in &cluster.nodes {
        let (rate, median) = writes(node.store.clone(), 1, span).await;
        println!("one of three gone, member {}: 1 client: {rate:.0} writes/s, median {median:?}", node.store.id());
    }
}

/// Processor time of this process so far, in seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run on demand, in the release profile"]
async fn idle_members() {
    const SPAN: Duration = Duration::from_secs(10);
    let cluster = Cluster::new(3).await;
    let before = cpu();
    tokio::time::sleep(SPAN).await;
    let share = (cpu() - before) / SPAN.as_secs_f64() / cluster.nodes.len() as f64;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    println!("idle: {:.2} % of a core per member; three members in one process: {rss}", share * 100.0);
}
