//! PATCH, of an object or of a part of it through a subresource.

use crate::fields::Writer;
use crate::patch::{self, PatchType};
use crate::present::Answer;
use crate::registry::engine::{Outcome, Stored};
use crate::registry::kinds::Resource;
use crate::registry::{metadata, tracking};
use crate::request::chain::Authorized;
use crate::request::query::invalid_option;
use crate::request::write_options::WriteOptions;
use crate::server::Inner;
use crate::verbs::Payload;
use crate::verbs::create::engine;
use kybern_api::codec;
use kybern_api::error::Status;
use serde_json::Value;

const KIND: &str = "PatchOptions";

/// Applies the patch to the freshest object, again whenever another write comes between.
pub async fn run(server: &Inner, resource: &Resource, auth: Authorized, payload: Payload) -> Result<Answer, Status> {
    let kind = PatchType::from_content_type(&payload.media, true)?;
    let mut options = WriteOptions::parse(&auth.query, &auth.agent, KIND)?;
    check(kind, &options)?;
    options.applied = kind == PatchType::Apply;
    let mut change = |stored: Option<&Stored>| {
        let made = match kind {
            PatchType::Apply => apply(resource, &auth, &options, &payload, stored),
            _ => patched(kind, resource, &auth, &options, &payload, stored),
        };
        made.map(|tree| unpinned(tree, stored))
    };
    let written = engine(server, &auth, resource, &options).update(auth.name(), &mut change).await?;
    Ok(Answer::Object(written.object, written.outcome == Outcome::Created))
}

/// Takes the revision away that the patched object only has from the stored one: it was not named, so another
/// write in between is no conflict. One that the patch does name is not that of the next state.
fn unpinned(mut tree: Value, stored: Option<&Stored>) -> Value {
    let revision = stored.map(|s| s.object.revision.to_string()).unwrap_or_default();
    if metadata::text(&tree, "resourceVersion") == revision {
        metadata::of_mut(&mut tree).remove("resourceVersion");
    }
    tree
}

fn check(kind: PatchType, options: &WriteOptions) -> Result<(), Status> {
    let apply = kind == PatchType::Apply;
    if apply && !options.manager_given {
        let text = "Required value: is required for apply patch".to_owned();
        return Err(invalid_option(KIND, "fieldManager", "FieldValueRequired", text));
    }
    if !apply && options.force.is_some() {
        let text = "Forbidden: may not be specified for non-apply patch".to_owned();
        return Err(invalid_option(KIND, "force", "FieldValueForbidden", text));
    }
    Ok(())
}

fn patched(
    kind: PatchType,
    resource: &Resource,
    auth: &Authorized,
    options: &WriteOptions,
    payload: &Payload,
    stored: Option<&Stored>,
) -> Result<Value, Status> {
    let (def, served) = (resource.def(), resource.served());
    let stored = stored.ok_or_else(|| Status::not_found(&def.group, &def.plural, auth.name()))?;
    let current = codec::served_tree(def, served, stored.tree.clone());
    let node = served_node(resource)?;
    let patched = patch::apply_patch(kind, current, &payload.bytes, &node)?;
    let before = resource.is_stored_form().then_some(&stored.tree);
    let decoded = codec::decode_tree(patched, before, def, served, options.validation)?;
    auth.warn(decoded.warnings);
    Ok(decoded.tree)
}

/// Server-side apply: the manager's whole intent is in the body; what is missing may be created.
fn apply(
    resource: &Resource,
    auth: &Authorized,
    options: &WriteOptions,
    payload: &Payload,
    stored: Option<&Stored>,
) -> Result<Value, Status> {
    let (def, served) = (resource.def(), resource.served());
    let decoded = codec::decode_config(&payload.bytes, def, served, options.validation)?;
    auth.warn(decoded.warnings);
    let mut config = decoded.tree;
    let api_version = def.api_version(served);
    metadata::same_object(&mut config, auth.namespace(), auth.name())?;
    if stored.is_none() {
        let uid = metadata::text(&config, "uid");
        if !uid.is_empty() {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(Status::conflict(&def.group, &def.plural, auth.name(), &why));
        }
        if !auth.attributes.subresource.is_empty() {
            return Err(Status::not_found(&def.group, &def.plural, auth.name()));
        }
    }
    let live = stored.map(|s| codec::served_tree(def, served, s.tree.clone()));
    let writer = Writer {
        manager: &options.manager,
        subresource: &auth.attributes.subresource,
        api_version: &api_version,
        now: auth.now,
    };
    let node = served_node(resource)?;
    let applied = patch::apply::apply(def, &node, live.as_ref(), config, &writer, options.force.unwrap_or(false))?;
    let before = stored.filter(|_| resource.is_stored_form()).map(|s| &s.tree);
    let decoded = codec::decode_tree(applied, before, def, served, options.validation)?;
    auth.warn(decoded.warnings);
    Ok(decoded.tree)
}

fn served_node(resource: &Resource) -> Result<kybern_api::schema::Node, Status> {
    if resource.is_stored_form() {
        return tracking::node(resource);
    }
    let name = &resource.served().schema;
    kybern_api::schema::node(name).ok_or_else(|| Status::internal(format!("no schema {name}")))
}
