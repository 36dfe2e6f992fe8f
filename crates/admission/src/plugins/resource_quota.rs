//! ResourceQuota: what a quota bounds must be stated.
//!
//! The amounts themselves are taken where the object is written, in the same transaction; this plugin
//! being on is what turns that on.

use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::error::Status;
use kybern_api::quota::Quota;
use serde_json::Value;

#[derive(Debug)]
pub(crate) struct ResourceQuota;

impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn validate(&self, req: &Request<'_>, obj: Option<&Value>, env: &Env<'_>) -> Result<(), Status> {
        let judged = req.operation == Operation::Create && req.subresource.is_empty() && !req.namespace.is_empty();
        let Some(object) = obj.filter(|_| judged && req.def.strategy.usage_varies()) else { return Ok(()) };
        for stored in env.objects.list("", "resourcequotas", Some(req.namespace)) {
            let tree = stored.tree().map_err(|e| Status::internal(e.to_string()))?;
            let quota = Quota::of(&tree);
            if !quota.covers(req.def, object) {
                continue;
            }
            if let Some(unsaid) = req.def.strategy.unsaid(object, &quota) {
                return Err(req.forbidden(&format!("failed quota: {}: {unsaid}", quota.name)));
            }
        }
        Ok(())
    }
}
