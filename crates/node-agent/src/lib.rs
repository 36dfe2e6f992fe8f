//! The node agent: what the kubelet, kube-proxy and a CNI plugin do, fed by the node protocol.
//!
//! Must never know: the store, other nodes' pods. Entry point: the agent (`Agent::run`).

pub mod cgroup;
pub mod cni;
pub mod config;
pub mod dns;
pub mod error;
pub mod feed;
pub mod images;
pub mod net;
pub mod network;
pub mod proxy;
pub mod runtime;
pub mod teardown;
