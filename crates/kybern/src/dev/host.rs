//! How a host's program is started: the ordinary `kybern server` or `kybern agent`, inside the host's
//! network namespace.

use super::cluster::{Cluster, Host, Role};
use crate::clock;
use anyhow::{Context, Result};
use kybern_node_agent::net::netns;
use std::process::Stdio;
use tokio::process::{Child, Command};

/// The command line of a host's program.
pub fn arguments(cluster: &Cluster, host: &Host) -> Vec<String> {
    let first = cluster.servers().next().map(|h| h.address.to_string()).unwrap_or_default();
    let mut args: Vec<String> = Vec::new();
    let mut flag = |name: &str, value: String| args.extend([format!("--{name}"), value]);
    flag("data-dir", cluster.host_dir(host).display().to_string());
    flag("node-name", host.name.clone());
    flag("node-ip", host.address.to_string());
    let is_first = cluster.servers().next() == Some(host);
    if !is_first {
        flag("server", format!("https://{first}:6443"));
    }
    match host.role {
        Role::Server => {
            flag("token", cluster.server_token.clone());
            flag("agent-token", cluster.agent_token.clone());
            flag("tls-san", "127.0.0.1".into());
            flag("write-kubeconfig", cluster.host_dir(host).join("kybern.yaml").display().to_string());
            args.insert(0, "server".into());
            if is_first {
                args.push("--cluster-init".into());
            }
            args.extend_from_slice(&cluster.extra.server);
        }
        Role::Node => {
            flag("token", cluster.agent_token.clone());
            flag("run-dir", cluster.host_run_dir(host).display().to_string());
            flag("cgroup-root", cluster.cgroup(host));
            // Nothing of a cluster leaves the machine: a query outside could only time out.
            flag("upstream-dns", "none".into());
            // The disk is the machine's: what others fill of it is no reason to refuse pods, or to remove
            // images that came from archives.
            flag("eviction-hard", "memory.available<100Mi,nodefs.available<1Gi,nodefs.inodesFree<1%".into());
            flag("image-gc-high-threshold", "100".into());
            flag("private-registry", cluster.host_dir(host).join("registries.yaml").display().to_string());
            args.insert(0, "agent".into());
            args.extend_from_slice(&cluster.extra.node);
        }
    }
    args
}

/// Starts a host's program, its clock moved where that is told; its output goes to `kybern.log` in the host's directory.
///
/// # Errors
/// When the namespace is gone or the program can't be started.
pub fn spawn(cluster: &Cluster, host: &Host, clock_offset: Option<&str>) -> Result<Child> {
    let dir = cluster.host_dir(host);
    std::fs::create_dir_all(&dir)?;
    std::fs::create_dir_all(cluster.host_run_dir(host))?;
    let log = std::fs::File::options().create(true).append(true).open(dir.join("kybern.log"))?;
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(offset) = clock_offset {
        command.env(clock::VARIABLE, offset);
    }
    command.args(arguments(cluster, host)).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    let runtime = tokio::runtime::Handle::current();
    netns::run_in(&netns::path(&cluster.netns(host)), move || {
        let _entered = runtime.enter();
        command.spawn()
    })
    .with_context(|| format!("cannot start the program of {}", host.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_server_begins_the_cluster_and_the_others_join_it() {
        let c = Cluster::plan("dev", 2, 1, &[]).unwrap();
        let line = |h: &str| arguments(&c, c.host(h).unwrap()).join(" ");
        assert!(line("server-1").starts_with("server ") && line("server-1").ends_with("--cluster-init"));
        assert!(!line("server-1").contains("--server "));
        assert!(
            line("server-2").contains("--server https://10.89.0.11:6443") && !line("server-2").contains("cluster-init")
        );
        assert!(line("node-1").starts_with("agent ") && line("node-1").contains("--cgroup-root kybern/dev/node-1"));
    }
}
