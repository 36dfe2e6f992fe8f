//! The envelope: an object is its bytes plus a small parsed head. Nothing parsed is ever kept.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::sync::Arc;

/// An owner reference, as far as controllers and the garbage collector need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// `group/version` of the owner.
    pub api_version: SmolStr,
    /// Kind of the owner.
    pub kind: SmolStr,
    /// Name of the owner.
    pub name: SmolStr,
    /// Uid of the owner.
    pub uid: SmolStr,
    /// Is it the managing controller?
    #[serde(default)]
    pub controller: bool,
    /// Does it block the owner's foreground deletion?
    #[serde(default)]
    pub block_owner_deletion: bool,
}

/// What is parsed once, at commit, and kept beside the bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// metadata.name
    pub name: SmolStr,
    /// metadata.namespace; empty for cluster-scoped objects.
    pub namespace: SmolStr,
    /// metadata.uid
    pub uid: SmolStr,
    /// metadata.generation; 0 where the kind has none.
    pub generation: i64,
    /// metadata.creationTimestamp, seconds since the epoch.
    pub created: i64,
    /// metadata.deletionTimestamp, seconds since the epoch, while the object is being deleted.
    pub deleting: Option<i64>,
    /// metadata.labels, sorted by key.
    pub labels: Vec<(SmolStr, SmolStr)>,
    /// metadata.ownerReferences
    pub owners: Vec<Owner>,
    /// metadata.finalizers
    pub finalizers: Vec<SmolStr>,
    /// The kind's selectable fields (without metadata.name and metadata.namespace), in the order of
    /// the kind's [`crate::kind::KindDef::selectable`].
    pub fields: Vec<SmolStr>,
}

impl Head {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
    /// The managing controller's reference.
    pub fn controller(&self) -> Option<&Owner> {
        self.owners.iter().find(|o| o.controller)
    }
    /// `namespace/name`, or the name of a cluster-scoped object.
    pub fn key(&self) -> String {
        if self.namespace.is_empty() { self.name.to_string() } else { format!("{}/{}", self.namespace, self.name) }
    }
}

/// An object as it is stored, listed and watched.
///
/// `bytes` is one JSON object that begins with `{"metadata":{`, without `kind` and `apiVersion`
/// (see [`crate::kind::Served::prefix`] for those), with `metadata.resourceVersion` in place.
/// Clones are two reference counts.
#[derive(Debug, Clone)]
pub struct Object {
    /// The parsed head.
    pub head: Arc<Head>,
    /// metadata.resourceVersion: the revision of the last write.
    pub revision: u64,
    /// The JSON.
    pub bytes: Bytes,
}

impl Object {
    /// Decodes a typed or narrow view; the caller drops it after use.
    ///
    /// # Errors
    /// When the view's types do not fit the stored JSON.
    pub fn view<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.bytes)
    }
    /// Decodes to a JSON tree (to change it, or for generic code).
    ///
    /// # Errors
    /// When the bytes are no JSON, which would be a defect of the store.
    pub fn tree(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_slice(&self.bytes)
    }
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// It is new, or began to match.
    Added,
    /// It changed.
    Modified,
    /// It is gone, or stopped matching.
    Deleted,
}

impl EventType {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}
