//! The parsed head of an object.

use super::narrow;
use crate::error::Status;
use crate::kind::KindDef;
use crate::meta::time;
use crate::object::{Head, Owner};
use serde_json::{Map, Value};
use smol_str::SmolStr;
use std::sync::Arc;

/// The head of a tree.
pub fn head(def: &KindDef, tree: &Value) -> Head {
    let none = Map::new();
    let meta = tree.get("metadata").and_then(Value::as_object).unwrap_or(&none);
    Head {
        name: text(meta.get("name")),
        namespace: text(meta.get("namespace")),
        uid: text(meta.get("uid")),
        generation: meta.get("generation").and_then(Value::as_i64).unwrap_or_default(),
        created: time::parse_value(meta.get("creationTimestamp")).unwrap_or_default(),
        deleting: time::parse_value(meta.get("deletionTimestamp")),
        labels: meta.get("labels").and_then(Value::as_object).map(pairs).unwrap_or_default(),
        owners: items(meta.get("ownerReferences")).iter().map(owner).collect(),
        finalizers: items(meta.get("finalizers")).iter().map(|v| text(Some(v))).collect(),
        fields: def.selectable.iter().map(|s| s.value(tree)).collect(),
    }
}

/// Reads the heads of one kind's stored bytes. Every member does so for every change.
#[derive(Debug)]
pub struct HeadReader {
    def: Arc<KindDef>,
    paths: narrow::Paths,
}

impl HeadReader {
    /// For a kind.
    pub fn new(def: Arc<KindDef>) -> Self {
        let selectable = def.selectable.iter().map(|s| s.source.as_str());
        let paths = narrow::Paths::new(METADATA.iter().copied().chain(selectable));
        Self { def, paths }
    }

    /// The kind.
    pub fn def(&self) -> &KindDef {
        &self.def
    }

    /// The head of stored bytes.
    ///
    /// # Errors
    /// 500 when the bytes are no JSON, a defect of the store.
    pub fn read(&self, bytes: &[u8]) -> Result<Head, Status> {
        let read = self.paths.read(bytes);
        read.map(|tree| head(&self.def, &tree)).map_err(|e| Status::internal(format!("stored {}: {e}", self.def.kind)))
    }
}

/// What [`head`] reads of metadata: not managedFields, which are half of an object.
const METADATA: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.generation",
    "metadata.creationTimestamp",
    "metadata.deletionTimestamp",
    "metadata.labels",
    "metadata.ownerReferences",
    "metadata.finalizers",
];

fn text(value: Option<&Value>) -> SmolStr {
    value.and_then(Value::as_str).map(SmolStr::new).unwrap_or_default()
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A JSON map iterates in key order, which is the order of [`Head::labels`].
fn pairs(map: &Map<String, Value>) -> Vec<(SmolStr, SmolStr)> {
    map.iter().map(|(k, v)| (SmolStr::new(k), text(Some(v)))).collect()
}

fn owner(value: &Value) -> Owner {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or_default();
    Owner {
        api_version: text(value.get("apiVersion")),
        kind: text(value.get("kind")),
        name: text(value.get("name")),
        uid: text(value.get("uid")),
        controller: flag("controller"),
        block_owner_deletion: flag("blockOwnerDeletion"),
    }
}
