//! How servers and nodes speak about certificates that are replaced while the cluster runs.

use jiff::Timestamp;

/// Where [`CONFIG_MAP`] is.
pub const NAMESPACE: &str = "kube-system";
/// What the leader tells servers and nodes. Nothing in it is secret; nodes may read it.
pub const CONFIG_MAP: &str = "kybern-certificates";
/// Its key with the CAs of the servers' certificates, PEM.
pub const CA: &str = "ca.crt";
/// Its key with the count of the step that it tells of.
pub const GENERATION: &str = "generation";
/// Its key with the step since which a node's certificate has to be a new one.
pub const LEAVES: &str = "leaves";
/// Under this annotation a Node says which step it has taken.
pub const TAKEN: &str = "kybern.io/certificates";
/// The group of a node whose certificate has expired since it was last heard of: all it may do is ask for
/// its next one.
pub const EXPIRED_NODES: &str = "kybern:expired-nodes";

/// When something that lives from `from` until `until` is to be replaced: at 80 % of its life.
pub fn renew_at(from: Timestamp, until: Timestamp) -> Timestamp {
    from + until.duration_since(from) * 8 / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_fifths_of_a_life() {
        let at = |s| Timestamp::from_second(s).expect("a time");
        assert_eq!(renew_at(at(100), at(200)), at(180));
        assert_eq!(renew_at(at(100), at(100)), at(100));
        assert_eq!(renew_at(at(200), at(100)), at(120), "a life that ends before it begins is over");
    }
}
