//! ConfigMaps and Secrets that pods of this node refer to: one watch per object while a pod uses it.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Volume};
use kybern_client::informer::Informer;
use kybern_client::store::Name;
use kybern_client::transport::{Resource, Selection, Transport};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long a pod's set-up waits for the first answer about an object.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Looks objects up in memory.
pub trait Lookup: Send + Sync {
    /// A ConfigMap.
    fn config_map(&self, namespace: &str, name: &str) -> Option<ConfigMap>;
    /// A Secret.
    fn secret(&self, namespace: &str, name: &str) -> Option<Secret>;
}

/// What an object is called: resource, namespace, name.
type Key = (&'static str, String, String);

struct Entry {
    informer: Arc<Informer>,
    users: HashMap<String, Arc<Notify>>,
    cancel: CancellationToken,
}

/// The watched objects.
#[derive(Clone)]
pub struct References {
    transport: Arc<dyn Transport>,
    entries: Arc<Mutex<HashMap<Key, Entry>>>,
    cancel: CancellationToken,
}

impl References {
    /// Nothing watched yet; all watches end with `cancel`.
    pub fn new(transport: Arc<dyn Transport>, cancel: CancellationToken) -> Self {
        Self { transport, entries: Arc::default(), cancel }
    }

    /// Watches all that a pod refers to, pokes it at each change, and waits for the first answers.
    pub async fn acquire(&self, pod: &Pod, poke: &Arc<Notify>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let informers: Vec<Arc<Informer>> = names(pod)
            .into_iter()
            .map(|(resource, name)| self.follow((resource, namespace.clone(), name), &uid, poke))
            .collect();
        for informer in informers {
            // An object that cannot be read now is missing for now; the pod is poked when it comes.
            let _ = tokio::time::timeout(FIRST_ANSWER, informer.synced()).await;
        }
    }

    /// Ends the watches that only this pod used.
    pub fn release(&self, uid: &str) {
        self.entries.lock().retain(|_, entry| {
            entry.users.remove(uid);
            if entry.users.is_empty() {
                entry.cancel.cancel();
            }
            !entry.users.is_empty()
        });
    }

    fn follow(&self, key: Key, uid: &str, poke: &Arc<Notify>) -> Arc<Informer> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(key.clone()).or_insert_with(|| self.start(key));
        entry.users.insert(uid.to_owned(), poke.clone());
        entry.informer.clone()
    }

    fn start(&self, key: Key) -> Entry {
        let cancel = self.cancel.child_token();
        let selection =
            Selection { namespace: key.1.clone(), fields: format!("metadata.name={}", key.2), ..Selection::default() };
        let resource = Resource::new("", "v1", key.0);
        let informer = Informer::start(self.transport.clone(), resource, selection, None, cancel.clone());
        let mut changes = informer.subscribe();
        let entries = Arc::downgrade(&self.entries);
        let stop = cancel.clone();
        tokio::spawn(async move {
            while let Some(Some(_)) = stop.run_until_cancelled(changes.recv()).await {
                let Some(entries) = entries.upgrade() else { return };
                if let Some(entry) = entries.lock().get(&key) {
                    entry.users.values().for_each(|u| u.notify_one());
                }
            }
        });
        Entry { informer, users: HashMap::new(), cancel }
    }

    fn get<T: serde::de::DeserializeOwned>(&self, resource: &'static str, namespace: &str, name: &str) -> Option<T> {
        let entries = self.entries.lock();
        let entry = entries.get(&(resource, namespace.to_owned(), name.to_owned()))?;
        entry.informer.get(&Name::new(namespace, name))?.object.view().ok()
    }
}

impl Lookup for References {
    fn config_map(&self, namespace: &str, name: &str) -> Option<ConfigMap> {
        self.get("configmaps", namespace, name)
    }
    fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        self.get("secrets", namespace, name)
    }
}

/// Everything a pod refers to.
fn names(pod: &Pod) -> BTreeSet<(&'static str, String)> {
    let mut found = BTreeSet::new();
    let Some(spec) = &pod.spec else { return found };
    let mut config_map = |name: &str| found.extend([("configmaps", name.to_owned())]);
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    for c in containers() {
        c.env_from.iter().flatten().filter_map(|f| f.config_map_ref.as_ref()).for_each(|r| config_map(&r.name));
        let sources = c.env.iter().flatten().filter_map(|e| e.value_from.as_ref());
        sources.filter_map(|s| s.config_map_key_ref.as_ref()).for_each(|r| config_map(&r.name));
    }
    let volumes = || spec.volumes.iter().flatten();
    let projected = |v: &'_ Volume| v.projected.clone().into_iter().flat_map(|p| p.sources.unwrap_or_default());
    volumes().filter_map(|v| v.config_map.as_ref()).for_each(|m| config_map(&m.name));
    volumes().flat_map(projected).filter_map(|s| s.config_map).for_each(|m| config_map(&m.name));

    let mut secret = |name: &str| found.extend([("secrets", name.to_owned())]);
    for c in containers() {
        c.env_from.iter().flatten().filter_map(|f| f.secret_ref.as_ref()).for_each(|r| secret(&r.name));
        let sources = c.env.iter().flatten().filter_map(|e| e.value_from.as_ref());
        sources.filter_map(|s| s.secret_key_ref.as_ref()).for_each(|r| secret(&r.name));
    }
    volumes().filter_map(|v| v.secret.as_ref()?.secret_name.as_deref()).for_each(&mut secret);
    volumes().flat_map(projected).filter_map(|s| s.secret).for_each(|s| secret(&s.name));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pods_references_are_found_wherever_they_stand() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {
            "containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": "c1"}}, {"secretRef": {"name": "s1"}}]}],
            "initContainers": [{"name": "i", "env": [
                {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c2", "key": "k"}}},
                {"name": "Y", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}}]}],
            "volumes": [
                {"name": "v", "configMap": {"name": "c3"}}, {"name": "w", "secret": {"secretName": "s3"}},
                {"name": "x", "projected": {"sources": [{"configMap": {"name": "c4"}}, {"secret": {"name": "s4"}}]}}],
        }}))
        .unwrap();
        let found: Vec<String> = names(&pod).into_iter().map(|(_, n)| n).collect();
        assert_eq!(found, ["c1", "c2", "c3", "c4", "s1", "s2", "s3", "s4"]);
    }
}
