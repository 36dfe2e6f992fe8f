//! Names and addresses of the nodes, by number.

use anyhow::{Result, bail};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Prefix length of a node's range.
const NODE_PREFIX: u8 = 24;
/// Pods of one node that can have an address: the first address of its range is the node's own.
pub(super) const HOSTS: u32 = 253;

/// How many nodes, and where their addresses lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    nodes: u32,
    first: u32,
}

impl Layout {
    /// Cuts `range` into the nodes' ranges.
    ///
    /// # Errors
    /// When there are none, or the range is too small for them.
    pub(super) fn new(nodes: u32, range: Ipv4Net) -> Result<Self> {
        let room = NODE_PREFIX.checked_sub(range.prefix_len()).map_or(0, |bits| 1u64 << bits);
        if nodes == 0 {
            bail!("--nodes must be at least 1");
        }
        if u64::from(nodes) > room {
            bail!("--pod-cidr {range} has room for {room} nodes of a /{NODE_PREFIX} each, not for {nodes}");
        }
        Ok(Self { nodes, first: u32::from(range.network()) })
    }

    /// The numbers of all nodes.
    pub(super) fn numbers(self) -> std::ops::Range<u32> {
        0..self.nodes
    }

    /// A node's name.
    pub(super) fn name(node: u32) -> String {
        format!("hollow-{node}")
    }

    /// The number of a node of ours.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let digits = name.strip_prefix("hollow-")?;
        let node: u32 = digits.parse().ok().filter(|n| *n < self.nodes)?;
        (digits == node.to_string()).then_some(node)
    }

    /// A node's range of pod addresses.
    pub(super) fn range(self, node: u32) -> String {
        format!("{}/{NODE_PREFIX}", Ipv4Addr::from(self.first + (node << 8)))
    }

    /// The node's own address.
    pub(super) fn address(self, node: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.first + (node << 8) + 1)
    }

    /// The address of a node's `host`-th pod.
    pub(super) fn pod_address(self, node: u32, host: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.first + (node << 8) + 2 + host)
    }

    /// Which of a node's pods has this address.
    pub(super) fn host(self, node: u32, address: &str) -> Option<u32> {
        let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
        address.checked_sub(self.first + (node << 8) + 2).filter(|host| *host < HOSTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_lead_back_to_their_numbers() {
        let layout = Layout::new(1_000, "10.128.0.0/10".parse().unwrap()).unwrap();
        for node in [0, 1, 999] {
            assert_eq!(layout.number(&Layout::name(node)), Some(node));
            assert_eq!(layout.host(node, &layout.pod_address(node, 252).to_string()), Some(252));
            assert_eq!(layout.host(node, &layout.address(node).to_string()), None);
        }
        assert_eq!((layout.range(257), layout.address(257).to_string()), ("10.129.1.0/24".into(), "10.129.1.1".into()));
        for other in ["hollow-1000", "hollow-01", "hollow-", "node-1"] {
            assert_eq!(layout.number(other), None, "{other}");
        }
    }

    #[test]
    fn a_range_that_is_too_small_is_refused() {
        assert!(Layout::new(4, "10.0.0.0/22".parse().unwrap()).is_ok());
        let why = Layout::new(5, "10.0.0.0/22".parse().unwrap()).unwrap_err().to_string();
        assert!(why.contains("room for 4 nodes"), "{why}");
        assert!(Layout::new(1, "10.0.0.0/25".parse().unwrap()).is_err());
        assert!(Layout::new(0, "10.0.0.0/8".parse().unwrap()).is_err());
    }
}
