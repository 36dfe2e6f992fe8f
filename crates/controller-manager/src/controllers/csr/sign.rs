//! Signs approved requests.

use super::request::{Request, usages_are};
use super::{CLIENT, NODE_CLIENT, NODE_SERVING, add, has};
use crate::CertificateSigner;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Plan, change};
use kybern_reconcile::view::World;
use std::sync::Arc;

/// The definition. The signer is handed in: this crate holds no key.
pub(crate) fn def(signer: Arc<dyn CertificateSigner>) -> ControllerDef {
    ControllerDef {
        name: "certificate-controller",
        watches: vec![Watch::primary::<CertificateSigningRequest>()],
        writes: vec![
            Access::sub::<CertificateSigningRequest>("status", &["update", "patch"]),
            Access {
                group: "certificates.k8s.io".into(),
                resource: "signers".into(),
                verbs: &["sign"],
                names: Vec::new(),
            }
            .named(&[CLIENT, NODE_CLIENT, NODE_SERVING]),
        ],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(move |world, key| plan(world, key, &*signer)),
    }
}

fn plan(world: &World<'_>, key: &Key, signer: &dyn CertificateSigner) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(csr) = world.view.find::<CertificateSigningRequest>("", &key.name)? else { return Ok(plan) };
    let issued = csr.status.as_ref().is_some_and(|s| s.certificate.is_some());
    let ours = [CLIENT, NODE_CLIENT, NODE_SERVING].contains(&csr.spec.signer_name.as_str());
    if !ours || issued || !has(&csr, "Approved") || has(&csr, "Denied") || has(&csr, "Failed") {
        return Ok(plan);
    }
    let mut answered = csr.clone();
    match sign(world, &csr.spec, signer) {
        Ok(chain) => answered.status.get_or_insert_default().certificate = Some(ByteString(chain.into_bytes())),
        Err(why) => add(world, &mut answered, "Failed", "SignerValidationFailed", &why),
    }
    plan.act(change(&csr, &answered, "status")?);
    Ok(plan)
}

/// Checks that the request fits its signer, and signs.
fn sign(
    world: &World<'_>,
    spec: &CertificateSigningRequestSpec,
    signer: &dyn CertificateSigner,
) -> Result<String, String> {
    let request = Request::read(&spec.request.0).map_err(|e| e.to_string())?;
    let fits = match spec.signer_name.as_str() {
        NODE_CLIENT => request.node().is_some() && usages_are(spec, "client auth"),
        NODE_SERVING => request.node().is_some() && usages_are(spec, "server auth"),
        _ => usages_are_for_clients(spec),
    };
    if !fits {
        return Err(format!("the request does not fit the signer {}", spec.signer_name));
    }
    if request.organizations.iter().any(|o| o == "system:masters") {
        return Err("no certificate is issued for system:masters".into());
    }
    let pem = std::str::from_utf8(&spec.request.0).map_err(|_| "the request is not PEM".to_owned())?;
    let usages = spec.usages.clone().unwrap_or_default();
    let seconds = spec.expiration_seconds.and_then(|s| u32::try_from(s).ok());
    signer.sign(&spec.signer_name, pem, &usages, seconds, world.now)
}

fn usages_are_for_clients(spec: &CertificateSigningRequestSpec) -> bool {
    let usages: Vec<&str> = spec.usages.iter().flatten().map(String::as_str).collect();
    usages.contains(&"client auth")
        && usages.iter().all(|u| ["digital signature", "key encipherment", "client auth"].contains(u))
}
