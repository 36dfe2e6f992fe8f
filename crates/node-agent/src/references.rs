//! ConfigMaps and Secrets that pods of this node refer to: one watch per object while a pod uses it.

use crate::error::{Error, Result};
use crate::offline::{Offline, Referred};
use crate::pods::spec;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Volume};
use kybern_api::object::Object;
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

/// A claim that a pod uses.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Its name.
    pub name: &'a str,
    /// Must it be one that was made for the pod?
    pub made_for_pod: bool,
}

/// Looks objects up: those that change in memory.
#[async_trait::async_trait]
pub trait Lookup: Send + Sync {
    /// A ConfigMap.
    fn config_map(&self, namespace: &str, name: &str) -> Option<ConfigMap>;
    /// A Secret.
    fn secret(&self, namespace: &str, name: &str) -> Option<Secret>;
    /// Does the pod run from memory, with no server to be asked?
    fn is_offline(&self, _pod: &Pod) -> bool {
        false
    }
    /// The volume that a pod's claim is bound to.
    ///
    /// # Errors
    /// When there is none, or it cannot be asked for.
    async fn volume_of(&self, _pod: &Pod, claim: Claim<'_>) -> Result<PersistentVolume> {
        Err(Error::Pod(format!("persistentvolumeclaim {:?} not found", claim.name)))
    }
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
    /// Volumes by uid of the pod and name of the claim. What a bound claim is bound to never changes.
    volumes: Arc<Mutex<HashMap<(String, String), PersistentVolume>>>,
    /// What stands in for the API while no server can be reached; None: nothing does.
    offline: Option<Arc<Offline>>,
    cancel: CancellationToken,
}

impl References {
    /// Nothing watched yet; all watches end with `cancel`.
    pub fn new(transport: Arc<dyn Transport>, offline: Option<Arc<Offline>>, cancel: CancellationToken) -> Self {
        Self { transport, entries: Arc::default(), volumes: Arc::default(), offline, cancel }
    }

    /// Watches all that a pod refers to, pokes it at each change, and waits for the first answers.
    pub async fn acquire(&self, pod: &Pod, poke: &Arc<Notify>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let informers: Vec<Arc<Informer>> = names(pod)
            .into_iter()
            .map(|(resource, name)| self.follow((resource, namespace.clone(), name), &uid, poke))
            .collect();
        if self.is_offline(pod) {
            return;
        }
        for informer in informers {
            // An object that cannot be read now is missing for now; the pod is poked when it comes.
            let _ = tokio::time::timeout(FIRST_ANSWER, informer.synced()).await;
        }
    }

    /// Ends the watches that only this pod used, and forgets it.
    pub fn release(&self, uid: &str) {
        if let Some(Err(e)) = self.offline.as_ref().map(|o| o.forget(uid)) {
            tracing::warn!(uid, error = %e, "a pod that is over may start again without servers");
        }
        self.volumes.lock().retain(|(pod, _), _| pod != uid);
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

    fn object(&self, resource: &'static str, namespace: &str, name: &str) -> Option<Object> {
        let entries = self.entries.lock();
        let entry = entries.get(&(resource, namespace.to_owned(), name.to_owned()))?;
        match entry.informer.is_synced() {
            true => Some(entry.informer.get(&Name::new(namespace, name))?.object),
            false => self.offline.as_ref()?.object(resource, namespace, name),
        }
    }

    fn get<T: serde::de::DeserializeOwned>(&self, resource: &'static str, namespace: &str, name: &str) -> Option<T> {
        self.object(resource, namespace, name)?.view().ok()
    }

    /// Keeps a pod and what it refers to for a start without servers, where that is wanted.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, object: &Object, pod: &Pod) -> Result<()> {
        let uid = object.head.uid.as_str();
        let Some(offline) = self.offline.as_ref().filter(|o| !o.runs(uid)) else { return Ok(()) };
        let find = |(resource, name): (&'static str, String)| -> Option<Referred> {
            Some((resource, self.object(resource, &object.head.namespace, &name)?))
        };
        let referred: Vec<Referred> = names(pod).into_iter().filter_map(find).collect();
        let known = self.volumes.lock();
        let mine = known.iter().filter(|((pod, _), _)| pod == uid);
        let volumes = mine.map(|((_, claim), volume)| (claim.clone(), volume.clone())).collect();
        offline.keep(object, pod, &referred, volumes)
    }
}

