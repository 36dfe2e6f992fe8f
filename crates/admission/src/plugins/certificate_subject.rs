//! CertificateSubjectRestriction: no request for a client certificate of the all-powerful group.

use crate::paths::text;
use crate::plugin::{Env, Operation, Plugin, Request};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use kybern_api::error::Status;
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

#[derive(Debug)]
pub(crate) struct CertificateSubjectRestriction;

impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn validate(&self, req: &Request<'_>, obj: Option<&Value>, _env: &Env<'_>) -> Result<(), Status> {
        let Some(request) =
            obj.filter(|_| req.is_main("certificates.k8s.io", "certificatesigningrequests", &[Operation::Create]))
        else {
            return Ok(());
        };
        if text(request, "/spec/signerName") != "kubernetes.io/kube-apiserver-client" {
            return Ok(());
        }
        match subject(request) {
            Some(subject) if !subject.organizations.iter().any(|o| o == "system:masters") => Ok(()),
            Some(_) => Err(req.forbidden(
                "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
            )),
            None => Err(req.forbidden("spec.request cannot be read")),
        }
    }
}

/// Whom a certificate request names.
pub(crate) struct Subject {
    pub(crate) common_names: Vec<String>,
    pub(crate) organizations: Vec<String>,
}

/// The subject of a CertificateSigningRequest object; None where its request cannot be read.
pub(crate) fn subject(object: &Value) -> Option<Subject> {
    let pem = STANDARD.decode(text(object, "/spec/request")).ok()?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&block.contents).ok()?;
    let name = &request.certification_request_info.subject;
    let texts = |found: &mut dyn Iterator<Item = &x509_parser::x509::AttributeTypeAndValue<'_>>| {
        found.map(|a| a.as_str().map(str::to_owned).ok()).collect::<Option<Vec<_>>>()
    };
    Some(Subject {
        common_names: texts(&mut name.iter_common_name())?,
        organizations: texts(&mut name.iter_organization())?,
    })
}
