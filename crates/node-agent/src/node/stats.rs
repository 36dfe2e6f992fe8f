//! What the node and its pods use: from the runtime and the kernel, when somebody asks.
//!
//! Rates need two looks. The last look at each container is kept; a rate is taken against it when it is
//! old enough, and a container never seen before is rated over its whole life.

use crate::error::Result;
use crate::runtime::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID, Runtime};
use jiff::Timestamp;
use kybern_api::meta::time;
use kybern_api::seam::Clock;
use kybern_wire::cri as pb;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// A rate over less than this says little.
const LEAST_WINDOW_NANOS: i128 = 2_000_000_000;
/// The key of the node itself among the looks.
const NODE: &str = "";

/// One look at a counter of CPU time.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Timestamp,
    /// Nanoseconds of CPU time since the beginning.
    used: u64,
    /// Nanoseconds per second, as found at this look.
    rate: u64,
}

/// Takes statistics.
pub struct Stats {
    node: String,
    runtime: Arc<dyn Runtime>,
    clock: Arc<dyn Clock>,
    data_dir: PathBuf,
    looks: Mutex<HashMap<String, Look>>,
}

/// The rate at a look, and what to remember of it.
fn rate(before: Option<Look>, at: Timestamp, used: u64, began: Timestamp) -> Look {
    let over = |since: Timestamp, from: u64| {
        let window = at.duration_since(since).as_nanos().max(1);
        u64::try_from(i128::from(used.saturating_sub(from)) * 1_000_000_000 / window).unwrap_or(u64::MAX)
    };
    match before {
        // It began anew.
        Some(b) if used < b.used => Look { at, used, rate: over(began, 0) },
        Some(b) if at.duration_since(b.at).as_nanos() < LEAST_WINDOW_NANOS => b,
        Some(b) => Look { at, used, rate: over(b.at, b.used) },
        None => Look { at, used, rate: over(began, 0) },
    }
}

impl Stats {
    /// Of a node with this runtime.
    pub fn new(node: &str, runtime: Arc<dyn Runtime>, clock: Arc<dyn Clock>, data_dir: PathBuf) -> Self {
        Self { node: node.into(), runtime, clock, data_dir, looks: Mutex::default() }
    }

    /// The kubelet's `/stats/summary`.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn summary(&self) -> Result<Value> {
        let now = self.clock.now();
        let containers = self.runtime.containers(None).await?;
        let stats: HashMap<String, pb::ContainerStats> = self
            .runtime
            .container_stats()
            .await?
            .into_iter()
            .filter_map(|s| Some((s.attributes.as_ref()?.id.clone(), s)))
            .collect();
        let running = containers.iter().filter(|c| c.state() == pb::ContainerState::ContainerRunning);
        let mut pods: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
        for c in running {
            let Some(of_container) = stats.get(&c.id) else { continue };
            let label = |key: &str| c.labels.get(key).cloned().unwrap_or_default();
            let reference =
                json!({ "name": label(POD_NAME), "namespace": label(POD_NAMESPACE), "uid": label(POD_UID) });
            let made = self.container(&label(CONTAINER_NAME), c, of_container, now);
            pods.entry(label(POD_UID)).or_insert_with(|| (reference, Vec::new())).1.push(made);
        }
        self.looks.lock().retain(|id, _| id == NODE || stats.contains_key(id));
        let pods: Vec<Value> =
            pods.into_values().map(|(reference, containers)| pod(reference, containers, now)).collect();
        Ok(json!({ "node": self.whole_node(now), "pods": pods }))
    }

    fn container(&self, name: &str, c: &pb::Container, stats: &pb::ContainerStats, now: Timestamp) -> Value {
        let value = |v: &Option<pb::UInt64Value>| v.as_ref().map_or(0, |v| v.value);
        let began = Timestamp::from_nanosecond(i128::from(c.created_at)).unwrap_or(now);
        let used = stats.cpu.as_ref().map_or(0, |cpu| value(&cpu.usage_core_nano_seconds));
        let memory = stats.memory.as_ref();
        let disk = stats.writable_layer.as_ref();
        let stamp = time::time(now);
        json!({
            "name": name,
            "startTime": time::time(began),
            "cpu": { "time": stamp, "usageNanoCores": self.rate(&c.id, now, used, began), "usageCoreNanoSeconds": used },
            "memory": {
                "time": stamp,
                "usageBytes": memory.map_or(0, |m| value(&m.usage_bytes)),
                "workingSetBytes": memory.map_or(0, |m| value(&m.working_set_bytes)),
            },
            "rootfs": {
                "time": stamp,
                "usedBytes": disk.map_or(0, |d| value(&d.used_bytes)),
                "inodesUsed": disk.map_or(0, |d| value(&d.inodes_used)),
            },
        })
    }

    fn rate(&self, key: &str, now: Timestamp, used: u64, began: Timestamp) -> u64 {
        let mut looks = self.looks.lock();
        let look = rate(looks.get(key).copied(), now, used, began);
        looks.insert(key.to_owned(), look);
        look.rate
    }

    fn whole_node(&self, now: Timestamp) -> Value {
        let (used, up) = cpu_time(&std::fs::read_to_string("/proc/stat").unwrap_or_default());
        let began = now - jiff::SignedDuration::from_nanos(i64::try_from(up).unwrap_or(i64::MAX));
        let memory = Memory::read();
        let disk = super::capacity::Disk::of(&self.data_dir).unwrap_or_default();
        let stamp = time::time(now);
        json!({
            "nodeName": self.node,
            "cpu": { "time": stamp, "usageNanoCores": self.rate(NODE, now, used, began), "usageCoreNanoSeconds": used },
            "memory": {
                "time": stamp, "availableBytes": memory.available, "usageBytes": memory.total - memory.free,
                "workingSetBytes": memory.total - memory.available,
            },
            "fs": {
                "time": stamp, "availableBytes": disk.free, "capacityBytes": disk.size,
                "usedBytes": disk.size - disk.free, "inodesFree": disk.free_inodes, "inodes": disk.inodes,
            },
        })
    }
}

