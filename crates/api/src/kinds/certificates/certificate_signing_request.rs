//! CertificateSigningRequest: asks a signer for a certificate.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text, text_or};
use crate::meta::time;
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests")
        .cluster()
        .short(&["csr"])
        .sub("approval", "CertificateSigningRequest", &["get", "patch", "update"])
        .status()
        .select("spec.signerName")
        .columns([
            name(),
            age(),
            text_or("SignerName", "spec.signerName", cells::NONE),
            text("Requestor", "spec.username"),
            computed("RequestedDuration", "Lifetime that was asked for.", |v| {
                tree::int(v.obj, "spec.expirationSeconds")
                    .map_or(cells::NONE.into(), |s| time::human_duration(s).into())
            }),
            computed("Condition", "How far the request is.", |v| condition(v.obj)),
        ])
        .build()
}

fn condition(obj: &Value) -> Value {
    let has = |kind: &str| cells::condition(obj, kind).is_some();
    let decision = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if tree::text(obj, "status.certificate").is_empty() { "" } else { ",Issued" };
    format!("{decision}{failed}{issued}").into()
}
