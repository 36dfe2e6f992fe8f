//! Linux networking primitives: network namespaces and rtnetlink. Used by the CNI plugin, the VXLAN
//! overlay and the dev clusters, so that links are made in one place.

pub mod link;
pub mod netns;
