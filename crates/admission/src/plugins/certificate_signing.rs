//! CertificateSigning: who puts a certificate into a request needs `sign` on its signer.

use crate::paths::text;
use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::attributes::Attributes;
use kybern_api::error::Status;
use serde_json::Value;

const GROUP: &str = "certificates.k8s.io";

#[derive(Debug)]
pub(crate) struct CertificateSigning;

impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn validate(&self, req: &Request<'_>, obj: Option<&Value>, env: &Env<'_>) -> Result<(), Status> {
        let concerns = req.is(GROUP, "certificatesigningrequests")
            && req.operation == Operation::Update
            && req.subresource == "status";
        let (Some(new), Some(old)) = (obj.filter(|_| concerns), req.old) else { return Ok(()) };
        let same = |pointer: &str| new.pointer(pointer) == old.pointer(pointer);
        if same("/status/certificate") && same("/status/conditions") {
            return Ok(());
        }
        may_for_signer(req, "sign", env)
    }
}

/// Asks for a verb on the stored request's signer, by its name or by its domain (`example.com/*`).
pub(crate) fn may_for_signer(req: &Request<'_>, verb: &str, env: &Env<'_>) -> Result<(), Status> {
    // of the stored object: the writer could name another signer
    let signer = req.old.map(|old| text(old, "/spec/signerName")).unwrap_or_default();
    let domain = signer.split_once('/').map(|(domain, _)| format!("{domain}/*"));
    let allowed = [Some(signer.to_owned()), domain].into_iter().flatten().any(|name| {
        (env.may)(&Attributes {
            user: req.user.clone(),
            verb: verb.into(),
            group: GROUP.into(),
            version: "*".into(),
            resource: "signers".into(),
            name,
            ..Attributes::default()
        })
    });
    if allowed {
        return Ok(());
    }
    Err(req.forbidden(&format!("user not permitted to {verb} requests with signerName \"{signer}\"")))
}
