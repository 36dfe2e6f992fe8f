//! What a dev cluster is: its hosts, their addresses and directories, kept in one small file.

use crate::cli::DevArguments;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Where clusters keep their data.
pub const STATE_DIR: &str = "/var/lib/kybern/dev";
/// Where clusters keep sockets, pid files and mounts.
pub const RUN_DIR: &str = "/run/kybern";

/// What a host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs `kybern server`.
    Server,
    /// Runs `kybern agent`.
    Node,
}

/// One host: a network namespace with an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// `server-1`, `node-2`, ...
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Its address on the cluster's bridge.
    pub address: Ipv4Addr,
}

/// A cluster of hosts on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Name, a DNS label of at most 8 characters (interface names are made of it).
    pub name: String,
    /// Third octet of the host network 10.89.N.0/24.
    pub subnet: u8,
    /// Where the gate listens on 127.0.0.1.
    pub gate_port: u16,
    /// Secret part of the join tokens.
    pub hosts: Vec<Host>,
    /// Join token for servers.
    pub server_token: String,
    /// Join token for nodes.
    pub agent_token: String,
    /// What its programs are given besides.
    #[serde(default)]
    pub extra: DevArguments,
}

impl Cluster {
    /// Lays out a cluster: `servers` and `nodes` hosts on a free subnet and gate port.
    ///
    /// # Errors
    /// On a bad name or size.
    pub fn plan(name: &str, servers: usize, nodes: usize, others: &[Cluster]) -> Result<Self> {
        let label = !name.is_empty()
            && name.len() <= 8
            && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.as_bytes()[0].is_ascii_lowercase();
        if !label {
            bail!("cluster name {name:?}: use up to 8 lower-case letters and digits, beginning with a letter");
        }
        if !(1..=9).contains(&servers) || nodes > 100 {
            bail!("a dev cluster has 1 to 9 servers and at most 100 nodes");
        }
        let subnet = (0..=255)
            .find(|s| others.iter().all(|o| o.subnet != *s))
            .context("no free network is left for another dev cluster; delete one with `kybern dev delete`")?;
        let gate_port = 6443 + u16::from(subnet);
        let host = |role, kind: &str, i: usize, base: usize| Host {
            name: format!("{kind}-{}", i + 1),
            role,
            address: Ipv4Addr::new(10, 89, subnet, u8::try_from(base + i).unwrap_or(u8::MAX)),
        };
        let hosts = (0..servers)
            .map(|i| host(Role::Server, "server", i, 11))
            .chain((0..nodes).map(|i| host(Role::Node, "node", i, 21)))
            .collect();
        Ok(Self {
            name: name.into(),
            subnet,
            gate_port,
            hosts,
            server_token: String::new(),
            agent_token: String::new(),
            extra: DevArguments::default(),
        })
    }

    /// Reads a cluster by name; None when there is none.
    ///
    /// # Errors
    /// When its file can't be read.
    pub fn load(name: &str) -> Result<Option<Self>> {
        let path = Path::new(STATE_DIR).join(name).join("cluster.json");
        match std::fs::read(&path) {
            Ok(text) => {
                Ok(Some(serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Reads a cluster that must be there.
    ///
    /// # Errors
    /// When there is none, naming those that are.
    pub fn existing(name: &str) -> Result<Self> {
        Self::load(name)?.with_context(|| {
            let names: Vec<String> = Self::all().into_iter().map(|c| c.name).collect();
            format!(
                "there is no dev cluster {name:?} (there are: {}); create it with `kybern dev create`",
                names.join(", ")
            )
        })
    }

    /// All clusters of this machine.
    pub fn all() -> Vec<Self> {
        let Ok(dir) = std::fs::read_dir(STATE_DIR) else { return Vec::new() };
        let mut found: Vec<Self> =
            dir.filter_map(|e| Self::load(e.ok()?.file_name().to_str()?).ok().flatten()).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Writes the cluster's file.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save(&self) -> Result<()> {
        std::fs::create_dir_all(self.dir())?;
        let path = self.dir().join("cluster.json");
        Ok(kybern_authn::pki::write_private(&path, &serde_json::to_vec_pretty(self)?, false)?)
    }

    /// A host by name.
    ///
    /// # Errors
    /// When there is none, naming those that are.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.iter().find(|h| h.name == name).with_context(|| {
            let names: Vec<&str> = self.hosts.iter().map(|h| h.name.as_str()).collect();
            format!("cluster {} has no host {name:?} (it has: {})", self.name, names.join(", "))
        })
    }

    /// The servers.
    pub fn servers(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|h| h.role == Role::Server)
    }

    /// The nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|h| h.role == Role::Node)
    }

    /// Data of the whole cluster.
    pub fn dir(&self) -> PathBuf {
        Path::new(STATE_DIR).join(&self.name)
    }

    /// Sockets, mounts and pid files of the whole cluster.
    pub fn run_dir(&self) -> PathBuf {
        Path::new(RUN_DIR).join(&self.name)
    }

    /// Data of one host.
    pub fn host_dir(&self, host: &Host) -> PathBuf {
        self.dir().join(&host.name)
    }

    /// Sockets and mounts of one host.
    pub fn host_run_dir(&self, host: &Host) -> PathBuf {
        self.run_dir().join(&host.name)
    }

    /// The kubeconfig for people, through the gate.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir().join("kubeconfig")
    }

    /// The daemon's control socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("daemon.sock")
    }

    /// Name of a host's network namespace.
    pub fn netns(&self, host: &Host) -> String {
        format!("kybern-{}-{}", self.name, host.name)
    }

    /// Name of the namespace that holds the cluster's bridge.
    pub fn bridge_netns(&self) -> String {
        format!("kybern-{}-net", self.name)
    }

    /// The machine's own link into the cluster (at most 15 characters).
    pub fn machine_link(&self) -> String {
        format!("kyb-{}", self.name)
    }

    /// The machine's address on the cluster's network.
    pub fn machine_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 89, self.subnet, 254)
    }

    /// Where hosts send what is for nobody: the bridge, which forwards nothing.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 89, self.subnet, 1)
    }

    /// Cgroup of one host below each hierarchy's root.
    pub fn cgroup(&self, host: &Host) -> String {
        format!("kybern/{}/{}", self.name, host.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_get_addresses_of_their_own() {
        let a = Cluster::plan("dev", 3, 2, &[]).unwrap();
        let b = Cluster::plan("two", 1, 1, std::slice::from_ref(&a)).unwrap();
        assert_eq!(a.hosts.len(), 5);
        assert_eq!(a.host("node-2").unwrap().address.to_string(), "10.89.0.22");
        assert_eq!(b.host("server-1").unwrap().address.to_string(), "10.89.1.11");
        assert_ne!(a.gate_port, b.gate_port);
    }

    #[test]
    fn bad_names_and_sizes_are_refused() {
        for name in ["", "Dev", "a-b", "toolongname", "1a"] {
            assert!(Cluster::plan(name, 3, 2, &[]).is_err(), "{name}");
        }
        assert!(Cluster::plan("dev", 0, 2, &[]).is_err());
        let e = Cluster::plan("dev", 1, 0, &[]).unwrap().host("node-1").unwrap_err().to_string();
        assert!(e.contains("server-1"), "{e}");
    }
}
