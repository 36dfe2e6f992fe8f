//! What pods need to start again after a reboot while no server can be reached (`--offline-restart`): kept on
//! the node's disk, for its owner alone.
//!
//! Only pods of which a second one elsewhere does no harm are kept: the cluster may have replaced them
//! meanwhile. So there are none of StatefulSets, and none that write to volumes of one node.

use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::{PersistentVolume, Pod, Volume};
use kybern_api::object::Object;
use kybern_client::wire;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A ConfigMap or Secret: its resource, and itself.
pub type Referred = (&'static str, Object);

/// What is kept of a pod.
#[derive(Serialize, Deserialize)]
struct Kept {
    pod: Box<RawValue>,
    config_maps: Vec<Box<RawValue>>,
    secrets: Vec<Box<RawValue>>,
    /// Bound volumes by the names of their claims.
    volumes: BTreeMap<String, PersistentVolume>,
}

/// A kept pod, read again.
#[derive(Debug)]
pub struct Recalled {
    /// The pod.
    pub pod: Object,
    /// What it refers to.
    pub referred: Vec<Referred>,
    /// Bound volumes by the names of their claims.
    pub volumes: BTreeMap<String, PersistentVolume>,
}

/// What tells one state worth keeping from the next.
type Stamp = (i64, String, Vec<u64>);

/// The node's memory of its pods.
#[derive(Debug)]
pub struct Offline {
    dir: PathBuf,
    written: Mutex<HashMap<String, Stamp>>,
    /// Pods that run from memory, by uid.
    recalled: Mutex<HashMap<String, Recalled>>,
}

impl Offline {
    /// In this directory.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.into(), written: Mutex::default(), recalled: Mutex::default() }
    }

    /// Keeps a pod with all that it refers to, if it may start without the cluster's consent; else forgets it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(
        &self,
        object: &Object,
        pod: &Pod,
        referred: &[Referred],
        volumes: BTreeMap<String, PersistentVolume>,
    ) -> Result<()> {
        let uid = object.head.uid.as_str();
        if !may_restart(pod, &volumes) {
            return self.forget(uid);
        }
        let phase = pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
        let stamp = (object.head.generation, phase, referred.iter().map(|(_, o)| o.revision).collect());
        if self.written.lock().get(uid) == Some(&stamp) {
            return Ok(());
        }
        let all_of = |resource: &str| {
            let mine = referred.iter().filter(|(r, _)| *r == resource);
            mine.map(|(_, o)| raw(o)).collect::<Result<Vec<_>>>()
        };
        let kept = Kept { pod: raw(object)?, config_maps: all_of("configmaps")?, secrets: all_of("secrets")?, volumes };
        let encoded = serde_json::to_vec(&kept).map_err(|source| Error::Decode { what: "Pod", source })?;
        write(&self.dir, &self.file(uid), &encoded)?;
        self.written.lock().insert(uid.to_owned(), stamp);
        Ok(())
    }

    /// A pod that is over.
    ///
    /// # Errors
    /// When its file cannot be removed.
    pub fn forget(&self, uid: &str) -> Result<()> {
        self.written.lock().remove(uid);
        self.recalled.lock().remove(uid);
        let file = self.file(uid);
        match std::fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", &file)(e)),
            _ => Ok(()),
        }
    }

    /// Reads what is kept: the pods that are to run until the API says otherwise. What is damaged is left out.
    pub fn recall(&self) -> Vec<Object> {
        let files = std::fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|e| e.path());
        let whole = files.filter(|f| f.extension().is_some_and(|e| e == "json"));
        let read = whole.filter_map(|file| {
            let told = |why: String| tracing::warn!(file = %file.display(), why, "a remembered pod is left out");
            std::fs::read(&file).map_err(|e| e.to_string()).and_then(|text| parse(&text)).map_err(told).ok()
        });
        let mut recalled = self.recalled.lock();
        *recalled = read.map(|r| (r.pod.head.uid.to_string(), r)).collect();
        recalled.values().map(|r| r.pod.clone()).collect()
    }

    /// The API has spoken: nothing runs from memory any more. The uids of what did.
    pub fn settle(&self) -> Vec<String> {
        self.recalled.lock().drain().map(|(uid, _)| uid).collect()
    }

    /// Does the pod run from memory?
    pub fn runs(&self, uid: &str) -> bool {
        self.recalled.lock().contains_key(uid)
    }

    /// An object that a pod which runs from memory refers to.
    pub fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<Object> {
        let recalled = self.recalled.lock();
        let mut referred = recalled.values().flat_map(|r| &r.referred);
        let is_it = |(r, o): &&Referred| *r == resource && o.head.namespace == namespace && o.head.name == name;
        referred.find(is_it).map(|(_, o)| o.clone())
    }

    /// The volume that the claim of a pod which runs from memory is bound to.
    pub fn volume(&self, uid: &str, claim: &str) -> Option<PersistentVolume> {
        self.recalled.lock().get(uid)?.volumes.get(claim).cloned()
    }

    fn file(&self, uid: &str) -> PathBuf {
        self.dir.join(format!("{uid}.json"))
    }
}

/// May a pod start although the cluster may have given its place to another?
fn may_restart(pod: &Pod, volumes: &BTreeMap<String, PersistentVolume>) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    let is_one_of_a_kind = owners.filter(|o| o.controller == Some(true)).any(|o| o.kind == "StatefulSet");
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    let is_over = pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"));
    let is_shared = |v: &PersistentVolume| {
        let modes = v.spec.as_ref().and_then(|s| s.access_modes.as_ref());
        modes.is_some_and(|m| !m.is_empty() && m.iter().all(|m| m.ends_with("Many")))
    };
    !is_one_of_a_kind && !is_over && claims(pod).iter().all(|c| volumes.get(c).is_some_and(is_shared))
}

