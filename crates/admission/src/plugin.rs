//! The seam of admission: one plugin, and what it is given.

use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::error::Status;
use kybern_api::kind::KindDef;
use kybern_api::seam::{Ids, Lister};
use serde_json::Value;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// create
    Create,
    /// update, patch, apply
    Update,
    /// delete and deletecollection (once per object)
    Delete,
    /// exec, attach, portforward, proxy
    Connect,
}

/// One request under admission. `object` is in the stored version.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub user: &'a UserInfo,
    /// What is being done.
    pub operation: Operation,
    /// The kind's row.
    pub def: &'a KindDef,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Namespace, or empty.
    pub namespace: &'a str,
    /// Name; empty while generateName has not been resolved.
    pub name: &'a str,
    /// What is stored, on update, delete and eviction.
    pub old: Option<&'a Value>,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// The request's options (CreateOptions, DeleteOptions, PodExecOptions, ...).
    pub options: &'a Value,
}

impl Request<'_> {
    /// Is it about this resource, or one of its subresources?
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.def.group == group && self.def.plural == plural
    }
    /// Is it about this resource itself, and one of these operations?
    pub fn is_main(&self, group: &str, plural: &str, operations: &[Operation]) -> bool {
        self.subresource.is_empty() && self.is(group, plural) && operations.contains(&self.operation)
    }
    /// The 403 of this request.
    pub fn forbidden(&self, why: &str) -> Status {
        Status::forbidden(&self.def.group, &self.def.plural, self.name, why)
    }
}

/// What plugins may use besides the request.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    /// Other objects.
    pub objects: &'a dyn Lister,
    /// Random names (the suffix of a generated volume).
    pub ids: &'a dyn Ids,
    /// Asks the authoriser: may this be done? (For rights beyond the request's own verb.)
    pub may: &'a (dyn Fn(&Attributes) -> bool + Sync),
    /// Tells the client something that does not refuse its request (a Warning header).
    pub warn: &'a (dyn Fn(String) + Sync),
    /// Wall-clock time of the request.
    pub now: jiff::Timestamp,
}

impl std::fmt::Debug for Env<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env").field("now", &self.now).finish_non_exhaustive()
    }
}

/// One admission plugin: one file, one line in the chain.
pub trait Plugin: Send + Sync + 'static {
    /// Kubernetes' name of it, for example `NamespaceLifecycle`.
    fn name(&self) -> &'static str;
    /// May change the object (None on delete and connect). Running twice changes nothing more.
    ///
    /// # Errors
    /// The refusal.
    fn mutate(&self, _req: &Request<'_>, _obj: Option<&mut Value>, _env: &Env<'_>) -> Result<(), Status> {
        Ok(())
    }
    /// Judges the final object.
    ///
    /// # Errors
    /// The refusal.
    fn validate(&self, _req: &Request<'_>, _obj: Option<&Value>, _env: &Env<'_>) -> Result<(), Status> {
        Ok(())
    }
}
