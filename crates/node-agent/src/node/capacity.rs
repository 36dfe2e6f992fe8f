//! What the machine has to give.

use nix::sys::statvfs::statvfs;
use std::path::Path;

/// Resources of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    /// CPU in millicores.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Disk space of the data directory's file system in bytes.
    pub disk: i64,
}

impl Capacity {
    /// Reads it from the kernel.
    pub fn probe(data_dir: &Path) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            cpu_milli: i64::try_from(cpus).unwrap_or(1) * 1000,
            memory: memory(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            disk: statvfs(data_dir).map_or(0, |s| {
                i64::try_from(u128::from(s.blocks()) * u128::from(s.fragment_size())).unwrap_or(i64::MAX)
            }),
        }
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
    fn a_machine_has_something() {
        let c = Capacity::probe(Path::new("/"));
        assert!(c.cpu_milli >= 1000 && c.memory > 0 && c.disk > 0);
    }
}
