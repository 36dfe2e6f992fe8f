//! TaintNodesByCondition: a new node takes no pods until it is known to be ready.

use crate::paths::{list_mut, object_mut, text};
use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::error::Status;
use serde_json::{Value, json};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

#[derive(Debug)]
pub(crate) struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn mutate(&self, req: &Request<'_>, obj: Option<&mut Value>, _env: &Env<'_>) -> Result<(), Status> {
        let Some(node) = obj.filter(|_| req.is_main("", "nodes", &[Operation::Create])) else { return Ok(()) };
        if let Some(taints) = object_mut(node, "spec").and_then(|spec| list_mut(spec, "taints"))
            && !taints.iter().any(|t| text(t, "/key") == NOT_READY && text(t, "/effect") == "NoSchedule")
        {
            taints.push(json!({ "key": NOT_READY, "effect": "NoSchedule" }));
        }
        Ok(())
    }
}
