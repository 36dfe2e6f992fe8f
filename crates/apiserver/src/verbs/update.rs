//! PUT, of an object or of a part of it through a subresource.

use crate::present::Answer;
use crate::registry::engine::Outcome;
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::request::write_options::WriteOptions;
use crate::server::Inner;
use crate::verbs::Payload;
use crate::verbs::create::{decode, engine};
use kybern_api::error::{Cause, Status};
use serde_json::Value;

/// Replaces the object by the one in the body.
pub async fn run(server: &Inner, resource: &Resource, auth: Authorized, payload: Payload) -> Result<Answer, Status> {
    let options = WriteOptions::parse(&auth.query, &auth.agent, "UpdateOptions")?;
    let obj = decode(resource, &auth, &payload, &options)?;
    let def = resource.def();
    let names_revision = kybern_api::tree::text(&obj, "metadata.resourceVersion");
    if def.needs_revision && matches!(names_revision, "" | "0") {
        let message = "Invalid value: 0: must be specified for an update".into();
        let cause = Cause { reason: "FieldValueInvalid".into(), message, field: "metadata.resourceVersion".into() };
        return Err(Status::invalid(&def.group, &def.kind, auth.name(), vec![cause]));
    }
    let mut change = |stored: Option<&crate::registry::engine::Stored>| -> Result<Value, Status> {
        if stored.is_none() && !(def.create_on_update && auth.attributes.subresource.is_empty()) {
            return Err(Status::not_found(&def.group, &def.plural, auth.name()));
        }
        named(obj.clone(), &auth, stored.is_none())
    };
    let written = engine(server, &auth, resource, &options).update(auth.name(), &mut change).await?;
    Ok(Answer::Object(written.object, written.outcome == Outcome::Created))
}

/// The name of an object that a PUT creates comes from the URL.
fn named(mut obj: Value, auth: &Authorized, creates: bool) -> Result<Value, Status> {
    if creates {
        crate::registry::metadata::same_object(&mut obj, auth.namespace(), auth.name())?;
    }
    Ok(obj)
}
