//! The node's cgroup tree: `ROOT/kubepods[/burstable|/besteffort]/podUID`, on version 1 (also the
//! hybrid layout) and version 2. Containers' own cgroups below a pod's are the runtime's.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MOUNT: &str = "/sys/fs/cgroup";
/// The scheduling period of CPU quotas, in microseconds.
pub const CPU_PERIOD: i64 = 100_000;
/// The smallest quota the kernel takes, in microseconds.
const MIN_QUOTA: i64 = 1_000;
/// Version 1 tells "no limit" by a number near the largest.
const UNLIMITED: i64 = i64::MAX / 2;
/// The controller of huge pages.
const HUGETLB: &str = "hugetlb";
/// The smallest number of CPU shares.
const MIN_SHARES: i64 = 2;
/// The largest.
const MAX_SHARES: i64 = 262_144;

/// How important a pod's resources are (its `status.qosClass`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// Every container has limits, and requests equal to them.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl Qos {
    /// The word in the pod's status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// Limits of a cgroup; None: unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU shares.
    pub shares: Option<i64>,
    /// CPU quota in microseconds per [`CPU_PERIOD`].
    pub quota: Option<i64>,
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Bytes of huge pages by the kernel's name of their size (`2MB`). Sizes that are not named are not
    /// touched.
    pub huge: BTreeMap<String, i64>,
}

/// CPU shares for a request in millicores.
pub fn shares(milli: i64) -> i64 {
    (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// CPU quota for a limit in millicores.
pub fn quota(milli: i64) -> i64 {
    (milli.saturating_mul(CPU_PERIOD) / 1000).max(MIN_QUOTA)
}

/// May this process make cgroups?
pub fn writable() -> bool {
    hierarchies(Path::new(MOUNT)).first().is_some_and(|h| {
        let probe = h.path.join(format!("kybern-probe-{}", std::process::id()));
        std::fs::create_dir(&probe).is_ok() && std::fs::remove_dir(&probe).is_ok()
    })
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    /// Controller of a version 1 hierarchy (its directory's name); empty for version 2.
    controller: String,
    path: PathBuf,
}

fn hierarchies(mount: &Path) -> Vec<Hierarchy> {
    if mount.join("cgroup.controllers").exists() {
        return vec![Hierarchy { controller: String::new(), path: mount.into() }];
    }
    let entries = std::fs::read_dir(mount).into_iter().flatten().filter_map(std::result::Result::ok);
    let mut found: Vec<Hierarchy> = entries
        // Joint controllers have links (cpu -> cpu,cpuacct) besides their directory.
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()) && e.path().join("cgroup.procs").exists())
        .map(|e| Hierarchy { controller: e.file_name().to_string_lossy().into_owned(), path: e.path() })
        .collect();
    found.sort_by(|a, b| a.controller.cmp(&b.controller));
    found
}

/// A node's cgroup tree.
#[derive(Debug, Clone)]
pub struct Cgroups {
    root: String,
    hierarchies: Vec<Hierarchy>,
}

impl Cgroups {
    /// The tree below `root` (`/kybern/n1`) in every mounted hierarchy.
    pub fn new(root: &str) -> Self {
        Self::at(Path::new(MOUNT), root)
    }
    fn at(mount: &Path, root: &str) -> Self {
        Self { root: format!("/{}", root.trim_matches('/')), hierarchies: hierarchies(mount) }
    }

    /// The cgroup of a class of pods.
    pub fn class(&self, qos: Qos) -> String {
        let class = match qos {
            Qos::Guaranteed => "",
            Qos::Burstable => "/burstable",
            Qos::BestEffort => "/besteffort",
        };
        format!("{}/kubepods{class}", self.root)
    }

    /// The pod's cgroup, as CRI's `cgroup_parent` wants it.
    pub fn pod(&self, qos: Qos, uid: &str) -> String {
        format!("{}/pod{uid}", self.class(qos))
    }

