//! Signs approved certificate requests with the cluster's client and server CAs.

use super::certificates::Keeper;
use jiff::Timestamp;
use kybern_authn::pki::signer::{Signer, lifetime};
use kybern_authn::pki::{CertificateRequest, Usages};
use kybern_controller_manager::CertificateSigner;
use std::sync::Arc;

/// The signer of Kubernetes' own signer names.
#[derive(Debug)]
pub(super) struct ClusterSigner(pub(super) Arc<Keeper>);

impl CertificateSigner for ClusterSigner {
    fn sign(
        &self,
        signer_name: &str,
        csr_pem: &str,
        usages: &[String],
        expiration_seconds: Option<u32>,
        now: Timestamp,
    ) -> Result<String, String> {
        let text = |e: kybern_authn::Error| e.to_string();
        let signer = Signer::from_name(signer_name).ok_or_else(|| format!("no signer is named {signer_name}"))?;
        let request = CertificateRequest::from_pem(csr_pem.as_bytes()).map_err(text)?;
        signer.check(&request, usages).map_err(text)?;
        let usages = Usages::parse(usages).map_err(text)?;
        let lifetime = lifetime(expiration_seconds.map(i64::from));
        request.sign(&self.0.keys().client_ca, &usages, now, lifetime).map_err(text)
    }
}
