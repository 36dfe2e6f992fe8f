//! What a cluster can leave on a machine, read by the system's own means.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a killed process may stay in the list of processes.
const REAPED: Duration = Duration::from_secs(10);
/// Programs of a cluster, by the name the kernel knows (15 characters).
const PROGRAMS: [&str; 4] = ["kybern", "containerd", "containerd-shim", "pause"];

/// Everything of that sort that is here now, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inventory(BTreeSet<String>);

impl Inventory {
    /// Takes stock.
    pub(super) fn take() -> Result<Self> {
        let mut found = BTreeSet::new();
        found.extend(processes()?);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("mountinfo")?;
        let points = mounts.lines().filter_map(|l| l.split(' ').nth(4));
        found.extend(points.filter(|p| p.contains("kybern")).map(|p| format!("mount {p}")));
        found.extend(entries(Path::new("/run/netns")).map(|n| format!("network namespace {n}")));
        found.extend(entries(Path::new("/sys/class/net")).map(|n| format!("link {n}")));
        let tables = Command::new("nft").args(["list", "tables"]).output().context("nft")?;
        found.extend(String::from_utf8_lossy(&tables.stdout).lines().map(|t| format!("nft {t}")));
        let hierarchies = entries(Path::new("/sys/fs/cgroup")).map(|h| Path::new("/sys/fs/cgroup").join(h));
        for root in hierarchies.chain([Path::new("/sys/fs/cgroup").to_owned()]) {
            let ours = root.join("kybern");
            found.extend(ours.exists().then(|| format!("cgroup {}", ours.display())));
        }
        for dir in ["/run/kybern", "/var/lib/kybern/dev"] {
            found.extend(entries(Path::new(dir)).map(|n| format!("directory {dir}/{n}")));
        }
        Ok(Self(found))
    }

    /// Fails with what is here now and was not in `self`.
    pub(super) fn nothing_new(&self) -> Result<()> {
        // What was killed just now may still wait for init to reap it.
        let deadline = Instant::now() + REAPED;
        loop {
            let now = Self::take()?;
            let new: Vec<&str> = now.0.difference(&self.0).map(String::as_str).collect();
            if new.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} things are left:\n  {}", new.len(), new.join("\n  "));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Ids of the clusters' programs, with their names.
pub(super) fn processes() -> Result<Vec<String>> {
    let named = |pid: &str| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        PROGRAMS.contains(&name.trim_end()).then(|| format!("process {pid} {}", name.trim_end()))
    };
    Ok(std::fs::read_dir("/proc")?
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
        .filter_map(|pid| named(&pid))
        .collect())
}

/// Names in a directory; none where there is no such directory.
fn entries(dir: &Path) -> impl Iterator<Item = String> {
    std::fs::read_dir(dir).into_iter().flatten().filter_map(|e| e.ok()?.file_name().into_string().ok())
}
