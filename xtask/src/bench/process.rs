//! Memory and CPU of the cluster's programs, from /proc.

use super::cluster::Cluster;
use super::row;
use anyhow::Result;
use std::time::Duration;

/// How long an idle cluster is watched.
const IDLE: Duration = Duration::from_secs(20);
/// Ticks a second of /proc/PID/stat.
const TICKS: f64 = 100.0;

fn rss_mb(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kb = text
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1024.0
}

fn cpu_seconds(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = text.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    ticks / TICKS
}

/// Resident memory of each program.
pub(crate) fn memory(cluster: &Cluster, when: &str) -> Result<()> {
    for (host, pid) in cluster.processes()? {
        memory_of(&format!("{host} {when}"), pid, "");
    }
    Ok(())
}

/// Resident memory of one process.
pub(crate) fn memory_of(what: &str, pid: u32, target: &str) {
    row(&format!("memory of {what}"), format!("{:.1} MB", rss_mb(pid)), target);
}

/// Memory and CPU of all hosts while nothing happens.
pub(crate) fn idle(cluster: &Cluster) -> Result<()> {
    idle_of(cluster, |host| Some(if host.starts_with("server") { "<= 60 MB, <= 1 %" } else { "<= 25 MB, <= 1 %" }))
}

/// The same of the hosts that have a target.
pub(crate) fn idle_of(cluster: &Cluster, target: impl Fn(&str) -> Option<&'static str>) -> Result<()> {
    std::thread::sleep(Duration::from_secs(5));
    let processes = cluster.processes()?;
    let before: Vec<f64> = processes.iter().map(|(_, pid)| cpu_seconds(*pid)).collect();
    std::thread::sleep(IDLE);
    for ((host, pid), before) in processes.iter().zip(before) {
        let share = (cpu_seconds(*pid) - before) / IDLE.as_secs_f64() * 100.0;
        if let Some(target) = target(host) {
            row(&format!("idle {host}"), format!("{:.1} MB {share:.1} %", rss_mb(*pid)), target);
        }
    }
    Ok(())
}
