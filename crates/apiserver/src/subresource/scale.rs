//! `scale`: the number of replicas, alike for everything that has one.

use crate::present::Answer;
use crate::registry::engine::Stored;
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::request::info::Verb;
use crate::request::write_options::WriteOptions;
use crate::server::Inner;
use crate::verbs::create::engine;
use crate::verbs::{Payload, get, not_allowed};
use kybern_api::error::{Cause, Status};
use kybern_api::meta::selector::Selector;
use kybern_api::object::Object;
use kybern_api::tree;
use serde_json::{Value, json};

/// GET, PUT and PATCH of `scale`.
pub(crate) async fn run(
    server: &Inner,
    resource: &Resource,
    auth: Authorized,
    payload: Payload,
) -> Result<Answer, Status> {
    if auth.verb == Verb::Get {
        server.barrier().await?;
        let object = get::current(server, resource, auth.namespace(), auth.name())?;
        return Ok(Answer::Tree(of(&object)?, 200));
    }
    let options = WriteOptions::parse(&auth.query, &auth.agent, "UpdateOptions")?;
    let def = resource.def();
    let mut change = |stored: Option<&Stored>| -> Result<Value, Status> {
        let stored = stored.ok_or_else(|| Status::not_found(&def.group, &def.plural, auth.name()))?;
        let wanted = wanted(resource, &auth, &payload, stored)?;
        let replicas = tree::int(&wanted, "spec.replicas").unwrap_or(0);
        check(def, auth.name(), replicas)?;
        let mut obj = stored.tree.clone();
        // The Scale's revision is the object's: a client that names it insists on it.
        obj["metadata"]["resourceVersion"] = wanted["metadata"]["resourceVersion"].clone();
        obj["spec"]["replicas"] = replicas.into();
        Ok(obj)
    };
    let written = engine(server, &auth, resource, &options).update(auth.name(), &mut change).await?;
    Ok(Answer::Tree(of(&written.object)?, 200))
}

fn check(def: &kybern_api::kind::KindDef, name: &str, replicas: i64) -> Result<(), Status> {
    if replicas >= 0 {
        return Ok(());
    }
    let message = format!("Invalid value: {replicas}: must be greater than or equal to 0");
    let cause = Cause { reason: "FieldValueInvalid".into(), message, field: "spec.replicas".into() };
    Err(Status::invalid(&def.group, "Scale", name, vec![cause]))
}

/// The Scale in a PUT's body, or the patched current one.
fn wanted(resource: &Resource, auth: &Authorized, payload: &Payload, stored: &Stored) -> Result<Value, Status> {
    if auth.verb == Verb::Update {
        return super::decode(resource, auth, payload);
    }
    if auth.verb != Verb::Patch {
        return Err(not_allowed(&resource.def().group, &resource.def().plural, auth.verb));
    }
    let kind = crate::patch::PatchType::from_content_type(&payload.media, true)?;
    let node = kybern_api::schema::node("io.k8s.api.autoscaling.v1.Scale")
        .ok_or_else(|| Status::internal("no schema of Scale"))?;
    let mut current = of(&stored.object)?;
    tree::remove(&mut current["metadata"], "resourceVersion");
    match kind {
        crate::patch::PatchType::Apply => serde_saphyr::from_slice(&payload.bytes)
            .map_err(|e| Status::bad_request(format!("error decoding YAML: {e}"))),
        _ => crate::patch::apply_patch(kind, current, &payload.bytes, &node),
    }
}

/// The Scale of an object.
fn of(object: &Object) -> Result<Value, Status> {
    let tree = object.tree().map_err(|e| Status::internal(e.to_string()))?;
    let spec = &tree["spec"];
    // Old kinds select by a plain map of labels.
    let selector = match spec.get("selector") {
        Some(s) if s.get("matchLabels").is_some() || s.get("matchExpressions").is_some() => {
            Selector::from_object(Some(s)).map_err(Status::internal)?
        }
        other => Selector::from_map(other),
    };
    let meta = &tree["metadata"];
    Ok(json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"],
            "resourceVersion": object.revision.to_string(), "creationTimestamp": meta["creationTimestamp"],
        },
        "spec": {"replicas": tree::int(spec, "replicas").unwrap_or(0)},
        "status": {"replicas": tree::int(&tree, "status.replicas").unwrap_or(0), "selector": selector.to_string()},
    }))
}
