//! Deletes requests nobody needs any more.

use super::has;
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Plan, delete, later};
use kybern_reconcile::view::{World, decode};
use std::sync::Arc;
use std::time::Duration;

/// A decided request stays this long after the decision.
const DECIDED: Duration = Duration::from_secs(3600);
/// A request nobody decides stays this long.
const PENDING: Duration = Duration::from_secs(24 * 3600);

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "csr-cleaner",
        watches: vec![Watch::primary::<CertificateSigningRequest>()],
        writes: vec![Access::to::<CertificateSigningRequest>(&["delete"])],
        seeds: Vec::new(),
        workers: 1,
        plan: Arc::new(plan),
    }
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(item) = world.view.get::<CertificateSigningRequest>("", &key.name) else { return Ok(plan) };
    let csr: CertificateSigningRequest = decode(item)?;
    let due = due(&csr, Timestamp::from_second(item.object.head.created).unwrap_or_default());
    if due <= world.now {
        plan.act(delete(&typed::resource::<CertificateSigningRequest>(), &item.object, None));
    } else {
        plan.at(due, world.now);
    }
    Ok(plan)
}

fn due(csr: &CertificateSigningRequest, created: Timestamp) -> Timestamp {
    let issued = csr.status.as_ref().is_some_and(|s| s.certificate.is_some());
    let decided = issued || has(csr, "Denied") || has(csr, "Failed");
    let conditions = csr.status.as_ref().and_then(|s| s.conditions.as_ref());
    let last = conditions.into_iter().flatten().filter_map(|c| c.last_update_time.as_ref().map(|t| t.0)).max();
    match last.filter(|_| decided) {
        Some(at) => later(at, DECIDED),
        None => later(created, PENDING),
    }
}
