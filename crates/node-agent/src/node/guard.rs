//! The node's housekeeper: watches what runs short, evicts pods for it, removes images, rotates logs.

use super::capacity::Disk;
use super::pressure::{self, Candidate, Level, Pressure, Seen, Shortage, Signal, Thresholds};
use super::stats::{Memory, Stats};
use crate::cgroup::{self, Cgroups, Limits, Qos};
use crate::config::Paths;
use crate::error::Result;
use crate::images::gc::{self, LastUsed};
use crate::pods::evict::{self, DiskUse};
use crate::pods::status::Ending;
use crate::pods::{Command, resources, rotate, spec};
use crate::runtime::Runtime;
use k8s_openapi::api::core::v1::Pod;
use kybern_api::seam::Clock;
use kybern_client::informer::Informer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Kubernetes looks this often; the kernel tells nobody that a disk fills.
const PERIOD: Duration = Duration::from_secs(10);
/// System pods of this priority and above are not evicted.
pub const CRITICAL: i32 = 2_000_000_000;
/// An evicted pod gets this long.
const HURRY: i64 = 1;

/// What the housekeeper works with.
pub struct Guard {
    /// Where files lie.
    pub paths: Paths,
    /// The container runtime.
    pub runtime: Arc<dyn Runtime>,
    /// The node's cgroups.
    pub cgroups: Cgroups,
    /// What things use.
    pub stats: Arc<Stats>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The node's pods.
    pub pods: Arc<Informer>,
    /// Orders to them.
    pub orders: mpsc::Sender<Command>,
    /// When to evict.
    pub thresholds: Thresholds,
    /// When to remove images, in percent of the disk in use.
    pub image_gc: (u8, u8),
    /// Who waits for pressures to change.
    pub pressures: watch::Sender<Vec<Pressure>>,
}

/// What it remembers between two rounds.
#[derive(Default)]
struct Memo {
    seen: Seen,
    last_used: LastUsed,
}

