//! Linux networking primitives: network namespaces, rtnetlink and netfilter's netlink. Used by the CNI
//! plugin, the VXLAN overlay, the packet rules and the dev clusters, so that each is done in one place.

#[cfg(test)]
pub(crate) mod lab;
pub mod link;
pub(crate) mod netfilter;
pub mod netns;
