//! `pods/binding`: puts a pod onto a node, once.

use crate::present::Answer;
use crate::registry::engine::Stored;
use crate::registry::kinds::Resource;
use crate::registry::metadata;
use crate::request::chain::Authorized;
use crate::request::write_options::WriteOptions;
use crate::server::Inner;
use crate::verbs::create::engine;
use crate::verbs::{Payload, delete};
use kybern_api::error::Status;
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
    bind(server, resource, &auth, &name, &binding).await
}

/// Binds the pod `name` as the Binding says.
pub(crate) async fn bind(
    server: &Inner,
    resource: &Resource,
    auth: &Authorized,
    name: &str,
    binding: &Value,
) -> Result<Answer, Status> {
    let options = WriteOptions::parse(&auth.query, &auth.agent, "CreateOptions")?;
    let def = resource.def();
    check(name, binding)?;
    let mut change = |stored: Option<&Stored>| -> Result<Value, Status> {
        let stored = stored.ok_or_else(|| Status::not_found(&def.group, &def.plural, name))?;
        let mut obj = stored.tree.clone();
        take_preconditions(&mut obj, binding);
        def.strategy.bind(&mut obj, binding, auth.now)?;
        Ok(obj)
    };
    let written = engine(server, auth, resource, &options).update(name, &mut change).await?;
    let head = &written.object.head;
    Ok(Answer::Tree(delete::success(&def.group, &def.plural, &head.name, &head.uid), 201))
}

fn check(name: &str, binding: &Value) -> Result<(), Status> {
    match metadata::text(binding, "name") {
        "" => Ok(()),
        body if body == name => Ok(()),
        _ => Err(Status::bad_request("name in URL does not match name in Binding object")),
    }
}

/// The uid and revision a Binding names are checked like those of any update.
fn take_preconditions(obj: &mut Value, binding: &Value) {
    let meta = metadata::of_mut(obj);
    for key in ["uid", "resourceVersion"] {
        match binding["metadata"].get(key) {
            Some(v) => drop(meta.insert(key.into(), v.clone())),
            None => drop(meta.remove(key)),
        }
    }
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
