//! What the machine has to give.

use crate::pods::hugepages;
use kybern_api::meta::quantity::Quantity;
use nix::sys::statvfs::statvfs;
use std::collections::BTreeMap;
use std::path::Path;

/// Where the kernel tells of its huge pages.
const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";

/// Resources of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capacity {
    /// CPU in millicores.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Disk space of the data directory's file system in bytes.
    pub disk: i64,
    /// Huge pages in bytes, by page size.
    pub huge: BTreeMap<i64, i64>,
}

impl Capacity {
    /// What is left for pods when the machine keeps `reserved` for itself, and `memory` bytes are never
    /// used up because pods would be evicted before. Memory set aside for huge pages is for nothing else.
    pub fn allocatable(&self, reserved: &BTreeMap<String, Quantity>, memory: i64) -> Self {
        let kept = |name: &str| reserved.get(name).copied().unwrap_or(Quantity::ZERO);
        Self {
            cpu_milli: (self.cpu_milli - kept("cpu").milli()).max(0),
            memory: (self.memory - kept("memory").value() - memory - self.huge.values().sum::<i64>()).max(0),
            disk: (self.disk - kept("ephemeral-storage").value()).max(0),
            huge: self.huge.clone(),
        }
    }
    /// It by resource name: millicores of CPU, whole units of everything else.
    pub fn amounts(&self, pods: u32) -> BTreeMap<String, i64> {
        let all = [
            ("cpu", self.cpu_milli),
            ("memory", self.memory),
            ("ephemeral-storage", self.disk),
            ("pods", i64::from(pods)),
        ];
        let huge = self.huge.iter().map(|(size, bytes)| (hugepages::resource(*size), *bytes));
        all.into_iter().map(|(name, amount)| (name.to_owned(), amount)).chain(huge).collect()
    }
    /// Reads it from the kernel.
    pub fn probe(data_dir: &Path) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            cpu_milli: i64::try_from(cpus).unwrap_or(1) * 1000,
            memory: memory(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            disk: Disk::of(data_dir).unwrap_or_default().size,
            huge: hugepages::probe(Path::new(HUGE_PAGES)),
        }
    }
}

/// A file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes.
    pub size: i64,
    /// Bytes that may still be written.
    pub free: i64,
    /// Inodes; 0 where the file system makes them as needed.
    pub inodes: i64,
    /// Of them, those free.
    pub free_inodes: i64,
}

impl Disk {
    /// The file system that a path is on.
    ///
    /// # Errors
    /// When the path cannot be looked at.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let s = statvfs(path)?;
        let whole = |n: u128| i64::try_from(n).unwrap_or(i64::MAX);
        let bytes = |blocks: u64| whole(u128::from(blocks) * u128::from(s.fragment_size()));
        Ok(Self {
            size: bytes(s.blocks()),
            free: bytes(s.blocks_available()),
            inodes: whole(s.files().into()),
            free_inodes: whole(s.files_available().into()),
        })
    }
}

fn memory(meminfo: &str) -> i64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib: i64 = line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    kib.saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"), 16 << 20);
        assert_eq!(memory(""), 0);
    }

    #[test]
    fn what_is_reserved_is_not_for_pods() {
        let all = Capacity { cpu_milli: 4000, memory: 1 << 30, disk: 100, huge: BTreeMap::new() };
        let reserved = BTreeMap::from([("cpu".to_owned(), "500m".parse().unwrap())]);
        let left = all.allocatable(&reserved, 100 << 20);
        assert_eq!((left.cpu_milli, left.memory, left.disk), (3500, (1 << 30) - (100 << 20), 100));
        let none = all.allocatable(&BTreeMap::from([("memory".to_owned(), "2Gi".parse().unwrap())]), 0);
        assert_eq!(none.memory, 0);
        let set_aside = Capacity { huge: [(2 << 20, 256 << 20)].into(), ..all };
        let left = set_aside.allocatable(&BTreeMap::new(), 0);
        assert_eq!((left.memory, left.amounts(9)["hugepages-2Mi"]), (768 << 20, 256 << 20));
    }

    #[test]
    fn a_machine_has_something() {
        let c = Capacity::probe(Path::new("/"));
        assert!(c.cpu_milli >= 1000 && c.memory > 0 && c.disk > 0);
    }
}