impl Guard {
    /// Keeps house until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let mut memo = Memo::default();
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(e) = self.round(&mut memo).await {
                tracing::warn!(error = %e, "the node's housekeeping is not done");
            }
        }
    }

    async fn round(&self, memo: &mut Memo) -> Result<()> {
        let now = self.clock.now();
        rotate::rotate(&*self.runtime, &self.paths, &now.strftime("%Y%m%d-%H%M%S").to_string()).await?;
        self.share_out()?;
        self.collect_images(memo, false).await?;
        let mut shortages = self.shortages();
        if shortages.iter().any(|s| s.signal.pressure() == Pressure::Disk) {
            self.collect_images(memo, true).await?;
            shortages = self.shortages();
        }
        memo.seen.note(&shortages, now);
        let holding = memo.seen.holding(now);
        self.pressures.send_if_modified(|p| std::mem::replace(p, holding.clone()) != holding);
        self.check_disk_limits().await?;
        if let Some(shortage) = shortages.first() {
            self.evict(shortage).await?;
        }
        Ok(())
    }

    /// Between pods that request something and pods that do not, CPU time is shared by class.
    fn share_out(&self) -> Result<()> {
        let pods = self.live_pods();
        let burstable = pods.iter().filter(|p| resources::qos(p) == Qos::Burstable);
        let requested: i64 = burstable.map(|p| resources::requests(p).0).sum();
        for (qos, milli) in [(Qos::Burstable, requested), (Qos::BestEffort, 0)] {
            let limits = Limits { shares: Some(cgroup::shares(milli)), ..Limits::default() };
            self.cgroups.ensure(&self.cgroups.class(qos), &limits)?;
        }
        Ok(())
    }

    fn shortages(&self) -> Vec<Shortage> {
        pressure::shortages(&levels(self.paths.data()), &self.thresholds)
    }

    /// Removes unused images when the disk is filling; all of them when it is short.
    async fn collect_images(&self, memo: &mut Memo, short: bool) -> Result<()> {
        let now = self.clock.now();
        let (images, mut in_use) = (self.runtime.images().await?, gc::in_use(&*self.runtime).await?);
        in_use.extend(self.live_pods().iter().flat_map(gc::volumes));
        memo.last_used.note(&images, &in_use, now);
        let Ok(disk) = Disk::of(self.paths.data()) else { return Ok(()) };
        let needed = if short { i64::MAX } else { gc::needed(disk, self.image_gc) };
        for image in gc::choose(&images, &in_use, &memo.last_used, needed, now) {
            tracing::info!(image = image.id, bytes = image.size, "removing an unused image");
            self.runtime.remove_image(&image.id).await?;
        }
        Ok(())
    }

    fn live_pods(&self) -> Vec<Pod> {
        let items = self.pods.list();
        let pods = items.iter().filter_map(|i| i.object.view::<Pod>().ok());
        let over = |p: &Pod| {
            let phase = p.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
            matches!(phase, "Succeeded" | "Failed") || p.metadata.deletion_timestamp.is_some()
        };
        pods.filter(|p| !over(p)).collect()
    }

    /// Evicts one pod for a shortage; the next round sees whether that was enough.
    async fn evict(&self, shortage: &Shortage) -> Result<()> {
        let summary = self.stats.summary().await?;
        let candidates: Vec<Candidate> =
            self.live_pods().iter().map(|p| candidate(p, shortage.signal, &summary)).collect();
        let Some(victim) = pressure::victim(&candidates) else {
            tracing::warn!(resource = shortage.signal.resource(), "the node runs short, and no pod can be evicted");
            return Ok(());
        };
        let message = pressure::message(shortage, victim);
        self.order(&victim.uid, Ending { reason: "Evicted".into(), message, grace: Some(HURRY), disruption: true })
            .await;
        Ok(())
    }

    async fn order(&self, uid: &str, ending: Ending) {
        tracing::info!(uid, reason = ending.reason, message = ending.message, "ending a pod for the node's sake");
        // A closed queue means that the agent is ending.
        self.orders.send(Command::End { uid: uid.to_owned(), ending }).await.ok();
    }

    /// Evicts the pods that use more disk than they said.
    async fn check_disk_limits(&self) -> Result<()> {
        let limited: Vec<Pod> = self.live_pods().into_iter().filter(evict::is_limited).collect();
        if limited.is_empty() {
            return Ok(());
        }
        let summary = self.stats.summary().await?;
        for pod in limited {
            let paths = self.paths.clone();
            let (measured, of_pod) = (pod.clone(), of_pod(&summary, &pod).cloned().unwrap_or_default());
            let used = tokio::task::spawn_blocking(move || disk_use(&paths, &measured, &of_pod)).await;
            if let Some(ending) = used.ok().and_then(|used| evict::over_limit(&pod, &used)) {
                self.order(pod.metadata.uid.as_deref().unwrap_or_default(), ending).await;
            }
        }
        Ok(())
    }
}

fn of_pod<'a>(summary: &'a Value, pod: &Pod) -> Option<&'a Value> {
    let uid = pod.metadata.uid.as_deref()?;
    summary["pods"].as_array()?.iter().find(|p| p["podRef"]["uid"] == uid)
}

fn of_container(summary: &Value, name: &str, pointer: &str) -> i64 {
    let containers = summary["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = containers.iter().find(|c| c["name"] == name);
    found.and_then(|c| c.pointer(pointer)?.as_i64()).unwrap_or(0)
}

fn candidate(pod: &Pod, signal: Signal, summary: &Value) -> Candidate {
    let spec = pod.spec.clone().unwrap_or_default();
    let none = Value::Null;
    let of_pod = of_pod(summary, pod).unwrap_or(&none);
    let (pointer, resource) = match signal {
        Signal::Memory => ("/memory/workingSetBytes", Some("memory")),
        Signal::Disk | Signal::Images => ("/rootfs/usedBytes", Some("ephemeral-storage")),
        Signal::Inodes => ("/rootfs/inodesUsed", None),
        Signal::Pids => ("/none", None),
    };
    let containers = spec::declared(&spec).map(|(c, _)| {
        let request = resource.and_then(|r| resources::request(c, r)).map_or(0, |q| q.value());
        (c.name.clone(), of_container(of_pod, &c.name, pointer), request)
    });
    let annotations = pod.metadata.annotations.as_ref();
    Candidate {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        priority: spec.priority.unwrap_or(0),
        critical: spec.priority.unwrap_or(0) >= CRITICAL || annotations.is_some_and(|a| a.contains_key(spec::MIRROR)),
        containers: containers.collect(),
    }
}

/// How the machine stands.
fn levels(data: &Path) -> BTreeMap<Signal, Level> {
    let mut levels = BTreeMap::new();
    let memory = Memory::read();
    levels.insert(Signal::Memory, Level { available: memory.available, capacity: memory.total });
    if let Ok(disk) = Disk::of(data) {
        let space = Level { available: disk.free, capacity: disk.size };
        levels.extend([(Signal::Disk, space), (Signal::Images, space)]);
        // File systems that make inodes as needed tell of none.
        if disk.inodes > 0 {
            levels.insert(Signal::Inodes, Level { available: disk.free_inodes, capacity: disk.inodes });
        }
    }
    let number = |path: &str| std::fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<i64>().ok());
    let running = std::fs::read_to_string("/proc/loadavg").ok().and_then(|t| {
        let (_, all) = t.split_whitespace().nth(3)?.split_once('/')?;
        all.parse::<i64>().ok()
    });
    if let (Some(limit), Some(running)) = (number("/proc/sys/kernel/pid_max"), running) {
        levels.insert(Signal::Pids, Level { available: limit - running, capacity: limit });
    }
    levels
}

