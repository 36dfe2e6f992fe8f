//! Approves requests of nodes for their own certificates.

use super::request::{Request, usages_are};
use super::{NODE_CLIENT, NODE_SERVING, add, has};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::api::core::v1::Node;
use kybern_api::certificates::EXPIRED_NODES;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Plan, change};
use kybern_reconcile::view::{View, World};
use std::sync::Arc;

const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "csr-approving-controller",
        watches: vec![Watch::primary::<CertificateSigningRequest>(), Watch::read::<Node>()],
        writes: vec![
            Access::sub::<CertificateSigningRequest>("approval", &["update", "patch"]),
            Access {
                group: "certificates.k8s.io".into(),
                resource: "signers".into(),
                verbs: &["approve"],
                names: Vec::new(),
            }
            .named(&[NODE_CLIENT, NODE_SERVING]),
        ],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(plan),
    }
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(csr) = world.view.find::<CertificateSigningRequest>("", &key.name)? else { return Ok(plan) };
    if ["Approved", "Denied", "Failed"].iter().any(|c| has(&csr, c)) {
        return Ok(plan);
    }
    let Some((reason, message)) = verdict(world.view, &csr.spec)? else { return Ok(plan) };
    let mut approved = csr.clone();
    add(world, &mut approved, "Approved", reason, message);
    plan.act(change(&csr, &approved, "approval")?);
    Ok(plan)
}

/// Why a request is approved; None leaves it to a person.
fn verdict(view: &View, spec: &CertificateSigningRequestSpec) -> Result<Option<(&'static str, &'static str)>, Error> {
    if ![NODE_CLIENT, NODE_SERVING].contains(&spec.signer_name.as_str()) {
        return Ok(None);
    }
    let request = Request::read(&spec.request.0)?;
    let Some(node) = request.node() else { return Ok(None) };
    let in_group = |group: &str| spec.groups.iter().flatten().any(|g| g == group);
    let named = spec.username.as_deref() == Some(request.common_name.as_str());
    let itself = named && in_group("system:nodes");
    if spec.signer_name == NODE_CLIENT {
        let itself = itself || named && in_group(EXPIRED_NODES);
        let plain = request.dns_names.is_empty() && request.addresses.is_empty() && !request.other_names;
        if !plain || !usages_are(spec, "client auth") {
            return Ok(None);
        }
        return Ok(match (itself, in_group(BOOTSTRAPPERS)) {
            (true, _) => Some(("AutoApproved", "Auto approving self kubelet client certificate.")),
            (false, true) => {
                Some(("AutoApproved", "Auto approving kubelet client certificate after a bootstrap token."))
            }
            (false, false) => None,
        });
    }
    let fits =
        itself && !request.other_names && usages_are(spec, "server auth") && serves_only_itself(view, node, &request)?;
    Ok(fits.then_some(("AutoApproved", "Auto approving kubelet serving certificate for the node's own names.")))
}

/// Are all names of a serving certificate the node's own?
fn serves_only_itself(view: &View, node: &str, request: &Request) -> Result<bool, Error> {
    let Some(object) = view.find::<Node>("", node)? else { return Ok(false) };
    let own: Vec<String> =
        object.status.and_then(|s| s.addresses).unwrap_or_default().into_iter().map(|a| a.address).collect();
    let named = !request.dns_names.is_empty() || !request.addresses.is_empty();
    let dns = request.dns_names.iter().all(|n| n == node || own.contains(n));
    Ok(named && dns && request.addresses.iter().all(|ip| own.contains(&ip.to_string())))
}
