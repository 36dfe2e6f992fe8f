//! What on a node is known to break a network.

use crate::node::system;
use serde_json::Value;
use tokio::process::Command;

/// In words, with the remedy.
pub(super) async fn wrong() -> Vec<String> {
    let mut wrong: Vec<String> = system::unmet()
        .map(|(name, value)| format!("{name} is not {value}: set it with sysctl (bridge settings need br_netfilter)"))
        .collect();
    match Command::new("nft").args(["-j", "list", "chains"]).kill_on_drop(true).output().await {
        Ok(listed) => wrong.extend(firewalls(&listed.stdout)),
        Err(e) => wrong.push(format!("nft cannot be run (Debian package nftables): {e}")),
    }
    wrong
}

/// Chains of others that drop what no rule of theirs accepts, on the way through the node.
fn firewalls(listed: &[u8]) -> Vec<String> {
    let listed: Value = serde_json::from_slice(listed).unwrap_or_default();
    let chains = listed["nftables"].as_array().into_iter().flatten().map(|entry| &entry["chain"]);
    let drops = chains.filter(|c| c["hook"] == "forward" && c["policy"] == "drop");
    drops
        .map(|c| {
            let word = |key: &str| c[key].as_str().unwrap_or_default();
            format!(
                "the firewall chain {} of table {} {} drops what is passed on: accept the pods' addresses in it",
                word("name"),
                word("family"),
                word("table")
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firewall_that_drops_is_named() {
        let chain = |name: &str, hook: &str, policy: &str| serde_json::json!({"chain": {"family": "ip", "table": "filter", "name": name, "hook": hook, "policy": policy}});
        let listed = serde_json::json!({"nftables": [{"metainfo": {}}, chain("FORWARD", "forward", "drop"),
            chain("INPUT", "input", "drop"), chain("ok", "forward", "accept")]});
        let found = firewalls(listed.to_string().as_bytes());
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("the firewall chain FORWARD of table ip filter drops"), "{found:?}");
        assert!(firewalls(b"").is_empty());
    }
}
