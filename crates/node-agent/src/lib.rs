//! The node agent: what the kubelet, kube-proxy and a CNI plugin do, fed by the node protocol.
//!
//! Must never know: the store, other nodes' pods, who starts it.
//! Entry points: [`agent::Agent`] (joins the cluster and runs the node), [`images::import`] (images from
//! archives), [`teardown`] (takes a node off its machine), [`cni`] (the plugin the runtime calls).
//! Invariants: `pods::plan` and `pods::status` are pure and decide everything; what carries a pod's uid
//! as a label belongs to that pod, also after a restart; containers outlive the agent and containerd;
//! nothing is undone twice or left behind: mounts, cgroups and files of a pod go with it.

pub mod agent;
pub mod cgroup;
pub mod cni;
pub mod config;
pub mod dns;
pub mod error;
pub mod events;
pub mod feed;
pub mod images;
mod ingress;
mod inotify;
pub mod net;
pub mod netcheck;
pub mod network;
pub mod nft;
pub mod node;
pub mod offline;
pub mod pods;
pub mod policy;
pub mod proxy;
pub mod references;
pub mod runtime;
pub mod stream;
pub mod teardown;
pub mod volumes;