/// A pod's part of the summary: its containers, and their sum.
fn pod(reference: Value, containers: Vec<Value>, now: Timestamp) -> Value {
    let sum = |pointer: &str| containers.iter().filter_map(|c| c.pointer(pointer)?.as_u64()).sum::<u64>();
    let stamp = time::time(now);
    let (cpu, used) = (sum("/cpu/usageNanoCores"), sum("/cpu/usageCoreNanoSeconds"));
    let (usage, working) = (sum("/memory/usageBytes"), sum("/memory/workingSetBytes"));
    let disk = sum("/rootfs/usedBytes");
    json!({
        "podRef": reference, "containers": containers,
        "cpu": { "time": stamp, "usageNanoCores": cpu, "usageCoreNanoSeconds": used },
        "memory": { "time": stamp, "usageBytes": usage, "workingSetBytes": working },
        "ephemeral-storage": { "time": stamp, "usedBytes": disk },
    })
}

/// (busy nanoseconds of all CPUs together, nanoseconds since the boot) from /proc/stat.
fn cpu_time(stat: &str) -> (u64, u64) {
    /// The kernel counts in hundredths of a second.
    const TICK: u64 = 10_000_000;
    let line = stat.lines().find_map(|l| l.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|t| t.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are counted in user already.
    let all: u64 = ticks.iter().take(8).sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    let cpus = stat.lines().filter(|l| l.starts_with("cpu") && !l.starts_with("cpu ")).count().max(1) as u64;
    ((all - idle) * TICK, all * TICK / cpus)
}

/// The machine's memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total: i64,
    pub(super) free: i64,
    pub(super) available: i64,
}

impl Memory {
    pub(super) fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
    }
    fn parse(meminfo: &str) -> Self {
        let kib = |name: &str| -> i64 {
            let line = meminfo.lines().find_map(|l| l.strip_prefix(name));
            line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let [total, free, available] = ["MemTotal:", "MemFree:", "MemAvailable:"].map(|n| kib(n) * 1024);
        Self { total, free, available }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn rates_are_taken_between_looks_that_are_apart() {
        let first = rate(None, at(100), 50_000_000_000, at(0));
        assert_eq!(first.rate, 500_000_000, "over its life: half a core");
        assert_eq!(rate(Some(first), at(101), 51_000_000_000, at(0)).rate, 500_000_000, "too soon: the old one");
        let later = rate(Some(first), at(110), 60_000_000_000, at(0));
        assert_eq!((later.rate, later.at), (1_000_000_000, at(110)));
        assert_eq!(rate(Some(later), at(120), 0, at(110)).rate, 0, "it began anew");
    }

    #[test]
    fn the_kernels_figures_are_read() {
        let stat =
            "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 50 0 50 350 50 0 0 0 0 0\ncpu1 50 0 50 350 50 0 0 0 0 0\nintr 1\n";
        assert_eq!(cpu_time(stat), (2_000_000_000, 5_000_000_000));
        let memory = Memory::parse("MemTotal:  4 kB\nMemFree: 1 kB\nMemAvailable: 2 kB\n");
        assert_eq!(memory, Memory { total: 4096, free: 1024, available: 2048 });
    }

    #[tokio::test]
    async fn a_summary_tells_pods_with_their_containers() {
        use crate::runtime::fake::Fake;
        let fake = Arc::new(Fake::default());
        let labels = [(POD_NAMESPACE, "ns"), (POD_NAME, "p"), (POD_UID, "u"), (CONTAINER_NAME, "c")];
        let config = pb::ContainerConfig {
            labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ..Default::default()
        };
        let id = fake.create_container("s", config, pb::PodSandboxConfig::default()).await.unwrap();
        fake.start_container(&id).await.unwrap();
        fake.state.lock().usage = 4096;
        let clock = Arc::new(kybern_api::seam::FixedClock::new(at(1000)));
        let stats = Stats::new("n1", fake.clone(), clock, "/".into());
        let summary = stats.summary().await.unwrap();
        assert_eq!(summary["pods"][0]["podRef"]["name"], "p");
        assert_eq!(summary["pods"][0]["containers"][0]["name"], "c");
        assert_eq!(summary["pods"][0]["memory"]["workingSetBytes"], 4096);
        assert_eq!(summary["node"]["nodeName"], "n1");
        fake.exit(&id, 0);
        assert_eq!(stats.summary().await.unwrap()["pods"], json!([]), "what ended uses nothing");
    }
}
