//! Leaves nothing behind: ends every process and removes every mount, cgroup and directory of a
//! cluster, whatever state it is in.

use super::cluster::{Cluster, RUN_DIR};
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Rounds of killing before giving up; each waits a little for the kernel.
const ROUNDS: u32 = 50;

/// Kills everything that runs for the cluster: programs in its namespaces, in its cgroups, and those
/// started with its directories (containerd and its shims).
///
/// # Errors
/// When something survives SIGKILL.
pub fn processes(cluster: &Cluster) -> Result<()> {
    for round in 0..ROUNDS {
        let found = find(cluster);
        if found.is_empty() {
            return Ok(());
        }
        for pid in &found {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(if round < 5 { 10 } else { 100 }));
    }
    bail!("processes of cluster {} can't be killed: {:?}", cluster.name, find(cluster))
}

/// Kills the hosts' programs that an earlier daemon left behind, but none of the containers: agents
/// adopt those when they are back.
///
/// # Errors
/// When something survives SIGKILL.
pub fn orphans(cluster: &Cluster) -> Result<()> {
    let program = std::env::current_exe()?;
    let name = program.file_name().unwrap_or_default().to_os_string();
    for _ in 0..ROUNDS {
        let left: Vec<Pid> = find(cluster)
            .into_iter()
            .filter(|pid| {
                std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|e| {
                    e.file_name().is_some_and(|f| f.to_string_lossy().starts_with(&*name.to_string_lossy()))
                })
            })
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        for pid in left {
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("programs of cluster {} survive SIGKILL", cluster.name)
}

fn find(cluster: &Cluster) -> Vec<Pid> {
    let namespaces: HashSet<u64> = cluster
        .hosts
        .iter()
        .map(|h| cluster.netns(h))
        .chain([cluster.bridge_netns()])
        .filter_map(|n| Some(std::fs::metadata(kybern_node_agent::net::netns::path(&n)).ok()?.ino()))
        .collect();
    let marks = [format!("{}/", cluster.run_dir().display()), format!("{}/", cluster.dir().display())];
    let cgroup = format!("/kybern/{}/", cluster.name);
    let own = std::process::id();
    let Ok(dir) = std::fs::read_dir("/proc") else { return Vec::new() };
    dir.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            let proc = PathBuf::from(format!("/proc/{pid}"));
            let read = |f: &str| std::fs::read(proc.join(f)).map(|b| String::from_utf8_lossy(&b).into_owned());
            std::fs::metadata(proc.join("ns/net")).is_ok_and(|m| namespaces.contains(&m.ino()))
                || read("cmdline").is_ok_and(|c| marks.iter().any(|m| c.contains(m.as_str())))
                || read("cgroup").is_ok_and(|c| c.contains(&cgroup))
        })
        .filter_map(|pid| i32::try_from(pid).ok().map(Pid::from_raw))
        .collect()
}

/// Unmounts everything below the cluster's directories, deepest first.
///
/// # Errors
/// When a mount can't be removed.
pub fn mounts(cluster: &Cluster) -> Result<()> {
    let mut points = mount_points(&[cluster.run_dir(), cluster.dir()])?;
    points.sort_by_key(|p| std::cmp::Reverse(p.as_os_str().len()));
    for p in points {
        nix::mount::umount2(&p, nix::mount::MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot unmount {}", p.display()))?;
    }
    Ok(())
}

fn mount_points(below: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(table
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .map(|p| PathBuf::from(p.replace("\\040", " ")))
        .filter(|p| below.iter().any(|b| p.starts_with(b) && p != b))
        .collect())
}

/// Removes the cluster's cgroups in every hierarchy.
pub fn cgroups(cluster: &Cluster) {
    let Ok(hierarchies) = std::fs::read_dir("/sys/fs/cgroup") else { return };
    let roots = hierarchies.filter_map(|e| Some(e.ok()?.path())).chain([PathBuf::from("/sys/fs/cgroup")]);
    for root in roots {
        remove_cgroup_tree(&root.join("kybern").join(&cluster.name));
        let _ = std::fs::remove_dir(root.join("kybern"));
    }
}

fn remove_cgroup_tree(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for e in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove_cgroup_tree(&e.path());
    }
    let _ = std::fs::remove_dir(dir);
}

/// Removes the cluster's directories.
///
/// # Errors
/// When a file can't be removed.
pub fn files(cluster: &Cluster) -> Result<()> {
    for dir in [cluster.run_dir(), cluster.dir()] {
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot remove {}", dir.display()));
            }
            _ => {}
        }
    }
    let _ = std::fs::remove_dir(RUN_DIR);
    Ok(())
}
