//! `pods/binding`: puts a pod onto a node, once.

use crate::present::Answer;
use crate::registry::engine::{Engine, Stored};
use crate::registry::gate::Gate;
use crate::registry::kinds::Resource;
use crate::registry::metadata;
use crate::request::chain::Authorized;
use crate::request::write_options::WriteOptions;
use crate::server::Inner;
use crate::verbs::create::engine;
use crate::verbs::{Payload, delete, no_such_path};
use kybern_admission::Operation;
use kybern_api::error::Status;
use kybern_api::kind::Context;
use kybern_api::tree;
use serde_json::{Value, json};

/// POST of `binding`.
pub(crate) async fn run(
    server: &Inner,
    resource: &Resource,
    auth: Authorized,
    payload: Payload,
) -> Result<Answer, Status> {
    let binding = super::decode(resource, &auth, &payload)?;
    let name = auth.name().to_owned();
    bind(server, resource, &auth, &name, binding).await
}

/// Binds the pod `name` as the Binding says.
pub(crate) async fn bind(
    server: &Inner,
    resource: &Resource,
    auth: &Authorized,
    name: &str,
    mut binding: Value,
) -> Result<Answer, Status> {
    let options = WriteOptions::parse(&auth.query, &auth.agent, "CreateOptions")?;
    let def = resource.def();
    // Also where the Binding came through the collection of bindings, it is judged as the pod's.
    let gate = Gate { subresource: "binding", dry_run: options.dry_run, ..Gate::new(server, auth, resource) };
    gate.pass(Operation::Create, name, Some(&mut binding), None).await?;
    let binding = &binding;
    let node = checked(server, name, binding, auth.now)?;
    let mut change = |stored: Option<&Stored>| -> Result<Value, Status> {
        let stored = stored.ok_or_else(|| Status::not_found(&def.group, &def.plural, name))?;
        if let Some(why) = obstacle(&stored.tree, name) {
            return Err(Status::conflict(&def.group, "pods/binding", name, &why));
        }
        Ok(bound(stored, binding, node, auth.now))
    };
    let engine = Engine { admitted: true, ..engine(server, auth, resource, &options) };
    let written = engine.update(name, &mut change).await?;
    let head = &written.object.head;
    Ok(Answer::Tree(delete::success(&def.group, &def.plural, &head.name, &head.uid), 201))
}

fn checked<'b>(server: &Inner, name: &str, binding: &'b Value, now: jiff::Timestamp) -> Result<&'b str, Status> {
    let body_name = metadata::text(binding, "name");
    if !body_name.is_empty() && body_name != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let bindings = server.kinds.find("", "v1", "bindings").ok_or_else(no_such_path)?;
    let (def, mut causes) = (bindings.def(), Vec::new());
    def.strategy.validate(&Context { def, subresource: "", now }, binding, None, &mut causes);
    if causes.is_empty() {
        Ok(tree::text(binding, "target.name"))
    } else {
        Err(Status::invalid(&def.group, &def.kind, name, causes))
    }
}

/// Why the pod cannot be bound.
fn obstacle(pod: &Value, name: &str) -> Option<String> {
    let node = tree::text(pod, "spec.nodeName");
    if metadata::deleting(pod) {
        Some(format!("pod {name} is being deleted, cannot be assigned to a host"))
    } else if !node.is_empty() {
        Some(format!("pod {name} is already assigned to node \"{node}\""))
    } else if !tree::list(pod, "spec.schedulingGates").is_empty() {
        Some(format!("pod {name} has non-empty .spec.schedulingGates"))
    } else {
        None
    }
}

fn bound(stored: &Stored, binding: &Value, node: &str, now: jiff::Timestamp) -> Value {
    let mut pod = stored.tree.clone();
    let meta = metadata::of_mut(&mut pod);
    for key in ["uid", "resourceVersion"] {
        // Preconditions, checked like those of any update.
        match binding["metadata"].get(key) {
            Some(v) => drop(meta.insert(key.into(), v.clone())),
            None => drop(meta.remove(key)),
        }
    }
    // What the Binding carries goes onto the pod, over what is there.
    for carried in ["annotations", "labels"] {
        if let Some(more) = binding["metadata"][carried].as_object() {
            let kept = meta.entry(carried).or_insert_with(|| json!({}));
            more.iter().for_each(|(k, v)| kept[k] = v.clone());
        }
    }
    pod["spec"]["nodeName"] = node.into();
    // The nomination has done its work.
    if let Some(status) = pod.get_mut("status") {
        tree::remove(status, "nominatedNodeName");
    }
    set_condition(&mut pod, "PodScheduled", "True", &[], now);
    pod
}

/// Sets one of status.conditions; its transition time moves only when its status does.
pub(crate) fn set_condition(obj: &mut Value, kind: &str, status: &str, more: &[(&str, &str)], now: jiff::Timestamp) {
    let Some(parent) = tree::object(obj, "status") else { return };
    tree::set_if_absent(parent, "conditions", Vec::<Value>::new());
    let Some(list) = parent["conditions"].as_array_mut() else { return };
    let mut condition = json!({"type": kind, "status": status, "lastTransitionTime": metadata::time(now)});
    more.iter().for_each(|(k, v)| condition[*k] = (*v).into());
    match list.iter_mut().find(|c| c["type"] == kind) {
        Some(old) if old["status"] == status => {
            condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            *old = condition;
        }
        Some(old) => *old = condition,
        None => list.push(condition),
    }
}
