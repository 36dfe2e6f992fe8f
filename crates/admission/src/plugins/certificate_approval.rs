//! CertificateApproval: who approves or denies a request needs `approve` on its signer.

use crate::plugin::{Env, Operation, Plugin, Request};
use crate::plugins::certificate_signing::may_for_signer;
use kybern_api::error::Status;
use serde_json::Value;

#[derive(Debug)]
pub(crate) struct CertificateApproval;

impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn validate(&self, req: &Request<'_>, _obj: Option<&Value>, env: &Env<'_>) -> Result<(), Status> {
        let concerns = req.is("certificates.k8s.io", "certificatesigningrequests")
            && req.operation == Operation::Update
            && req.subresource == "approval";
        if concerns { may_for_signer(req, "approve", env) } else { Ok(()) }
    }
}
