//! RuntimeClass: a pod carries the overhead and the scheduling rules of its runtime class.

use crate::paths::{list_mut, object_mut, text};
use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::error::Status;
use serde_json::{Map, Value};

#[derive(Debug)]
pub(crate) struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn mutate(&self, req: &Request<'_>, obj: Option<&mut Value>, env: &Env<'_>) -> Result<(), Status> {
        let Some(pod) = obj.filter(|_| req.is_main("", "pods", &[Operation::Create])) else { return Ok(()) };
        let Some(class) = class_of(req, pod, env)? else { return Ok(()) };
        let Some(spec) = object_mut(pod, "spec") else { return Ok(()) };
        if let Some(overhead) = class.pointer("/overhead/podFixed") {
            match spec.get("overhead").filter(|given| !given.is_null()) {
                Some(given) if given != overhead => {
                    return Err(
                        req.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
                    );
                }
                Some(_) => {}
                None => {
                    spec.insert("overhead".into(), overhead.clone());
                }
            }
        }
        select_nodes(req, spec, &class)?;
        tolerate(spec, &class);
        Ok(())
    }

    fn validate(&self, req: &Request<'_>, obj: Option<&Value>, env: &Env<'_>) -> Result<(), Status> {
        let Some(pod) = obj.filter(|_| req.is_main("", "pods", &[Operation::Create])) else { return Ok(()) };
        let defined = class_of(req, pod, env)?.and_then(|class| class.pointer("/overhead/podFixed").cloned());
        let given = pod.pointer("/spec/overhead").filter(|value| !value.is_null());
        if given.is_some() && given != defined.as_ref() {
            return Err(
                req.forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
            );
        }
        Ok(())
    }
}

/// The class that the pod names; None when it names none.
fn class_of(req: &Request<'_>, pod: &Value, env: &Env<'_>) -> Result<Option<Value>, Status> {
    let name = text(pod, "/spec/runtimeClassName");
    if name.is_empty() {
        return Ok(None);
    }
    let missing = || req.forbidden(&format!("pod rejected: RuntimeClass \"{name}\" not found"));
    let object = env.objects.get("node.k8s.io", "runtimeclasses", "", name).ok_or_else(missing)?;
    object.tree().map(Some).map_err(|e| Status::internal(e.to_string()))
}

fn select_nodes(req: &Request<'_>, spec: &mut Map<String, Value>, class: &Value) -> Result<(), Status> {
    let Some(wanted) = class.pointer("/scheduling/nodeSelector").and_then(Value::as_object) else { return Ok(()) };
    let selector = spec.entry("nodeSelector").or_insert(Value::Null);
    if selector.is_null() {
        *selector = Value::Object(Map::new());
    }
    let Some(selector) = selector.as_object_mut() else { return Ok(()) };
    for (key, value) in wanted {
        if selector.get(key).is_some_and(|given| given != value) {
            return Err(req.forbidden(&format!(
                "pod rejected: conflict: runtimeClass.scheduling.nodeSelector[{key}] differs from pod.spec.nodeSelector[{key}]"
            )));
        }
        selector.insert(key.clone(), value.clone());
    }
    Ok(())
}

fn tolerate(spec: &mut Map<String, Value>, class: &Value) {
    let Some(wanted) = class.pointer("/scheduling/tolerations").and_then(Value::as_array) else { return };
    let Some(tolerations) = list_mut(spec, "tolerations") else { return };
    for toleration in wanted {
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
}
