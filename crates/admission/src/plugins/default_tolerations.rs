//! DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or unreachable.

use crate::paths::{list_mut, object_mut, text};
use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::error::Status;
use serde_json::{Value, json};

const KEYS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: u32 = 300;

#[derive(Debug)]
pub(crate) struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn mutate(&self, req: &Request<'_>, obj: Option<&mut Value>, _env: &Env<'_>) -> Result<(), Status> {
        let operations = [Operation::Create, Operation::Update];
        let Some(pod) = obj.filter(|_| req.is_main("", "pods", &operations)) else { return Ok(()) };
        let Some(tolerations) = object_mut(pod, "spec").and_then(|spec| list_mut(spec, "tolerations")) else {
            return Ok(());
        };
        for key in KEYS {
            if !tolerations.iter().any(|t| tolerates(t, key)) {
                tolerations.push(json!({
                    "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
                }));
            }
        }
        Ok(())
    }
}

/// Does it speak of evictions by this taint (or by every taint)?
fn tolerates(toleration: &Value, key: &str) -> bool {
    let (of, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
    (of == key || of.is_empty()) && (effect == "NoExecute" || effect.is_empty())
}
