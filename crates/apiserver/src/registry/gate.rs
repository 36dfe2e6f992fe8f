//! Admission of one request: what is refused because something is absent is judged once more after a
//! read barrier, since another server may just have written it.

use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::server::Inner;
use kybern_admission::{Operation, Request};
use kybern_api::error::{Reason, Status};
use kybern_api::kind::KindDef;
use serde_json::Value;

/// The way of one request through admission.
#[derive(Clone, Copy)]
pub struct Gate<'a> {
    /// The server.
    pub server: &'a Inner,
    /// The authorised request.
    pub auth: &'a Authorized,
    /// The kind's row.
    pub def: &'a KindDef,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Namespace of the object, or empty.
    pub namespace: &'a str,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// The options as sent.
    pub options: &'a Value,
}

impl std::fmt::Debug for Gate<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("kind", &self.def.kind).field("subresource", &self.subresource).finish()
    }
}

impl<'a> Gate<'a> {
    /// The gate of a request that is about the object in its path.
    pub fn new(server: &'a Inner, auth: &'a Authorized, resource: &'a Resource) -> Self {
        Self {
            server,
            auth,
            def: resource.def(),
            subresource: &auth.attributes.subresource,
            namespace: auth.namespace(),
            dry_run: false,
            options: &Value::Null,
        }
    }

    /// Lets every plugin change the object and judge it: for what is not stored as the object itself.
    pub async fn pass(
        &self,
        operation: Operation,
        name: &str,
        mut obj: Option<&mut Value>,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        self.mutate(operation, name, obj.as_deref_mut(), old).await?;
        self.validate(operation, name, obj.as_deref(), old).await
    }

    /// Lets every plugin change the object.
    pub async fn mutate(
        &self,
        operation: Operation,
        name: &str,
        mut obj: Option<&mut Value>,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let request = self.request(operation, name, old);
        let mut run = || self.server.admit(|chain, env| chain.mutate(&request, obj.as_deref_mut(), env), self.auth);
        match run() {
            Err(e) if may_be_absence(&e) => {
                self.server.barrier().await?;
                run()
            }
            done => done,
        }
    }

    /// Lets every plugin judge the final object.
    pub async fn validate(
        &self,
        operation: Operation,
        name: &str,
        obj: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let request = self.request(operation, name, old);
        let run = || self.server.admit(|chain, env| chain.validate(&request, obj, env), self.auth);
        match run() {
            Err(e) if may_be_absence(&e) => {
                self.server.barrier().await?;
                run()
            }
            done => done,
        }
    }

    fn request<'r>(&'r self, operation: Operation, name: &'r str, old: Option<&'r Value>) -> Request<'r> {
        Request {
            user: &self.auth.attributes.user,
            operation,
            def: self.def,
            subresource: self.subresource,
            namespace: self.namespace,
            name,
            old,
            dry_run: self.dry_run,
            options: self.options,
        }
    }
}

/// A refusal that may be due to something another server has just written.
fn may_be_absence(status: &Status) -> bool {
    matches!(status.reason, Reason::NotFound | Reason::Forbidden)
}
