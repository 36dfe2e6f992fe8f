//! LimitRanger: containers get a namespace's defaults, and nothing leaves its bounds.

use crate::paths::{list, object_mut, text};
use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::error::Status;
use serde_json::{Map, Value};

mod bounds;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

#[derive(Debug)]
pub(crate) struct LimitRanger;

impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn mutate(&self, req: &Request<'_>, obj: Option<&mut Value>, env: &Env<'_>) -> Result<(), Status> {
        let Some(pod) = obj.filter(|_| req.is_main("", "pods", &[Operation::Create])) else { return Ok(()) };
        let limits = limits(req, env);
        let mut notes = Vec::new();
        for limit in limits.iter().filter(|limit| text(limit, "/type") == "Container") {
            for (kind, word) in [("containers", "container"), ("initContainers", "init container")] {
                let containers = pod.pointer_mut(&format!("/spec/{kind}")).and_then(Value::as_array_mut);
                notes.extend(containers.into_iter().flatten().flat_map(|c| fill(c, limit, word)));
            }
        }
        if !notes.is_empty()
            && let Some(metadata) = object_mut(pod, "metadata")
            && let Some(annotations) =
                metadata.entry("annotations").or_insert_with(|| Map::new().into()).as_object_mut()
        {
            annotations.insert(ANNOTATION.into(), format!("LimitRanger plugin set: {}", notes.join("; ")).into());
        }
        Ok(())
    }

    fn validate(&self, req: &Request<'_>, obj: Option<&Value>, env: &Env<'_>) -> Result<(), Status> {
        let pods = req.is_main("", "pods", &[Operation::Create])
            || (req.is("", "pods") && req.subresource == "resize" && req.operation == Operation::Update);
        let claims = req.is_main("", "persistentvolumeclaims", &[Operation::Create, Operation::Update]);
        let Some(object) = obj.filter(|_| pods || claims) else { return Ok(()) };
        let judge = if pods { bounds::pod } else { bounds::claim };
        let refusals: Vec<String> = limits(req, env).iter().flat_map(|limit| judge(object, limit)).collect();
        match refusals.as_slice() {
            [] => Ok(()),
            [one] => Err(req.forbidden(one)),
            many => Err(req.forbidden(&format!("[{}]", many.join(", ")))),
        }
    }
}

/// Every item of every LimitRange of the namespace.
fn limits(req: &Request<'_>, env: &Env<'_>) -> Vec<Value> {
    let ranges = env.objects.list("", "limitranges", Some(req.namespace));
    let trees = ranges.iter().filter_map(|range| {
        range.tree().inspect_err(|error| tracing::error!(range = %range.head.key(), %error, "cannot be read")).ok()
    });
    trees.flat_map(|tree| list(&tree, "/spec/limits").to_vec()).collect()
}

/// Sets what the container leaves open; the words for the annotation.
fn fill(container: &mut Value, limit: &Value, word: &str) -> Vec<String> {
    let name = text(container, "/name").to_owned();
    let mut notes = Vec::new();
    let Some(resources) = object_mut(container, "resources") else { return notes };
    for (from, to, what) in [("defaultRequest", "requests", "request"), ("default", "limits", "limit")] {
        let Some(defaults) = limit.get(from).and_then(Value::as_object) else { continue };
        let Some(target) = resources.entry(to).or_insert_with(|| Map::new().into()).as_object_mut() else { continue };
        let missing: Vec<_> = defaults.iter().filter(|(resource, _)| !target.contains_key(*resource)).collect();
        if !missing.is_empty() {
            let list: Vec<&str> = missing.iter().map(|(resource, _)| resource.as_str()).collect();
            notes.push(format!("{} {what} for {word} {name}", list.join(", ")));
        }
        target.extend(missing.into_iter().map(|(resource, amount)| (resource.clone(), amount.clone())));
    }
    notes
}
