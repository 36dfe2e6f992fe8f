//! DenyServiceExternalIPs: nobody draws other people's traffic to a Service by claiming their address
//! (CVE-2020-8554). On by default here.

use crate::paths::list;
use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::error::Status;
use serde_json::Value;

#[derive(Debug)]
pub(crate) struct DenyServiceExternalIPs;

impl Plugin for DenyServiceExternalIPs {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn validate(&self, req: &Request<'_>, obj: Option<&Value>, _env: &Env<'_>) -> Result<(), Status> {
        let operations = [Operation::Create, Operation::Update];
        let Some(service) = obj.filter(|_| req.is_main("", "services", &operations)) else { return Ok(()) };
        let path = "/spec/externalIPs";
        let before = req.old.map_or(&[][..], |old| list(old, path));
        if list(service, path).iter().any(|address| !before.contains(address)) {
            return Err(req.forbidden("Use of external IPs is denied by admission control."));
        }
        Ok(())
    }
}
