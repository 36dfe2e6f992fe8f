//! The plugin's configuration, and how the agent installs it for the runtime.

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The bridge that joins a node's pods.
pub const BRIDGE: &str = "kybern0";

/// How the names of the host's ends of pods' links begin.
pub const LINKS: &str = "ky";

/// The host's end of the veth pair of an address's owner: made of its id, so that DEL finds it again.
pub(super) fn host_link(owner: &str) -> String {
    format!("{LINKS}{}", hex::encode(&Sha256::digest(owner.as_bytes())[..5]))
}

/// Versions of the CNI specification that the plugin speaks, oldest first.
pub const VERSIONS: &[&str] = &["0.3.1", "0.4.0", "1.0.0"];

/// One plugin's configuration, as the runtime passes it on standard input.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NetConf {
    /// Version of the specification to answer in.
    pub cni_version: String,
    /// Name of the network.
    #[serde(default)]
    pub name: String,
    /// `kybern` or `loopback`.
    #[serde(rename = "type")]
    pub plugin: String,
    /// The node's pod addresses; its first address is the bridge's.
    #[serde(rename = "podCIDR", default = "unset")]
    pub pod_cidr: Ipv4Net,
    /// MTU of pod links in bytes; 0: 1500.
    #[serde(default)]
    pub mtu: u32,
    /// Where allocated addresses are kept.
    #[serde(default)]
    pub data_dir: PathBuf,
}

fn unset() -> Ipv4Net {
    Ipv4Net::default()
}

impl NetConf {
    /// The bridge's address: the first of the pod network, every pod's gateway.
    pub fn gateway(&self) -> Ipv4Addr {
        self.pod_cidr.hosts().next().unwrap_or_else(|| self.pod_cidr.network())
    }
    /// MTU of pod links in bytes.
    pub fn mtu(&self) -> u32 {
        if self.mtu == 0 { 1500 } else { self.mtu }
    }
}

/// The configuration's name.
const FILE: &str = "10-kybern.conflist";

/// Where the runtime looks for plugins and their configuration.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Plugins' programs.
    pub bin_dir: PathBuf,
    /// Network configuration.
    pub conf_dir: PathBuf,
}

/// Links this program as the plugins and writes the network's configuration, atomically.
///
/// # Errors
/// When a directory or file can't be written.
pub fn install(paths: &Paths, program: &Path, conf: &NetConf) -> io::Result<()> {
    std::fs::create_dir_all(&paths.bin_dir)?;
    std::fs::create_dir_all(&paths.conf_dir)?;
    std::fs::create_dir_all(&conf.data_dir)?;
    for name in ["kybern", "loopback"] {
        let link = paths.bin_dir.join(name);
        if std::fs::read_link(&link).ok().as_deref() != Some(program) {
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(program, &link)?;
        }
    }
    let list = serde_json::json!({ "cniVersion": conf.cni_version, "name": conf.name, "plugins": [conf] });
    let path = paths.conf_dir.join(FILE);
    let partial = path.with_extension("partial");
    std::fs::write(&partial, serde_json::to_vec_pretty(&list)?)?;
    std::fs::rename(&partial, &path)
}

/// The configuration that is installed.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn installed(paths: &Paths) -> io::Result<NetConf> {
    #[derive(Deserialize)]
    struct List {
        plugins: Vec<NetConf>,
    }
    let list: List = serde_json::from_slice(&std::fs::read(paths.conf_dir.join(FILE))?)?;
    list.plugins.into_iter().next().ok_or_else(|| io::ErrorKind::NotFound.into())
}
