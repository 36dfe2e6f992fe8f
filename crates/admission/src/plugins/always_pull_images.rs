//! AlwaysPullImages: nobody runs an image that somebody else's credentials brought onto the node. Off by
//! default.

use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::error::Status;
use serde_json::Value;

#[derive(Debug)]
pub(crate) struct AlwaysPullImages;

impl Plugin for AlwaysPullImages {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    fn mutate(&self, req: &Request<'_>, obj: Option<&mut Value>, _env: &Env<'_>) -> Result<(), Status> {
        let Some(pod) = obj.filter(|_| concerns(req)) else { return Ok(()) };
        for kind in ["initContainers", "containers", "ephemeralContainers"] {
            let list = pod.pointer_mut(&format!("/spec/{kind}")).and_then(Value::as_array_mut);
            for container in list.into_iter().flatten().filter_map(Value::as_object_mut) {
                container.insert("imagePullPolicy".into(), "Always".into());
            }
        }
        Ok(())
    }
}

fn concerns(req: &Request<'_>) -> bool {
    req.is("", "pods")
        && ["", "ephemeralcontainers"].contains(&req.subresource)
        && matches!(req.operation, Operation::Create | Operation::Update)
}
