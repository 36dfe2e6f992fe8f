//! DELETE of an item.

use crate::present::Answer;
use crate::registry::engine::{Engine, Outcome, Written};
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::request::write_options::{DeleteOptions, WriteOptions};
use crate::server::Inner;
use crate::verbs::Payload;
use kybern_api::codec::{self, Expected, FieldValidation};
use kybern_api::error::Status;
use serde_json::{Value, json};

/// Deletes the object, or begins to.
pub async fn run(server: &Inner, resource: &Resource, auth: Authorized, payload: Payload) -> Result<Answer, Status> {
    let options = DeleteOptions::parse(&auth.query, body(&payload)?)?;
    let write = WriteOptions { dry_run: options.dry_run, ..WriteOptions::default() };
    let written = engine(server, &auth, resource, &write, &options).delete(auth.name(), &options).await?;
    Ok(answer(resource, written))
}

/// The options in the body, if there is one.
pub(crate) fn body(payload: &Payload) -> Result<Option<Value>, Status> {
    if payload.bytes.is_empty() {
        return Ok(None);
    }
    let expected = Expected {
        definition: "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        api_version: None,
        kind: "DeleteOptions",
    };
    let read = codec::decode_definition(payload.body_type()?, &payload.bytes, expected, FieldValidation::Ignore)?;
    let mut options = read.tree;
    // Webhooks see them in the version that all groups share.
    options["kind"] = "DeleteOptions".into();
    options["apiVersion"] = "meta.k8s.io/v1".into();
    Ok(Some(options))
}

pub(crate) fn engine<'a>(
    server: &'a Inner,
    auth: &'a Authorized,
    resource: &'a Resource,
    write: &'a WriteOptions,
    options: &'a DeleteOptions,
) -> Engine<'a> {
    Engine {
        server,
        auth,
        resource,
        subresource: "",
        namespace: auth.namespace(),
        options: write,
        raw_options: &options.raw,
        admitted: false,
    }
}

/// Most kinds answer with a Status when the object is gone, and with the object while it lingers.
fn answer(resource: &Resource, written: Written) -> Answer {
    let def = resource.def();
    if written.outcome != Outcome::Deleted || def.strategy.answers_deletion_with_object() {
        return Answer::Object(written.object, false);
    }
    let head = &written.object.head;
    Answer::Tree(success(&def.group, &def.plural, &head.name, &head.uid), 200)
}

/// A Status that says all went well.
pub(crate) fn success(group: &str, plural: &str, name: &str, uid: &str) -> Value {
    let mut details = json!({"name": name, "kind": plural});
    for (key, value) in [("group", group), ("uid", uid)] {
        if !value.is_empty() {
            details[key] = value.into();
        }
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
