//! PodTopologyLabels: a pod carries the zone and region of its node, for the downward API.

use crate::paths::{object_mut, text};
use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::error::Status;
use serde_json::Value;

const LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

#[derive(Debug)]
pub(crate) struct PodTopologyLabels;

impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn mutate(&self, req: &Request<'_>, obj: Option<&mut Value>, env: &Env<'_>) -> Result<(), Status> {
        let Some(obj) = obj.filter(|_| req.is("", "pods") && req.operation == Operation::Create) else { return Ok(()) };
        let node = match req.subresource {
            "" => text(obj, "/spec/nodeName"),
            // The scheduler's Binding; what it carries goes onto the pod.
            "binding" if matches!(text(obj, "/target/kind"), "Node" | "") => text(obj, "/target/name"),
            _ => return Ok(()),
        };
        let Some(node) = Some(node).filter(|n| !n.is_empty()).and_then(|n| env.objects.get("", "nodes", "", n)) else {
            return Ok(());
        };
        for (key, value) in node.head.labels.iter().filter(|(key, _)| LABELS.contains(&key.as_str())) {
            let Some(meta) = obj.get_mut("metadata") else { return Ok(()) };
            let Some(labels) = object_mut(meta, "labels") else { return Ok(()) };
            labels.entry(key.as_str()).or_insert_with(|| value.as_str().into());
        }
        Ok(())
    }
}
