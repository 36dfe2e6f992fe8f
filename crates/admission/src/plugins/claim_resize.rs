//! PersistentVolumeClaimResize: a claim grows only where its class says that it can.

use crate::paths::text;
use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::error::Status;
use kybern_api::meta::quantity::Quantity;
use serde_json::Value;

#[derive(Debug)]
pub(crate) struct PersistentVolumeClaimResize;

impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn validate(&self, req: &Request<'_>, obj: Option<&Value>, env: &Env<'_>) -> Result<(), Status> {
        let updates = req.is_main("", "persistentvolumeclaims", &[Operation::Update]);
        let (Some(claim), Some(old)) = (obj.filter(|_| updates), req.old) else { return Ok(()) };
        let size = |claim: &Value| {
            let asked = claim.pointer("/spec/resources/requests/storage")?;
            Quantity::from_value(asked).ok()
        };
        if size(claim) <= size(old) {
            return Ok(());
        }
        if text(old, "/status/phase") != "Bound" {
            return Err(req.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let class = env.objects.get("storage.k8s.io", "storageclasses", "", text(claim, "/spec/storageClassName"));
        let class = class.and_then(|c| c.tree().ok()).unwrap_or_default();
        if class.get("allowVolumeExpansion").and_then(Value::as_bool) == Some(true) {
            return Ok(());
        }
        Err(req.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        ))
    }
}
