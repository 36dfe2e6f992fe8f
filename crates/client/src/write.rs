//! Changes with preconditions, as one identity and under one leader term.

use crate::transport::{Resource, Target, Transport, Write};
use bytes::Bytes;
use kybern_api::error::Status;
use serde_json::{Value, json};
use std::sync::Arc;

/// What becomes of the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Propagation {
    /// The garbage collector deletes them afterwards.
    Background,
    /// They go first.
    Foreground,
    /// They stay.
    Orphan,
}

/// Options of a delete. The default has no precondition and the kind's own grace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Only this object, not a later one of the same name.
    pub uid: Option<String>,
    /// Only while it stands at this revision.
    pub revision: Option<u64>,
    /// Grace period in seconds.
    pub grace: Option<i64>,
    /// What becomes of its dependents.
    pub propagation: Option<Propagation>,
}

impl DeleteOptions {
    /// The `DeleteOptions` object.
    pub fn to_json(&self) -> Value {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if self.uid.is_some() || self.revision.is_some() {
            let mut preconditions = serde_json::Map::new();
            preconditions.extend(self.uid.iter().map(|u| ("uid".to_owned(), json!(u))));
            preconditions.extend(self.revision.iter().map(|r| ("resourceVersion".to_owned(), json!(r.to_string()))));
            options["preconditions"] = Value::Object(preconditions);
        }
        if let Some(grace) = self.grace {
            options["gracePeriodSeconds"] = json!(grace);
        }
        if let Some(propagation) = self.propagation {
            options["propagationPolicy"] = json!(propagation);
        }
        options
    }
}

/// Where a change goes: an object or, for a create, a collection (empty name).
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The resource.
    pub resource: &'a Resource,
    /// Namespace or empty.
    pub namespace: &'a str,
    /// Name; empty for a create.
    pub name: &'a str,
    /// Subresource or empty.
    pub subresource: &'a str,
}

/// The answer to a change.
#[derive(Debug, Clone)]
pub struct Written {
    /// The JSON answer: the object, or a Status after a delete.
    pub bytes: Bytes,
    /// metadata.resourceVersion of the answer, where it is an object.
    pub revision: Option<u64>,
}

/// Sends changes over a transport.
#[derive(Clone)]
pub struct Writer {
    transport: Arc<dyn Transport>,
    manager: String,
    term: u64,
}

impl Writer {
    /// `manager` is the field manager of its writes; `term` fences them (0: no fence).
    pub fn new(transport: Arc<dyn Transport>, manager: impl Into<String>, term: u64) -> Self {
        Self { transport, manager: manager.into(), term }
    }
    /// The transport, for reads as the same identity.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }
    /// Creates an object (JSON tree with kind and apiVersion), or posts to a subresource.
    ///
    /// # Errors
    /// The server's Status.
    pub async fn create(&self, at: At<'_>, object: &Value) -> Result<Written, Status> {
        self.send(at, Write::Create(encode(object))).await
    }
    /// Replaces an object; its metadata.resourceVersion is the precondition.
    ///
    /// # Errors
    /// The server's Status.
    pub async fn update(&self, at: At<'_>, object: &Value) -> Result<Written, Status> {
        self.send(at, Write::Update(encode(object))).await
    }
    /// Patches an object. A `metadata.resourceVersion` inside a merge patch is the precondition.
    ///
    /// # Errors
    /// The server's Status.
    pub async fn patch(&self, at: At<'_>, media_type: &'static str, patch: &Value) -> Result<Written, Status> {
        self.send(at, Write::Patch(media_type, encode(patch))).await
    }
    /// Deletes an object.
    ///
    /// # Errors
    /// The server's Status.
    pub async fn delete(&self, at: At<'_>, options: &DeleteOptions) -> Result<Written, Status> {
        self.send(at, Write::Delete(encode(&options.to_json()))).await
    }

    async fn send(&self, at: At<'_>, write: Write) -> Result<Written, Status> {
        let target = Target {
            resource: at.resource.clone(),
            namespace: at.namespace.to_owned(),
            name: at.name.to_owned(),
            subresource: at.subresource.to_owned(),
            query: self.query(&write),
            term: self.term,
        };
        let bytes = self.transport.write(&target, write).await?;
        let revision = crate::wire::revision_of(&bytes);
        Ok(Written { bytes, revision })
    }

    fn query(&self, write: &Write) -> Vec<(String, String)> {
        match write {
            Write::Delete(_) => Vec::new(),
            _ => vec![("fieldManager".to_owned(), self.manager.clone())],
        }
    }
}

fn encode(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delete_options_carry_only_what_is_asked() {
        assert_eq!(DeleteOptions::default().to_json(), json!({"kind": "DeleteOptions", "apiVersion": "v1"}));
        let all = DeleteOptions {
            uid: Some("u".into()),
            revision: Some(4),
            grace: Some(0),
            propagation: Some(Propagation::Orphan),
        };
        let v = all.to_json();
        assert_eq!(v["preconditions"], json!({"uid": "u", "resourceVersion": "4"}));
        assert_eq!((&v["gracePeriodSeconds"], &v["propagationPolicy"]), (&json!(0), &json!("Orphan")));
    }
}
