//! An API in memory: objects, merge patches, watches. It knows no kinds; a pod's deletion waits for
//! the node, as the real one's does.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use kybern_api::error::Status;
use kybern_api::object::{EventType, Object};
use kybern_client::transport::{List, Resource, Selection, Target, Transport, WatchEvent, Write};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

type Key = (String, String, String);

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Key, Value>,
    history: Vec<(Key, EventType, Value)>,
}

/// The API; clones are handles to the same one.
#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl Api {
    /// Without objects.
    pub fn new() -> Self {
        Self { state: Arc::default(), changed: watch::Sender::new(0) }
    }
    /// Puts an object in (with metadata.name, and metadata.namespace where it has one).
    pub fn put(&self, plural: &str, mut object: Value) {
        let key = key(plural, &object);
        let mut state = self.state.lock();
        state.revision += 1;
        object["metadata"]["resourceVersion"] = state.revision.to_string().into();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = format!("uid-{}", state.revision).into();
        }
        let known = state.objects.insert(key.clone(), object.clone()).is_some();
        let event = if known { EventType::Modified } else { EventType::Added };
        state.history.push((key, event, object));
        self.changed.send_replace(state.revision);
    }
    /// One object.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state.lock().objects.get(&(plural.into(), namespace.into(), name.into())).cloned()
    }
    /// Asks for a pod's deletion, as kubectl does.
    pub fn delete_pod(&self, namespace: &str, name: &str, grace: i64) {
        let mut pod = self.get("pods", namespace, name).expect("the pod is there");
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        self.put("pods", pod);
    }
    /// Waits until an object (null when it is gone) fulfils a condition.
    pub async fn until(&self, plural: &str, namespace: &str, name: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let mut changes = self.changed.subscribe();
        let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            changes.borrow_and_update();
            let object = self.get(plural, namespace, name).unwrap_or_default();
            if condition(&object) {
                return object;
            }
            if tokio::time::timeout_at(limit, changes.changed()).await.is_err() {
                panic!("{plural} {name} does not get there: {}", object["status"]);
            }
        }
    }
    fn remove(&self, key: &Key) {
        let mut state = self.state.lock();
        state.revision += 1;
        let revision = state.revision;
        if let Some(mut object) = state.objects.remove(key) {
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            state.history.push((key.clone(), EventType::Deleted, object));
        }
        self.changed.send_replace(revision);
    }
}

fn key(plural: &str, object: &Value) -> Key {
    let text = |f: &str| object["metadata"][f].as_str().unwrap_or_default().to_owned();
    (plural.into(), text("namespace"), text("name"))
}

fn encode(value: &Value) -> Object {
    let mut value = value.clone();
    if let Some(map) = value.as_object_mut() {
        map.remove("kind");
        map.remove("apiVersion");
    }
    // The head wants metadata first.
    let metadata = value["metadata"].take();
    let rest = value.as_object().expect("object").iter().filter(|(k, _)| *k != "metadata");
    let rest: String = rest.map(|(k, v)| format!(",{}:{v}", json!(k))).collect();
    kybern_client::wire::object(format!("{{\"metadata\":{metadata}{rest}}}").as_bytes()).expect("object")
}

fn selects(selection: &Selection, plural: &str, key: &Key) -> bool {
    let named = selection.fields.strip_prefix("metadata.name=");
    key.0 == plural
        && (selection.namespace.is_empty() || selection.namespace == key.1)
        && named.is_none_or(|n| n == key.2)
}

fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else { return *into = patch.clone() };
    if !into.is_object() {
        *into = json!({});
    }
    for (k, v) in patch {
        if v.is_null() {
            into.as_object_mut().expect("object").remove(k);
        } else {
            merge(&mut into[k.as_str()], v);
        }
    }
}

#[async_trait::async_trait]
impl Transport for Api {
    async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Object, Status> {
        let found = Api::get(self, &resource.plural, namespace, name);
        found.map(|v| encode(&v)).ok_or_else(|| Status::not_found("", &resource.plural, name))
    }
    async fn list(&self, resource: &Resource, selection: &Selection) -> Result<List, Status> {
        let state = self.state.lock();
        let chosen = state.objects.iter().filter(|(k, _)| selects(selection, &resource.plural, k));
        Ok(List { revision: state.revision, items: chosen.map(|(_, v)| encode(v)).collect() })
    }
    async fn watch(
        &self,
        resource: &Resource,
        selection: &Selection,
        revision: u64,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status> {
        let (api, plural, selection) = (self.clone(), resource.plural.clone(), selection.clone());
        let changes = self.changed.subscribe();
        let stream = futures::stream::unfold((changes, revision), move |(mut changes, from)| {
            let (api, plural, selection) = (api.clone(), plural.clone(), selection.clone());
            async move {
                loop {
                    let at = *changes.borrow_and_update();
                    if at > from {
                        let state = api.state.lock();
                        let revision =
                            |v: &Value| v["metadata"]["resourceVersion"].as_str().and_then(|r| r.parse().ok());
                        let events: Vec<Result<WatchEvent, Status>> = state
                            .history
                            .iter()
                            .filter(|(k, _, v)| revision(v) > Some(from) && selects(&selection, &plural, k))
                            .map(|(_, event, v)| Ok(WatchEvent::Object(*event, encode(v))))
                            .collect();
                        let at = state.revision;
                        drop(state);
                        return Some((futures::stream::iter(events), (changes, at)));
                    }
                    changes.changed().await.ok()?;
                }
            }
        });
        Ok(stream.flatten().boxed())
    }
    async fn write(&self, target: &Target, write: Write) -> Result<Bytes, Status> {
        let plural = &target.resource.plural;
        let key = (plural.clone(), target.namespace.clone(), target.name.clone());
        match write {
            Write::Create(body) if target.subresource == "token" => {
                let mut answer: Value = serde_json::from_slice(&body).expect("JSON");
                answer["status"] = json!({ "token": "a.b.c", "expirationTimestamp": "2100-01-01T00:00:00Z" });
                return Ok(answer.to_string().into());
            }
            Write::Create(body) | Write::Update(body) => {
                self.put(plural, serde_json::from_slice(&body).expect("JSON"));
                return Ok(body);
            }
            Write::Patch(_, patch) => {
                let Some(mut object) = Api::get(self, plural, &target.namespace, &target.name) else {
                    return Err(Status::not_found("", plural, &target.name));
                };
                merge(&mut object, &serde_json::from_slice(&patch).expect("JSON"));
                self.put(plural, object.clone());
                return Ok(object.to_string().into());
            }
            Write::Delete(_) if Api::get(self, plural, &target.namespace, &target.name).is_none() => {
                return Err(Status::not_found("", plural, &target.name));
            }
            Write::Delete(_) => self.remove(&key),
        }
        Ok(Bytes::from_static(b"{}"))
    }
}
