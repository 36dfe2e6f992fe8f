//! Parts of objects, and actions on them, that have a path of their own.

pub mod approval;
pub mod binding;
pub mod eviction;
pub mod exec;
pub mod log;
pub mod portforward;
pub mod proxy;
pub mod reviews;
pub mod scale;
pub mod status;
mod target;
pub mod token;

pub use status::isolate;

use crate::present::{Answer, Body};
use crate::registry::gate::Gate;
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::request::info::Verb;
use crate::server::{ApiServer, Inner};
use crate::verbs::{Payload, get, not_allowed, patch, update};
use kybern_admission::Operation;
use kybern_api::attributes::Attributes;
use kybern_api::codec::{self, Decoded, Expected};
use kybern_api::error::Status;
use serde_json::{Value, json};

/// Is the subresource a connection into a pod, service or node rather than an object?
pub(crate) fn is_connection(subresource: &str) -> bool {
    matches!(subresource, "log" | "exec" | "attach" | "portforward" | "proxy")
}

/// Serves a connection. Whoever may only read must not run commands by a GET that becomes one.
pub(crate) async fn connect(
    server: &ApiServer,
    resource: &Resource,
    auth: Authorized,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, Status> {
    let subresource = auth.attributes.subresource.as_str();
    if subresource == "log" {
        return log::run(server, resource, &auth).await;
    }
    if auth.verb == Verb::Get && subresource != "proxy" {
        server.0.permit(&Attributes { verb: Verb::Create.as_str().into(), ..auth.attributes.clone() }).await?;
    }
    let options = connect_options(resource, &auth);
    let gate = Gate { options: &options, ..Gate::new(&server.0, &auth, resource) };
    gate.pass(Operation::Connect, auth.name(), None, None).await?;
    match subresource {
        "exec" | "attach" => exec::run(server, resource, &auth, request).await,
        "portforward" => portforward::run(server, resource, &auth, request).await,
        "proxy" => proxy::run(server, resource, &auth, request).await,
        _ => Err(not_allowed(&resource.def().group, &resource.def().plural, auth.verb)),
    }
}

/// The options of a connection as the object that its row names: a parameter sent once is a text, one
/// sent several times a list.
fn connect_options(resource: &Resource, auth: &Authorized) -> Value {
    let mut options = json!({});
    for (key, value) in auth.query.pairs() {
        match &mut options[key] {
            Value::Array(list) => list.push(value.into()),
            first @ Value::Null => *first = value.into(),
            first => *first = json!([first.take(), value]),
        }
    }
    if let Some(sub) = resource.def().subresource(&auth.attributes.subresource) {
        options["kind"] = sub.kind.as_str().into();
        options["apiVersion"] = sub.version.as_str().into();
    }
    options
}

/// Carries out a request on a subresource, or on a kind that can only be created (reviews, bindings).
pub(crate) async fn run(
    server: &Inner,
    resource: &Resource,
    auth: Authorized,
    payload: Payload,
) -> Result<Answer, Status> {
    match auth.attributes.subresource.as_str() {
        "" => reviews::run(server, resource, auth, payload).await,
        "scale" => scale::run(server, resource, auth, payload).await,
        "binding" => binding::run(server, resource, auth, payload).await,
        "eviction" => eviction::run(server, resource, auth, payload).await,
        "token" => token::run(server, resource, auth, payload).await,
        "approval" => approval::run(server, resource, auth, payload).await,
        _ => object_part(server, resource, auth, payload).await,
    }
}

/// A subresource whose body is the object itself: status, finalize, resize, ...
pub(crate) async fn object_part(
    server: &Inner,
    resource: &Resource,
    auth: Authorized,
    payload: Payload,
) -> Result<Answer, Status> {
    match auth.verb {
        Verb::Get => get::run(server, resource, auth).await,
        Verb::Update => update::run(server, resource, auth, payload).await,
        Verb::Patch => patch::run(server, resource, auth, payload).await,
        verb => Err(not_allowed(&resource.def().group, &resource.def().plural, verb)),
    }
}

/// Reads a body that is not of the resource's own kind, as the subresource's row describes it.
pub(crate) fn decode(resource: &Resource, auth: &Authorized, payload: &Payload) -> Result<Value, Status> {
    let def = resource.def();
    let sub = def.subresource(&auth.attributes.subresource).ok_or_else(crate::verbs::no_such_path)?;
    let api_version =
        if sub.group.is_empty() { sub.version.to_string() } else { format!("{}/{}", sub.group, sub.version) };
    let definition = definition_of(&sub.group, &sub.version, &sub.kind);
    let expected = Expected { definition: &definition, api_version: Some(&api_version), kind: &sub.kind };
    let Decoded { tree, warnings, .. } =
        codec::decode_definition(payload.body_type()?, &payload.bytes, expected, Default::default())?;
    auth.warn(warnings);
    Ok(tree)
}

/// The OpenAPI name of a kind's definition.
pub(crate) fn definition_of(group: &str, version: &str, kind: &str) -> String {
    let group = match group.split('.').next().unwrap_or_default() {
        "" => "core",
        first => first,
    };
    format!("io.k8s.api.{group}.{version}.{kind}")
}