    /// Makes a pod's cgroup and sets its limits; idempotent.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn ensure(&self, cgroup: &str, limits: &Limits) -> Result<()> {
        for hierarchy in &self.hierarchies {
            match hierarchy.controller.as_str() {
                "" => ensure_v2(&hierarchy.path, cgroup, limits)?,
                controller => ensure_v1(controller, &below(&hierarchy.path, cgroup), limits)?,
            }
        }
        Ok(())
    }

    /// The memory limit of a cgroup in bytes; None: it has none.
    pub fn memory_limit(&self, cgroup: &str) -> Option<i64> {
        self.hierarchies.iter().find_map(|hierarchy| {
            let file = if hierarchy.controller.is_empty() { "memory.max" } else { "memory.limit_in_bytes" };
            let text = std::fs::read_to_string(below(&hierarchy.path, cgroup).join(file)).ok()?;
            text.trim().parse().ok().filter(|limit| *limit < UNLIMITED)
        })
    }

    /// Does the kernel count huge pages by cgroup?
    pub fn counts_huge_pages(&self) -> bool {
        self.hierarchies.iter().any(|h| match h.controller.as_str() {
            "" => std::fs::read_to_string(h.path.join("cgroup.controllers"))
                .is_ok_and(|all| all.split_whitespace().any(|c| c == HUGETLB)),
            controller => controller.split(',').any(|c| c == HUGETLB),
        })
    }

    /// Removes a cgroup and those below it in every hierarchy; what still has processes stays, and is
    /// an error.
    ///
    /// # Errors
    /// When a directory cannot be removed.
    pub fn remove(&self, cgroup: &str) -> Result<()> {
        for hierarchy in &self.hierarchies {
            remove_tree(&below(&hierarchy.path, cgroup))?;
        }
        Ok(())
    }

    /// Removes the whole tree, and the parents of its root that are empty then.
    ///
    /// # Errors
    /// When a directory cannot be removed.
    pub fn remove_all(&self) -> Result<()> {
        self.remove(&self.root)?;
        for hierarchy in &self.hierarchies {
            let mut parent = Path::new(&self.root).parent();
            while let Some(path) = parent.filter(|p| *p != Path::new("/")) {
                if std::fs::remove_dir(below(&hierarchy.path, &path.to_string_lossy())).is_err() {
                    break;
                }
                parent = path.parent();
            }
        }
        Ok(())
    }

    /// Ids of all processes in the tree.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        for hierarchy in &self.hierarchies {
            collect_processes(&below(&hierarchy.path, &self.root), &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn below(hierarchy: &Path, cgroup: &str) -> PathBuf {
    hierarchy.join(cgroup.trim_start_matches('/'))
}

fn write(path: PathBuf, value: impl std::fmt::Display) -> Result<()> {
    std::fs::write(&path, value.to_string()).map_err(Error::file("write", &path))
}

fn make(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(Error::file("create", path))
}

fn ensure_v1(controller: &str, path: &Path, limits: &Limits) -> Result<()> {
    let has = |name: &str| controller.split(',').any(|c| c == name);
    if has("cpu") {
        make(path)?;
        if let Some(shares) = limits.shares {
            write(path.join("cpu.shares"), shares)?;
        }
        if let Some(quota) = limits.quota {
            write(path.join("cpu.cfs_period_us"), CPU_PERIOD)?;
            write(path.join("cpu.cfs_quota_us"), quota)?;
        }
    }
    if has("memory") {
        make(path)?;
        // Accounting of a parent must include its children's.
        let hierarchy = path.join("memory.use_hierarchy");
        if std::fs::read_to_string(&hierarchy).is_ok_and(|v| v.trim() == "0") {
            write(hierarchy, 1)?;
        }
        if let Some(memory) = limits.memory {
            write(path.join("memory.limit_in_bytes"), memory)?;
        }
    }
    if has(HUGETLB) && !limits.huge.is_empty() {
        make(path)?;
        for (size, limit) in &limits.huge {
            write(path.join(format!("hugetlb.{size}.limit_in_bytes")), limit)?;
        }
    }
    Ok(())
}

fn ensure_v2(mount: &Path, cgroup: &str, limits: &Limits) -> Result<()> {
    let mut path = mount.to_path_buf();
    for part in cgroup.trim_matches('/').split('/') {
        // Controllers reach a cgroup only when its parent hands them down.
        for controller in ["+cpu", "+memory", "+pids", "+cpuset", "+io", "+hugetlb"] {
            let control = path.join("cgroup.subtree_control");
            if let Err(e) = std::fs::write(&control, controller) {
                tracing::debug!(path = %control.display(), controller, error = %e, "controller not available");
            }
        }
        path.push(part);
        make(&path)?;
    }
    if let Some(shares) = limits.shares {
        // The kernel's documented conversion of [2, 262144] to [1, 10000].
        write(path.join("cpu.weight"), 1 + (shares - 2) * 9999 / 262_142)?;
    }
    if let Some(quota) = limits.quota {
        write(path.join("cpu.max"), format!("{quota} {CPU_PERIOD}"))?;
    }
    if let Some(memory) = limits.memory {
        write(path.join("memory.max"), memory)?;
    }
    for (size, limit) in &limits.huge {
        write(path.join(format!("hugetlb.{size}.max")), limit)?;
    }
    Ok(())
}

/// Removes a cgroup, children first. Its files go with the directory.
fn remove_tree(path: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(()) };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove_tree(&entry.path())?;
    }
    match std::fs::remove_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(e)),
        _ => Ok(()),
    }
}

