//! NamespaceLifecycle: nothing is made in a namespace that is missing or going away.

use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::error::{Cause, Status};
use serde_json::Value;

/// Namespaces that the cluster cannot do without.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

#[derive(Debug)]
pub(crate) struct NamespaceLifecycle;

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    // while mutating already: the other plugins look for things inside the namespace
    fn mutate(&self, req: &Request<'_>, _obj: Option<&mut Value>, env: &Env<'_>) -> Result<(), Status> {
        if req.is_main("", "namespaces", &[Operation::Delete]) && IMMORTAL.contains(&req.name) {
            return Err(req.forbidden("this namespace may not be deleted"));
        }
        let writes = matches!(req.operation, Operation::Create | Operation::Update);
        if !writes || !req.def.namespaced() || req.is("authorization.k8s.io", "localsubjectaccessreviews") {
            return Ok(());
        }
        let Some(namespace) = env.objects.get("", "namespaces", "", req.namespace) else {
            return Err(Status::not_found("", "namespaces", req.namespace));
        };
        if req.operation == Operation::Create && namespace.head.deleting.is_some() {
            return Err(terminating(req));
        }
        Ok(())
    }
}

fn terminating(req: &Request<'_>) -> Status {
    let namespace = req.namespace;
    let mut status =
        req.forbidden(&format!("unable to create new content in namespace {namespace} because it is being terminated"));
    if let Some(details) = status.details.as_mut() {
        details.causes.push(Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        });
    }
    status
}
