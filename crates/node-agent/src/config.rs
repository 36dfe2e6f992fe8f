//! What the agent is told at start, and where its files lie.

use crate::error::{Error, Result};
use crate::node::pressure::Thresholds;
use kybern_api::meta::quantity::Quantity;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A taint the node registers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value, may be empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// Settings of one node agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name.
    pub name: String,
    /// What outlives a reboot: images, volumes, logs, certificates.
    pub data_dir: PathBuf,
    /// What does not: sockets, network namespaces.
    pub state_dir: PathBuf,
    /// The node's address in the cluster.
    pub node_ip: IpAddr,
    /// Path below each cgroup controller under which the node's pods live, for example `/kybern/n1`.
    pub cgroup_root: String,
    /// Socket of a container runtime to use instead of an own containerd.
    pub runtime_endpoint: Option<PathBuf>,
    /// Labels to register with, besides the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// Taints to register with.
    pub taints: Vec<Taint>,
    /// Pods the node takes; 110 unless told otherwise.
    pub max_pods: u32,
    /// Addresses of the cluster's DNS service.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Servers for names outside the cluster; None: those of the machine's resolv.conf. An empty list
    /// means that nothing outside can be reached: such names are refused at once.
    pub upstream_dns: Option<Vec<IpAddr>>,
    /// Registry settings (mirrors, CAs, users), in k3s's form; the file need not exist.
    pub registries: PathBuf,
    /// Sysctls that pods may set besides the safe ones.
    pub unsafe_sysctls: Vec<String>,
    /// Directory of static pods.
    pub manifests: PathBuf,
    /// Directory of image archives that are put into the runtime.
    pub images: PathBuf,
    /// What the machine keeps for itself: resource and quantity.
    pub reserved: BTreeMap<String, Quantity>,
    /// When pods are evicted.
    pub eviction: Thresholds,
    /// Above which share of the disk in use unused images are removed, and until below which; in percent.
    pub image_gc: (u8, u8),
    /// Do pods start again after a reboot while no server can be reached?
    pub offline_restart: bool,
    /// Does the node get image content from other nodes, and give it to them?
    pub share_images: bool,
    /// Where the Ingress proxy listens; None: there is none on this node.
    pub ingress: Option<kybern_ingress::Config>,
}

impl Config {
    /// A node with the usual settings.
    pub fn new(name: &str, data_dir: &Path, state_dir: &Path, node_ip: IpAddr) -> Self {
        Self {
            name: name.into(),
            data_dir: data_dir.into(),
            state_dir: state_dir.into(),
            node_ip,
            cgroup_root: format!("/kybern/{name}"),
            runtime_endpoint: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            max_pods: 110,
            cluster_dns: vec![IpAddr::from([10, 43, 0, 10])],
            cluster_domain: "cluster.local".into(),
            upstream_dns: None,
            registries: "/etc/kybern/registries.yaml".into(),
            unsafe_sysctls: Vec::new(),
            manifests: data_dir.join("pod-manifests"),
            images: data_dir.join("images"),
            reserved: BTreeMap::new(),
            eviction: Thresholds::default(),
            image_gc: (85, 80),
            offline_restart: false,
            share_images: true,
            ingress: None,
        }
    }
    /// Where things lie.
    pub fn paths(&self) -> Paths {
        Paths { data: self.data_dir.clone(), state: self.state_dir.clone() }
    }
}

/// Where a node's files lie.
#[derive(Debug, Clone)]
pub struct Paths {
    data: PathBuf,
    state: PathBuf,
}

impl Paths {
    /// The paths of a node with these directories.
    pub fn new(data_dir: &Path, state_dir: &Path) -> Self {
        Self { data: data_dir.into(), state: state_dir.into() }
    }
    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }
    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }
    /// containerd's content, snapshots and metadata.
    pub fn containerd_root(&self) -> PathBuf {
        self.data.join("containerd")
    }
    /// containerd's run-time state.
    pub fn containerd_state(&self) -> PathBuf {
        self.state.join("containerd")
    }
    /// containerd's socket. Shims listen beside it; Unix socket paths are short, so is this.
    pub fn containerd_socket(&self) -> PathBuf {
        self.state.join("containerd.sock")
    }
    /// containerd's generated configuration.
    pub fn containerd_config(&self) -> PathBuf {
        self.state.join("containerd.toml")
    }
    /// containerd's registry settings, a directory per registry.
    pub fn registry_hosts(&self) -> PathBuf {
        self.state.join("certs.d")
    }
    /// What containerd writes.
    pub fn containerd_log(&self) -> PathBuf {
        self.data.join("containerd.log")
    }
    /// Process id of the containerd that was started last.
    pub fn containerd_pid(&self) -> PathBuf {
        self.state.join("containerd.pid")
    }
    /// Which image archives have been imported.
    pub fn imported_images(&self) -> PathBuf {
        self.data.join("images.json")
    }
    /// CNI plugin binaries.
    pub fn cni_bin(&self) -> PathBuf {
        self.data.join("cni/bin")
    }
    /// CNI configuration.
    pub fn cni_conf(&self) -> PathBuf {
        self.state.join("cni/net.d")
    }
    /// The node's certificate and key.
    pub fn pki(&self) -> PathBuf {
        self.data.join("pki")
    }
    /// Persistent volumes on this node's disk, by name. Nothing else lies here.
    pub fn storage(&self) -> PathBuf {
        self.data.join("storage")
    }
    /// Pods as they are remembered for a start without servers.
    pub fn offline(&self) -> PathBuf {
        self.data.join("offline")
    }
    /// Directories of all pods, by uid.
    pub fn pods(&self) -> PathBuf {
        self.data.join("pods")
    }
    /// One pod's directory.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }
    /// Logs of all pods.
    pub fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }
    /// One pod's logs, a directory per container, a file per attempt (`0.log`).
    pub fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.logs().join(format!("{namespace}_{name}_{uid}"))
    }
    /// Removes the logs of a pod of which only the uid is known.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn remove_logs(&self, uid: &str) -> Result<()> {
        let is_of = |dir: &std::ffi::OsStr| dir.to_string_lossy().rsplit_once('_').is_some_and(|(_, of)| of == uid);
        let entries = std::fs::read_dir(self.logs()).into_iter().flatten().flatten();
        for entry in entries.filter(|e| !uid.is_empty() && is_of(&e.file_name())) {
            std::fs::remove_dir_all(entry.path()).map_err(Error::file("remove", &entry.path()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_found_by_the_pods_uid() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path(), dir.path());
        for (name, uid) in [("a", "u-1"), ("b", "u-2")] {
            std::fs::create_dir_all(paths.pod_logs("ns", name, uid).join("main")).unwrap();
        }
        paths.remove_logs("u-1").unwrap();
        paths.remove_logs("").unwrap();
        assert!(!paths.pod_logs("ns", "a", "u-1").exists() && paths.pod_logs("ns", "b", "u-2").exists());
    }
}
