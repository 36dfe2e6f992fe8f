//! The CNI plugin: this binary, called by the container runtime for each sandbox. A bridge, a veth pair,
//! an address from the node's podCIDR. CNI 1.0.0; also answers as the `loopback` plugin.

mod config;
pub(crate) mod ipam;
mod plugin;
mod vxlan;

pub use config::{BRIDGE, LINKS, NetConf, Paths, install, installed};
pub use plugin::{attach, detach, run};
pub use vxlan::{Backend, Overlay, Peer};
