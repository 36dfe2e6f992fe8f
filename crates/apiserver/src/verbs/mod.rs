//! One file per verb, for all kinds. Every verb takes an [`Authorized`] request by value.

pub mod create;
pub mod delete;
pub mod delete_collection;
pub mod get;
pub mod list;
pub mod list_options;
pub mod patch;
pub mod update;
pub mod watch;

use crate::present::Answer;
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::request::info::Verb;
use crate::server::Inner;
use crate::subresource;
use crate::usage;
use bytes::Bytes;
use kybern_api::codec::{self, BodyType};
use kybern_api::error::{Reason, Status, qualified};

/// A request body as it came.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    /// Content-Type without parameters; empty when there was none.
    pub media: String,
    /// The body.
    pub bytes: Bytes,
}

impl Payload {
    /// How an object body is written.
    ///
    /// # Errors
    /// 415 for another type.
    pub fn body_type(&self) -> Result<BodyType, Status> {
        match self.media.as_str() {
            "" | "application/json" | "*/*" => Ok(BodyType::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(BodyType::Yaml),
            codec::PROTOBUF => Ok(BodyType::Protobuf),
            _ => Err(unsupported_media(&["application/json", "application/yaml", codec::PROTOBUF])),
        }
    }
}

/// 415.
pub fn unsupported_media(accepted: &[&str]) -> Status {
    let text = format!(
        "the body of the request was in an unknown format - accepted media types include: {}",
        accepted.join(", ")
    );
    Status::new(Reason::UnsupportedMediaType, text)
}

/// 404 for a path that names nothing.
pub fn no_such_path() -> Status {
    Status::new(Reason::NotFound, "the server could not find the requested resource")
}

impl Inner {
    /// The resource a request is about.
    ///
    /// # Errors
    /// 404 when it is not served, 405 when the verb is not.
    pub(crate) fn resolve(&self, auth: &Authorized) -> Result<Resource, Status> {
        let a = &auth.attributes;
        let resource = self.kinds.find(&a.group, &a.version, &a.resource).ok_or_else(no_such_path)?;
        let def = resource.def();
        // In one namespace only what lies in namespaces.
        if !def.namespaced() && !auth.namespace().is_empty() {
            return Err(no_such_path());
        }
        let verbs = match a.subresource.as_str() {
            "" => &def.verbs,
            sub => &def.subresource(sub).ok_or_else(no_such_path)?.verbs,
        };
        // What is created has no name in the path yet, what is done to an object has.
        let of_collection = match auth.verb {
            Verb::List | Verb::Watch | Verb::DeleteCollection => true,
            Verb::Create => a.subresource.is_empty(),
            _ => false,
        };
        let named = if auth.verb == Verb::Create {
            a.name.is_empty() == of_collection
        } else {
            of_collection || !a.name.is_empty()
        };
        let whole = !def.namespaced() || !a.namespace.is_empty() || matches!(auth.verb, Verb::List | Verb::Watch);
        if verbs.iter().any(|v| v == auth.verb.as_str()) && named && whole {
            return Ok(resource);
        }
        Err(not_allowed(&def.group, &def.plural, auth.verb))
    }

    /// Carries a request out.
    pub(crate) async fn run(&self, resource: &Resource, auth: Authorized, payload: Payload) -> Result<Answer, Status> {
        if usage::is_usage(resource) {
            return usage::run(self, resource, &auth).await;
        }
        if !auth.attributes.subresource.is_empty() || resource.def().verbs.iter().all(|v| v == "create") {
            return subresource::run(self, resource, auth, payload).await;
        }
        match auth.verb {
            Verb::Get => get::run(self, resource, auth).await,
            Verb::List => list::run(self, resource, auth).await,
            Verb::Watch => watch::run(self, resource, auth).await,
            Verb::Create => create::run(self, resource, auth, payload).await,
            Verb::Update => update::run(self, resource, auth, payload).await,
            Verb::Patch => patch::run(self, resource, auth, payload).await,
            Verb::Delete => delete::run(self, resource, auth, payload).await,
            Verb::DeleteCollection => delete_collection::run(self, resource, auth, payload).await,
            Verb::Other => Err(not_allowed(&resource.def().group, &resource.def().plural, auth.verb)),
        }
    }
}

/// 405.
pub fn not_allowed(group: &str, plural: &str, verb: Verb) -> Status {
    let kind = qualified(group, plural);
    let text = format!("{} is not supported on resources of kind \"{kind}\"", verb.as_str());
    Status::new(Reason::MethodNotAllowed, text)
}
