//! An API server in miniature for tests: objects in memory behind the [`Transport`] trait, with
//! revisions, watches, merge patches and preconditions. No validation, no defaults, no grace.

use crate::transport::{List, Resource, Selection, Target, Transport, WatchEvent, Write};
use crate::wire;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use kybern_api::error::{Reason, Status};
use kybern_api::object::{EventType, Object};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Resource path without namespace, namespace, name.
type Key = (String, String, String);

/// The objects and who watches them. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryApi {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Key, Value>,
    log: Vec<(u64, EventType, Key, Object)>,
    watchers: Vec<(String, String, mpsc::UnboundedSender<WatchEvent>)>,
    writes: u64,
}

impl MemoryApi {
    /// Number of writes that changed something.
    pub fn writes(&self) -> u64 {
        self.state.lock().writes
    }
    /// An object's JSON tree (without kind and apiVersion).
    pub fn tree(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Value> {
        self.state.lock().objects.get(&key(resource, namespace, name)).cloned()
    }
    /// All of a resource's JSON trees.
    pub fn trees(&self, resource: &Resource) -> Vec<Value> {
        let state = self.state.lock();
        state.objects.iter().filter(|((path, _, _), _)| *path == resource.path("")).map(|(_, v)| v.clone()).collect()
    }
    /// Ends every watch, as a server that restarts does.
    pub fn cut(&self) {
        self.state.lock().watchers.clear();
    }
    /// Forgets what happened so far, so that resuming watches have to list again.
    pub fn compact(&self) {
        self.state.lock().log.clear();
    }
}

fn key(resource: &Resource, namespace: &str, name: &str) -> Key {
    (resource.path(""), namespace.to_owned(), name.to_owned())
}

fn object(tree: &Value) -> Result<Object, Status> {
    wire::object(tree.to_string().as_bytes()).map_err(|e| Status::internal(e.to_string()))
}

fn not_found(key: &Key) -> Status {
    Status::not_found("", key.0.rsplit('/').next().unwrap_or_default(), &key.2)
}

fn conflict(key: &Key) -> Status {
    Status::conflict("", key.0.rsplit('/').next().unwrap_or_default(), &key.2, "the object has been modified")
}

impl State {
    fn commit(&mut self, key: Key, kind: EventType, mut tree: Value) -> Result<Value, Status> {
        self.revision += 1;
        self.writes += 1;
        tree["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = object(&tree)?;
        match kind {
            EventType::Deleted => _ = self.objects.remove(&key),
            EventType::Added | EventType::Modified => _ = self.objects.insert(key.clone(), tree.clone()),
        }
        self.log.push((self.revision, kind, key.clone(), object.clone()));
        self.watchers.retain(|(path, namespace, watcher)| {
            let concerned = *path == key.0 && (namespace.is_empty() || *namespace == key.1);
            !concerned || watcher.send(WatchEvent::Object(kind, object.clone())).is_ok()
        });
        Ok(tree)
    }

    fn create(&mut self, target: &Target, mut tree: Value) -> Result<Value, Status> {
        let name = tree["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = key(&target.resource, &target.namespace, &name);
        if self.objects.contains_key(&key) {
            return Err(Status::already_exists("", &target.resource.plural, &name));
        }
        let meta = &mut tree["metadata"];
        if !target.namespace.is_empty() {
            meta["namespace"] = json!(target.namespace);
        }
        meta["uid"] = json!(format!("uid-{}", self.revision + 1));
        meta["generation"] = json!(1);
        self.commit(key, EventType::Added, tree)
    }

    fn change(&mut self, target: &Target, change: &Value, whole: bool) -> Result<Value, Status> {
        let key = key(&target.resource, &target.namespace, &target.name);
        let old = self.objects.get(&key).cloned().ok_or_else(|| not_found(&key))?;
        for guard in ["resourceVersion", "uid"] {
            if change["metadata"][guard].as_str().is_some_and(|v| Some(v) != old["metadata"][guard].as_str()) {
                return Err(conflict(&key));
            }
        }
        let mut new = if whole { change.clone() } else { old.clone() };
        if !whole {
            merge(&mut new, change);
        }
        if new == old {
            return Ok(old);
        }
        if target.subresource.is_empty() && new.get("spec") != old.get("spec") {
            new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        let held = new["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        let ends = !new["metadata"]["deletionTimestamp"].is_null() && !held;
        self.commit(key, if ends { EventType::Deleted } else { EventType::Modified }, new)
    }

    fn delete(&mut self, target: &Target, options: &Value) -> Result<Value, Status> {
        let key = key(&target.resource, &target.namespace, &target.name);
        let mut old = self.objects.get(&key).cloned().ok_or_else(|| not_found(&key))?;
        for guard in ["resourceVersion", "uid"] {
            if options["preconditions"][guard].as_str().is_some_and(|v| Some(v) != old["metadata"][guard].as_str()) {
                return Err(conflict(&key));
            }
        }
        let held = old["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        if held {
            old["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
            return self.commit(key, EventType::Modified, old);
        }
        self.commit(key, EventType::Deleted, old)
    }

    fn bind(&mut self, target: &Target, binding: &Value) -> Result<Value, Status> {
        let change = json!({"spec": {"nodeName": binding["target"]["name"]}});
        self.change(target, &change, false)
    }
}

/// RFC 7386.
fn merge(to: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *to = patch.clone();
        return;
    };
    if !to.is_object() {
        *to = json!({});
    }
    for (name, value) in members {
        if value.is_null() {
            to.as_object_mut().map(|m| m.remove(name));
        } else {
            merge(&mut to[name.as_str()], value);
        }
    }
}

#[async_trait::async_trait]
impl Transport for MemoryApi {
    async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Object, Status> {
        let key = key(resource, namespace, name);
        object(self.state.lock().objects.get(&key).ok_or_else(|| not_found(&key))?)
    }

    async fn list(&self, resource: &Resource, selection: &Selection) -> Result<List, Status> {
        let state = self.state.lock();
        let path = resource.path("");
        let fits = |k: &Key| k.0 == path && (selection.namespace.is_empty() || k.1 == selection.namespace);
        let items = state.objects.iter().filter(|(k, _)| fits(k)).map(|(_, v)| object(v)).collect::<Result<_, _>>()?;
        Ok(List { revision: state.revision, items })
    }

    async fn watch(
        &self,
        resource: &Resource,
        selection: &Selection,
        revision: u64,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status> {
        let mut state = self.state.lock();
        let first = state.log.first().map_or(state.revision + 1, |(r, ..)| *r);
        if revision + 1 < first {
            return Err(Status::new(Reason::Expired, "too old resource version"));
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let path = resource.path("");
        let fits = |k: &Key| k.0 == path && (selection.namespace.is_empty() || k.1 == selection.namespace);
        for (_, kind, _, object) in state.log.iter().filter(|(r, _, k, _)| *r > revision && fits(k)) {
            // The receiver is in our hands.
            _ = sender.send(WatchEvent::Object(*kind, object.clone()));
        }
        state.watchers.push((path, selection.namespace.clone(), sender));
        let stream = futures::stream::unfold(receiver, |mut r| async move { r.recv().await.map(|e| (Ok(e), r)) });
        Ok(stream.boxed())
    }

    async fn write(&self, target: &Target, write: Write) -> Result<Bytes, Status> {
        let read = |body: &Bytes| serde_json::from_slice::<Value>(body).map_err(|e| Status::bad_request(e.to_string()));
        let mut state = self.state.lock();
        let answer = match &write {
            Write::Create(body) if target.subresource == "binding" => state.bind(target, &read(body)?),
            Write::Create(body) => state.create(target, read(body)?),
            Write::Update(body) => state.change(target, &read(body)?, true),
            Write::Patch(_, body) => state.change(target, &read(body)?, false),
            Write::Delete(body) => state.delete(target, &read(body)?),
        };
        answer.map(|tree| Bytes::from(tree.to_string()))
    }
}
