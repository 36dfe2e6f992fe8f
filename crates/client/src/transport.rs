//! How requests reach an API server. Two implementations: HTTPS (`http`), and the corridor in-process
//! (made by the `kybern` crate, which knows both sides).

use bytes::Bytes;
use futures::stream::BoxStream;
use kybern_api::error::Status;
use kybern_api::object::{EventType, Object};

/// A resource in one version: what a path names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// API group, empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural.
    pub plural: String,
}

impl Resource {
    /// From its parts.
    pub fn new(group: &str, version: &str, plural: &str) -> Self {
        Self { group: group.into(), version: version.into(), plural: plural.into() }
    }
    /// The URL path of the collection (`namespace` empty: all or cluster scope).
    pub fn path(&self, namespace: &str) -> String {
        let base = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if namespace.is_empty() {
            format!("{base}/{}", self.plural)
        } else {
            format!("{base}/namespaces/{namespace}/{}", self.plural)
        }
    }
}

/// What a list or watch selects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// Namespace; empty: all.
    pub namespace: String,
    /// Label selector text; empty: all.
    pub labels: String,
    /// Field selector text; empty: all.
    pub fields: String,
}

/// A consistent list.
#[derive(Debug, Clone)]
pub struct List {
    /// Revision of the snapshot; a watch goes on from here.
    pub revision: u64,
    /// The objects.
    pub items: Vec<Object>,
}

/// One item of a watch.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// An object changed. For `Deleted` the object is the last state, stamped with the deleting revision.
    Object(EventType, Object),
    /// All changes up to this revision have been delivered.
    Bookmark(u64),
}

/// A change to make.
#[derive(Debug, Clone)]
pub enum Write {
    /// POST the object (JSON with kind and apiVersion).
    Create(Bytes),
    /// PUT the object.
    Update(Bytes),
    /// PATCH: media type and patch.
    Patch(&'static str, Bytes),
    /// DELETE with DeleteOptions (JSON, may be empty).
    Delete(Bytes),
}

/// Where a write goes.
#[derive(Debug, Clone)]
pub struct Target {
    /// The resource.
    pub resource: Resource,
    /// Namespace or empty.
    pub namespace: String,
    /// Name; empty for a create.
    pub name: String,
    /// Subresource or empty.
    pub subresource: String,
    /// Query parameters (fieldManager, dryRun, ...).
    pub query: Vec<(String, String)>,
    /// Fence: refuse the write when this leader term has passed; 0: none. (In-process only.)
    pub term: u64,
}

/// JSON patch.
pub const JSON_PATCH: &str = "application/json-patch+json";
/// Merge patch.
pub const MERGE_PATCH: &str = "application/merge-patch+json";
/// Strategic merge patch.
pub const STRATEGIC_MERGE_PATCH: &str = "application/strategic-merge-patch+json";
/// Server-side apply.
pub const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// Carries requests to an API server as one identity.
#[async_trait::async_trait]
pub trait Transport: Send + Sync + 'static {
    /// One object, consistent.
    async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Object, Status>;
    /// All selected objects, consistent.
    async fn list(&self, resource: &Resource, selection: &Selection) -> Result<List, Status>;
    /// Changes after `revision`. The stream ends (possibly with an error item) when the server says so;
    /// an item with reason Expired means: list again.
    async fn watch(
        &self,
        resource: &Resource,
        selection: &Selection,
        revision: u64,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status>;
    /// A change. The answer is the object as JSON with kind and apiVersion (or a Status object).
    async fn write(&self, target: &Target, write: Write) -> Result<Bytes, Status>;
}