/// What a pod uses of the disk: layers as the runtime tells, logs and volumes as they lie there.
fn disk_use(paths: &Paths, pod: &Pod, summary: &Value) -> DiskUse {
    let mut used = DiskUse::default();
    let (namespace, name, uid) = crate::pods::config::identity(pod);
    let spec = pod.spec.clone().unwrap_or_default();
    for (c, _) in spec::declared(&spec) {
        let logs = size_of(&paths.pod_logs(namespace, name, uid).join(&c.name));
        used.containers.insert(c.name.clone(), of_container(summary, &c.name, "/rootfs/usedBytes") + logs);
    }
    for volume in spec.volumes.iter().flatten() {
        if volume.empty_dir.as_ref().is_some_and(|e| e.medium.as_deref().unwrap_or_default().is_empty()) {
            used.volumes.insert(volume.name.clone(), size_of(&paths.pod(uid).join("volumes").join(&volume.name)));
        }
    }
    used
}

/// Bytes on disk below a directory; links are not followed, and what vanishes meanwhile counts nothing.
fn size_of(dir: &Path) -> i64 {
    use std::os::unix::fs::MetadataExt;
    /// The unit of `st_blocks`.
    const BLOCK: u64 = 512;
    let mut total = 0u64;
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            total += meta.blocks() * BLOCK;
            if meta.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    i64::try_from(total).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_directory_is_measured_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/f"), vec![1; 100_000]).unwrap();
        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join("big"), vec![1; 1_000_000]).unwrap();
        std::os::unix::fs::symlink(other.path(), dir.path().join("link")).unwrap();
        let size = size_of(dir.path());
        assert!((100_000..300_000).contains(&size), "{size}");
        assert_eq!(size_of(&dir.path().join("none")), 0);
    }

    #[test]
    fn candidates_are_measured_by_what_is_short() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"uid": "u"},
            "spec": {"priority": 5, "containers": [{"name": "a", "resources": {"requests": {"memory": "1Ki"}}}]},
        }))
        .unwrap();
        let container = json!({"name": "a", "memory": {"workingSetBytes": 2048}, "rootfs": {"usedBytes": 7}});
        let summary = json!({"pods": [{"podRef": {"uid": "u"}, "containers": [container]}]});
        let memory = candidate(&pod, Signal::Memory, &summary);
        assert_eq!((memory.priority, memory.containers), (5, vec![("a".to_owned(), 2048, 1024)]));
        assert_eq!(candidate(&pod, Signal::Disk, &summary).containers, [("a".to_owned(), 7, 0)]);
        assert_eq!(candidate(&pod, Signal::Memory, &json!({})).containers[0].1, 0);
    }

    #[test]
    fn the_machine_can_be_measured() {
        let levels = levels(Path::new("/"));
        assert!(levels[&Signal::Memory].available > 0 && levels[&Signal::Pids].capacity > 0);
        assert!(levels[&Signal::Disk].capacity > 0);
    }
}