impl References {
    /// Asks the server for a pod's claim, and for its volume.
    async fn ask_volume(&self, pod: &Pod, claim: Claim<'_>) -> Result<PersistentVolume> {
        let (namespace, name) = (pod.metadata.namespace.as_deref().unwrap_or_default(), claim.name);
        let get = async |resource: &str, namespace: &str, name: &str| {
            self.transport.get(&Resource::new("", "v1", resource), namespace, name).await
        };
        let object = get("persistentvolumeclaims", namespace, name).await?;
        let owner = object.head.controller().map(|o| o.uid.as_str());
        if claim.made_for_pod && owner != pod.metadata.uid.as_deref() {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            let why = format!("PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)");
            return Err(Error::Pod(why));
        }
        let claim: PersistentVolumeClaim = decode("PersistentVolumeClaim", &object)?;
        let is_bound = claim.status.and_then(|s| s.phase).as_deref() == Some("Bound");
        let volume = claim.spec.and_then(|s| s.volume_name).filter(|_| is_bound);
        let Some(volume) = volume else { return Err(Error::Pod(format!("PVC {namespace}/{name} is not bound"))) };
        let volume: PersistentVolume = decode("PersistentVolume", &get("persistentvolumes", "", &volume).await?)?;
        let owner = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()).and_then(|c| c.uid.as_ref());
        if owner != claim.metadata.uid.as_ref() {
            return Err(Error::Pod(format!("PVC {namespace}/{name} is bound to a volume of another claim")));
        }
        Ok(volume)
    }
}

fn decode<T: serde::de::DeserializeOwned>(what: &'static str, object: &Object) -> Result<T> {
    object.view().map_err(|source| Error::Decode { what, source })
}

#[async_trait::async_trait]
impl Lookup for References {
    async fn volume_of(&self, pod: &Pod, claim: Claim<'_>) -> Result<PersistentVolume> {
        let key = (pod.metadata.uid.clone().unwrap_or_default(), claim.name.to_owned());
        if let Some(known) = self.volumes.lock().get(&key) {
            return Ok(known.clone());
        }
        if let Some(kept) = self.offline.as_ref().and_then(|o| o.volume(&key.0, &key.1)) {
            return Ok(kept);
        }
        let volume = self.ask_volume(pod, claim).await?;
        self.volumes.lock().insert(key, volume.clone());
        Ok(volume)
    }
    fn is_offline(&self, pod: &Pod) -> bool {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.offline.as_ref().is_some_and(|o| o.runs(uid))
    }
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
    let ephemeral: Vec<Container> = spec::ephemeral(spec).collect();
    let containers = || spec::declared(spec).map(|(c, _)| c).chain(&ephemeral);
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
    spec.image_pull_secrets.iter().flatten().for_each(|s| secret(&s.name));
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
            "ephemeralContainers": [{"name": "e", "envFrom": [{"configMapRef": {"name": "c5"}}]}],
            "imagePullSecrets": [{"name": "s5"}],
            "volumes": [
                {"name": "v", "configMap": {"name": "c3"}}, {"name": "w", "secret": {"secretName": "s3"}},
                {"name": "x", "projected": {"sources": [{"configMap": {"name": "c4"}}, {"secret": {"name": "s4"}}]}}],
        }}))
        .unwrap();
        let found: Vec<String> = names(&pod).into_iter().map(|(_, n)| n).collect();
        assert_eq!(found, ["c1", "c2", "c3", "c4", "c5", "s1", "s2", "s3", "s4", "s5"]);
    }
}
