//! The node's Lease: the sign of life that the node controller reads.

use crate::error::Result;
use kybern_api::meta::time;
use kybern_api::seam::Clock;
use kybern_client::transport::{MERGE_PATCH, Resource};
use kybern_client::write::{At, Writer};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Renewed this often.
const PERIOD: Duration = Duration::from_secs(10);
/// Valid for so many seconds.
const DURATION: i64 = 40;
/// A failed renewal is repeated after this time.
const RETRY: Duration = Duration::from_secs(1);
const NAMESPACE: &str = "kube-node-lease";

/// Renews the lease until cancelled.
pub async fn run(writer: Writer, node: String, uid: String, clock: Arc<dyn Clock>, cancel: CancellationToken) {
    loop {
        let pause = match renew(&writer, &node, &uid, &*clock).await {
            Ok(()) => PERIOD,
            Err(e) => {
                tracing::warn!(error = %e, "the node's lease was not renewed");
                RETRY
            }
        };
        if cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

async fn renew(writer: &Writer, node: &str, uid: &str, clock: &dyn Clock) -> Result<()> {
    let resource = Resource::new("coordination.k8s.io", "v1", "leases");
    let spec = json!({
        "holderIdentity": node, "leaseDurationSeconds": DURATION, "renewTime": time::micro(clock.now()),
    });
    let at = At { resource: &resource, namespace: NAMESPACE, name: node, subresource: "" };
    match writer.patch(at, MERGE_PATCH, &json!({ "spec": spec })).await {
        Err(e) if e.reason == kybern_api::error::Reason::NotFound => {}
        other => return other.map(drop).map_err(Into::into),
    }
    let owner = json!([{ "apiVersion": "v1", "kind": "Node", "name": node, "uid": uid }]);
    let lease = json!({
        "kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "metadata": { "name": node, "namespace": NAMESPACE, "ownerReferences": owner }, "spec": spec,
    });
    writer.create(At { name: "", ..at }, &lease).await.map(drop).map_err(Into::into)
}
