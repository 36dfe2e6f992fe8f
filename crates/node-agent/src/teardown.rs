//! Takes a node off its machine: processes, mounts and cgroups, whatever state they are in.
//!
//! It asks no runtime, so it works also after everything was killed.

use crate::cgroup::Cgroups;
use crate::config::Paths;
use crate::error::{Error, Result};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long killed processes get to vanish.
const EXIT: Duration = Duration::from_secs(10);

/// Kills every container, shim and containerd of a node, undoes its mounts and removes its cgroups.
/// Files stay. The agent must not be running.
///
/// # Errors
/// The first thing that could not be undone; everything else is.
pub async fn teardown(paths: &Paths, cgroup_root: &str) -> Result<()> {
    let cgroups = Cgroups::new(cgroup_root);
    let mut own = runtime_processes(paths);
    // First those that would start others.
    kill_all(&own);
    let containers = cgroups.processes();
    kill_all(&containers);
    own.extend(containers);
    wait_for_exit(&own).await;
    let unmounted = unmount_below(&[paths.data(), paths.state()]);
    let removed = cgroups.remove_all();
    let pid_file = paths.containerd_pid();
    if pid_file.exists() {
        std::fs::remove_file(&pid_file).map_err(Error::file("remove", &pid_file))?;
    }
    unmounted.and(removed)
}

/// containerd and its shims: processes with one of this node's paths among their arguments.
fn runtime_processes(paths: &Paths) -> Vec<i32> {
    let marks = [paths.containerd_config(), paths.containerd_socket()];
    let is_ours = |pid: &i32| {
        let Ok(command) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        let mut arguments = command.split(|b| *b == 0);
        let program = arguments.next().unwrap_or_default();
        let runtime = String::from_utf8_lossy(program).rsplit('/').next().is_some_and(|p| p.starts_with("containerd"));
        runtime && arguments.any(|a| marks.iter().any(|m| a == m.as_os_str().as_encoded_bytes()))
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(is_ours).collect()
}

fn kill_all(pids: &[i32]) {
    for pid in pids {
        // A process that is gone already is what we want.
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
}

/// Waits until the processes are gone. They are no children of ours, so there is nothing to wait on
/// but /proc. Dead ones that their parent has not reaped (state Z) count as gone.
async fn wait_for_exit(pids: &[i32]) {
    let lives = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with('Z'))
    };
    let deadline = tokio::time::Instant::now() + EXIT;
    while pids.iter().any(lives) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Mount points at or below these directories, deepest first.
pub fn mounts_below(dirs: &[&Path]) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|l| l.split(' ').nth(4)).map(|p| PathBuf::from(unescape(p)));
    let mut found: Vec<PathBuf> = points.filter(|p| dirs.iter().any(|d| p.starts_with(d))).collect();
    // The table lists mounts in the order they were made; those on top must go first.
    found.reverse();
    found
}

/// Undoes every mount below the directories.
///
/// # Errors
/// When one cannot be undone.
pub fn unmount_below(dirs: &[&Path]) -> Result<()> {
    let mut outcome = Ok(());
    for point in mounts_below(dirs) {
        if let Err(e) = umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            outcome = outcome.and(Err(Error::file("unmount", &point)(e.into())));
        }
    }
    outcome
}

/// mountinfo writes space, tab, newline and backslash as octal escapes.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|c| u8::from_str_radix(c, 8).ok());
        match code {
            Some(c) => {
                out.push(char::from(c));
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_in_the_mount_table() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape("/plain"), "/plain");
    }
}
