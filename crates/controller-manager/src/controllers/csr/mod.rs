//! Certificate signing requests: approved for nodes, signed when approved, cleaned up when old.
//!
//! `request` reads what is asked for, `approve`, `sign` and `clean` are three controllers.

mod approve;
mod clean;
mod request;
mod sign;

pub(crate) use approve::def as approver;
pub(crate) use clean::def as cleaner;
pub(crate) use sign::def as signer;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use kybern_reconcile::view::World;

/// Client certificates of nodes.
const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Serving certificates of nodes.
const NODE_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Client certificates of anybody, approved by a person.
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

fn has(csr: &CertificateSigningRequest, condition: &str) -> bool {
    csr.status
        .as_ref()
        .and_then(|s| s.conditions.as_ref())
        .is_some_and(|c| c.iter().any(|c| c.type_ == condition && c.status == "True"))
}

fn add(world: &World<'_>, csr: &mut CertificateSigningRequest, kind: &str, reason: &str, message: &str) {
    let conditions = csr.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: kind.into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: Some(world.time()),
        last_transition_time: Some(world.time()),
    });
}