/// The names of a pod's claims.
fn claims(pod: &Pod) -> Vec<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let claim = |v: &Volume| match (&v.persistent_volume_claim, &v.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{name}-{}", v.name)),
        (None, None) => None,
    };
    volumes.filter_map(claim).collect()
}

fn raw(object: &Object) -> Result<Box<RawValue>> {
    serde_json::from_slice(&object.bytes).map_err(|source| Error::Decode { what: "object", source })
}

fn parse(text: &[u8]) -> std::result::Result<Recalled, String> {
    let kept: Kept = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let object = |raw: &RawValue| wire::object(raw.get().as_bytes()).map_err(|e| e.to_string());
    let config_maps = kept.config_maps.iter().map(|o| Ok(("configmaps", object(o)?)));
    let secrets = kept.secrets.iter().map(|o| Ok(("secrets", object(o)?)));
    let referred = config_maps.chain(secrets).collect::<std::result::Result<_, String>>()?;
    Ok(Recalled { pod: object(&kept.pod)?, referred, volumes: kept.volumes })
}

/// Written whole or not at all, readable by its owner alone.
fn write(dir: &Path, file: &Path, bytes: &[u8]) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::file("create", dir))?;
    let fresh = file.with_extension("new");
    let write = || {
        let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        std::fs::rename(&fresh, file)
    };
    write().map_err(Error::file("write", file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::os::unix::fs::PermissionsExt;

    fn object(tree: &Value) -> Object {
        wire::object(tree.to_string().as_bytes()).unwrap()
    }

    fn pod(change: impl Fn(&mut Value)) -> (Object, Pod) {
        let mut tree = json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u1", "resourceVersion": "7", "generation": 1},
            "spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Running"}});
        change(&mut tree);
        (object(&tree), serde_json::from_value(tree).unwrap())
    }

    fn secret() -> Referred {
        ("secrets", object(&json!({"metadata": {"name": "s", "namespace": "n", "resourceVersion": "3"}})))
    }

    fn volume(modes: &[&str]) -> BTreeMap<String, PersistentVolume> {
        let volume = json!({"metadata": {"name": "v"}, "spec": {"accessModes": modes}});
        BTreeMap::from([("data".to_owned(), serde_json::from_value(volume).unwrap())])
    }

    #[test]
    fn a_pod_comes_back_with_what_it_refers_to() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Offline::new(&dir.path().join("offline"));
        let (running, view) = pod(|_| {});
        memory.keep(&running, &view, &[secret()], BTreeMap::new()).unwrap();
        let file = dir.path().join("offline/u1.json");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(dir.path().join("offline/u2.json"), "{").unwrap();

        let again = Offline::new(&dir.path().join("offline"));
        assert!(!again.runs("u1") && again.object("secrets", "n", "s").is_none());
        let pods: Vec<_> = again.recall().iter().map(|p| p.head.key()).collect();
        assert_eq!(pods, ["n/a"], "the damaged one is left out");
        assert!(again.runs("u1") && again.object("secrets", "n", "s").is_some_and(|o| o.revision == 3));
        assert!(again.object("configmaps", "n", "s").is_none() && again.object("secrets", "m", "s").is_none());
        assert_eq!(again.settle(), ["u1"]);
        assert!(!again.runs("u1") && again.object("secrets", "n", "s").is_none());
        again.forget("u1").unwrap();
        assert!(!file.exists() && again.forget("u1").is_ok());
    }

    #[test]
    fn only_what_may_run_twice_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Offline::new(dir.path());
        let kept = |change: &dyn Fn(&mut Value), volumes: BTreeMap<String, PersistentVolume>| {
            let (ok, view) = pod(|_| {});
            memory.keep(&ok, &view, &[], BTreeMap::new()).unwrap();
            let (object, view) = pod(change);
            memory.keep(&object, &view, &[], volumes).unwrap();
            dir.path().join("u1.json").exists()
        };
        let claim = |p: &mut Value| {
            p["spec"]["volumes"] = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]);
        };
        let owner = |kind: &'static str| {
            move |p: &mut Value| {
                let owner = json!({"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "o", "controller": true});
                p["metadata"]["ownerReferences"] = json!([owner]);
            }
        };
        let none = BTreeMap::new;
        assert!(kept(&owner("ReplicaSet"), none()) && !kept(&owner("StatefulSet"), none()));
        assert!(!kept(&|p| p["status"]["phase"] = "Succeeded".into(), none()));
        assert!(!kept(&|p| p["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(), none()));
        assert!(kept(&claim, volume(&["ReadWriteMany"])) && kept(&claim, volume(&["ReadOnlyMany", "ReadWriteMany"])));
        assert!(!kept(&claim, volume(&["ReadWriteOnce"])) && !kept(&claim, volume(&["ReadWriteOncePod"])));
        assert!(!kept(&claim, volume(&["ReadWriteOnce", "ReadWriteMany"])) && !kept(&claim, volume(&[])));
        assert!(!kept(&claim, none()), "a volume that is not known");
    }

    #[test]
    fn what_did_not_change_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Offline::new(dir.path());
        let (running, view) = pod(|_| {});
        memory.keep(&running, &view, &[], BTreeMap::new()).unwrap();
        std::fs::remove_file(dir.path().join("u1.json")).unwrap();
        memory.keep(&running, &view, &[], BTreeMap::new()).unwrap();
        assert!(!dir.path().join("u1.json").exists());
        memory.keep(&running, &view, &[secret()], BTreeMap::new()).unwrap();
        assert!(dir.path().join("u1.json").exists());
    }
}
