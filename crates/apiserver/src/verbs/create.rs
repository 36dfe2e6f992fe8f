//! POST.

use crate::present::Answer;
use crate::registry::engine::Engine;
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::request::write_options::WriteOptions;
use crate::server::Inner;
use crate::verbs::Payload;
use kybern_api::codec;
use kybern_api::error::Status;
use kybern_api::kind::Support;
use serde_json::Value;

/// Creates the object in the body.
pub async fn run(server: &Inner, resource: &Resource, auth: Authorized, payload: Payload) -> Result<Answer, Status> {
    let options = WriteOptions::parse(&auth.query, &auth.agent, "CreateOptions")?;
    let obj = decode(resource, &auth, &payload, &options)?;
    let written = engine(server, &auth, resource, &options).create(obj).await?;
    Ok(Answer::Object(written.object, true))
}

/// The body's tree in the stored version.
pub(crate) fn decode(
    resource: &Resource,
    auth: &Authorized,
    payload: &Payload,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let (def, media) = (resource.def(), payload.body_type()?);
    let decoded = codec::decode_body(media, &payload.bytes, def, resource.served(), options.validation)?;
    auth.warn(decoded.warnings);
    if def.support == Support::Inert {
        auth.warn([format!("nothing acts on {} yet: objects are kept and served only", def.plural)]);
    }
    Ok(decoded.tree)
}

/// A write of the request's object.
pub(crate) fn engine<'a>(
    server: &'a Inner,
    auth: &'a Authorized,
    resource: &'a Resource,
    options: &'a WriteOptions,
) -> Engine<'a> {
    Engine {
        server,
        auth,
        resource,
        subresource: &auth.attributes.subresource,
        namespace: auth.namespace(),
        options,
        raw_options: &Value::Null,
        admitted: false,
    }
}