fn collect_processes(path: &Path, found: &mut Vec<i32>) {
    let Ok(entries) = std::fs::read_dir(path) else { return };
    let procs = std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    found.extend(procs.lines().filter_map(|l| l.trim().parse::<i32>().ok()));
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        collect_processes(&entry.path(), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_amounts() {
        for (milli, expected) in [(0, 2), (1, 2), (100, 102), (1000, 1024), (i64::MAX, 262_144)] {
            assert_eq!(shares(milli), expected, "{milli}m");
        }
        for (milli, expected) in [(1, 1000), (100, 10_000), (2500, 250_000)] {
            assert_eq!(quota(milli), expected, "{milli}m");
        }
    }

    #[test]
    fn a_pods_cgroup_is_made_limited_and_removed() {
        let mount = tempfile::tempdir().unwrap();
        for controller in ["cpu", "hugetlb", "memory", "pids"] {
            std::fs::create_dir(mount.path().join(controller)).unwrap();
            std::fs::write(mount.path().join(controller).join("cgroup.procs"), "").unwrap();
        }
        let groups = Cgroups::at(mount.path(), "/kybern/n1");
        let pod = groups.pod(Qos::Burstable, "u1");
        assert_eq!(pod, "/kybern/n1/kubepods/burstable/podu1");
        assert!(groups.counts_huge_pages());
        let huge = [("2MB".to_owned(), 4 << 20), ("1GB".to_owned(), 0)].into();
        let limits = Limits { shares: Some(512), quota: Some(50_000), memory: Some(1 << 20), huge };
        groups.ensure(&pod, &limits).unwrap();
        let read = |p: &str| std::fs::read_to_string(mount.path().join(p)).unwrap();
        assert_eq!(read("cpu/kybern/n1/kubepods/burstable/podu1/cpu.cfs_quota_us"), "50000");
        assert_eq!(read("memory/kybern/n1/kubepods/burstable/podu1/memory.limit_in_bytes"), "1048576");
        assert_eq!(read("hugetlb/kybern/n1/kubepods/burstable/podu1/hugetlb.2MB.limit_in_bytes"), "4194304");
        assert_eq!(read("hugetlb/kybern/n1/kubepods/burstable/podu1/hugetlb.1GB.limit_in_bytes"), "0");
        assert!(!mount.path().join("pids/kybern").exists(), "no limit, no directory");
        // In a real hierarchy the files vanish with the directory; here they must go first.
        for c in ["cpu", "hugetlb", "memory"] {
            for f in std::fs::read_dir(mount.path().join(c).join(&pod[1..])).unwrap() {
                std::fs::remove_file(f.unwrap().path()).unwrap();
            }
        }
        groups.remove_all().unwrap();
        assert!(!mount.path().join("cpu/kybern").exists() && mount.path().join("cpu").exists());
    }

    #[test]
    fn version_2_limits_huge_pages_where_it_counts_them() {
        let mount = tempfile::tempdir().unwrap();
        let control = mount.path().join("cgroup.controllers");
        std::fs::write(&control, "cpu memory pids\n").unwrap();
        assert!(!Cgroups::at(mount.path(), "x").counts_huge_pages());
        std::fs::write(&control, "cpu memory hugetlb pids\n").unwrap();
        let groups = Cgroups::at(mount.path(), "x");
        assert!(groups.counts_huge_pages());
        let huge = [("2MB".to_owned(), 4 << 20)].into();
        groups.ensure("/x/p", &Limits { huge, ..Limits::default() }).unwrap();
        assert_eq!(std::fs::read_to_string(mount.path().join("x/p/hugetlb.2MB.max")).unwrap(), "4194304");
    }

    #[test]
    fn joint_controllers_are_found() {
        let mount = tempfile::tempdir().unwrap();
        std::fs::create_dir(mount.path().join("cpu,cpuacct")).unwrap();
        std::fs::write(mount.path().join("cpu,cpuacct/cgroup.procs"), "").unwrap();
        std::os::unix::fs::symlink("cpu,cpuacct", mount.path().join("cpu")).unwrap();
        let groups = Cgroups::at(mount.path(), "x");
        groups.ensure("/x/p", &Limits { shares: Some(2), ..Limits::default() }).unwrap();
        assert!(mount.path().join("cpu,cpuacct/x/p/cpu.shares").exists());
        assert_eq!(groups.hierarchies.len(), 1);
        assert!(!groups.counts_huge_pages());
    }
}
