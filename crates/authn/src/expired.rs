//! What the expired certificate of a node is still good for.
//!
//! A node renews at 80 % of its certificate's life, so one that is heard of always has a valid one. When
//! the cluster, or the node alone, was off until it had expired, the node could never come back by itself.
//! So the rule: a certificate that was valid when the node was last heard of (by its Lease, which only a
//! valid certificate can have renewed) may still ask for the next one. A stolen older certificate of a node
//! that lives fails the rule, and so does that of a node that was deleted.

use crate::authenticator::Outcome;
use kybern_api::attributes::UserInfo;
use kybern_api::certificates::EXPIRED_NODES;
use kybern_api::seam::Lister;
use serde::Deserialize;

/// Where the Leases of nodes are.
const LEASES: &str = "kube-node-lease";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lease {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    renew_time: jiff::Timestamp,
}

/// The outcome for the user of a certificate that expired at `end`.
pub(crate) fn node(user: UserInfo, end: i64, objects: &dyn Lister) -> Outcome {
    let Some(name) = user.node_name() else {
        return Outcome::rejected(format!("the client certificate of {} has expired", user.name));
    };
    let lease = objects.get("coordination.k8s.io", "leases", LEASES, name);
    let (Some(_), Some(lease)) = (objects.get("", "nodes", "", name), lease) else {
        return Outcome::Absent(format!("the certificate of node {name} has expired, and it was never heard of"));
    };
    match serde_json::from_slice::<Lease>(&lease.bytes) {
        Ok(lease) if lease.spec.renew_time.as_second() <= end => {
            Outcome::Known(UserInfo { groups: vec![EXPIRED_NODES.to_owned()], ..user })
        }
        Ok(_) => Outcome::rejected(format!("an old, expired certificate of node {name}: it has had a newer one")),
        Err(e) => Outcome::rejected(format!("the certificate of node {name} has expired; its Lease: {e}")),
    }
}
