//! Static pods: manifests in a directory of the node. They run without the API; there they have a mirror,
//! a pod that only shows.

use super::spec::MIRROR;
use crate::error::{Error, Result};
use crate::inotify::Events;
use kybern_api::codec::{self, BodyType, FieldValidation};
use kybern_api::kind::Context;
use kybern_api::meta::time;
use kybern_api::object::Object;
use kybern_api::seam::Clock;
use nix::sys::inotify::AddWatchFlags;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Annotation of a static pod: its own uid.
const HASH: &str = "kubernetes.io/config.hash";
/// Annotation of a static pod: where it comes from.
const SOURCE: &str = "kubernetes.io/config.source";
/// Annotation of a static pod: when it was first seen.
const SEEN: &str = "kubernetes.io/config.seen";
/// A manifest longer than this is none.
const MAX_MANIFEST: u64 = 1 << 20;

/// The directory of manifests.
pub struct Sources {
    dir: PathBuf,
    node: String,
    clock: Arc<dyn Clock>,
}

impl Sources {
    /// Of a node with this name.
    pub fn new(dir: &Path, node: &str, clock: Arc<dyn Clock>) -> Self {
        Self { dir: dir.into(), node: node.into(), clock }
    }

    /// Reads the directory now, and again whenever it changes, until cancelled.
    pub fn start(self, cancel: CancellationToken) -> watch::Receiver<Vec<Object>> {
        let (out, pods) = watch::channel(self.read());
        tokio::spawn(async move {
            if let Some(Err(e)) = cancel.run_until_cancelled(self.follow(&out)).await {
                tracing::error!(dir = %self.dir.display(), error = %e, "static pods are no longer followed");
            }
        });
        pods
    }

    async fn follow(&self, out: &watch::Sender<Vec<Object>>) -> Result<()> {
        let failed = || Error::file("watch", &self.dir);
        std::fs::create_dir_all(&self.dir).map_err(Error::file("create", &self.dir))?;
        let mut events = Events::new().map_err(failed())?;
        let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE;
        events.watch(&self.dir, flags).map_err(failed())?;
        // What came between the first look and the watch.
        out.send_replace(self.read());
        loop {
            events.next().await.map_err(failed())?;
            out.send_replace(self.read());
        }
    }

    /// All pods of the directory. A file that is none is logged and left out.
    fn read(&self) -> Vec<Object> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        files.sort();
        let hidden = |p: &PathBuf| p.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
        files.retain(|p| !hidden(p) && p.is_file());
        let pods = files.iter().filter_map(|path| {
            let told = |why: String| tracing::warn!(manifest = %path.display(), why, "is no static pod");
            self.pod(path).map_err(told).ok()
        });
        pods.collect()
    }

    fn pod(&self, path: &Path) -> std::result::Result<Object, String> {
        let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
        if size > MAX_MANIFEST {
            return Err("it is too long".into());
        }
        let text = std::fs::read(path).map_err(|e| e.to_string())?;
        parse(&text, path, &self.node, self.clock.now())
    }
}

/// A manifest as a pod of this node, checked like one that is sent to the API.
fn parse(text: &[u8], path: &Path, node: &str, now: jiff::Timestamp) -> std::result::Result<Object, String> {
    let def = kybern_api::kinds::find("", "pods").ok_or("there are no pods")?;
    let served = def.served.first().ok_or("pods are not served")?;
    let kind = if path.extension().is_some_and(|e| e == "json") { BodyType::Json } else { BodyType::Yaml };
    let decoded = codec::decode_body(kind, text, def, served, FieldValidation::Strict).map_err(|s| s.message)?;
    let mut pod = decoded.tree;
    complete(&mut pod, text, path, node, now)?;
    let ctx = Context { def, subresource: "", now };
    def.strategy.prepare(&ctx, &mut pod, None);
    let mut causes = Vec::new();
    def.strategy.validate(&ctx, &pod, None, &mut causes);
    if let Some(cause) = causes.first() {
        return Err(format!("{}: {}", cause.field, cause.message));
    }
    if let Some(what) = unreadable(&pod) {
        return Err(format!("a static pod can't refer to {what}: the API may not be there"));
    }
    kybern_client::wire::object(pod.to_string().as_bytes()).map_err(|e| e.to_string())
}

/// Gives a manifest what makes it a pod of this node.
fn complete(
    pod: &mut Value,
    text: &[u8],
    path: &Path,
    node: &str,
    now: jiff::Timestamp,
) -> std::result::Result<(), String> {
    let name = pod.pointer("/metadata/name").and_then(Value::as_str).ok_or("it has no name")?.to_owned();
    let mut hash = Sha256::new();
    for part in [node.as_bytes(), path.as_os_str().as_encoded_bytes(), text] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let uid = hex::encode(&hash.finalize()[..16]);
    let metadata = &mut pod["metadata"];
    metadata["name"] = format!("{name}-{node}").into();
    metadata["uid"] = uid.as_str().into();
    metadata["generation"] = 1.into();
    if metadata["namespace"].as_str().is_none_or(str::is_empty) {
        metadata["namespace"] = "default".into();
    }
    metadata["annotations"][HASH] = uid.into();
    metadata["annotations"][SOURCE] = "file".into();
    metadata["annotations"][SEEN] = time::time(now).into();
    pod["spec"]["nodeName"] = node.into();
    // It stays whatever the node's taints.
    pod["spec"]["tolerations"] = json!([{ "effect": "NoExecute", "operator": "Exists" }]);
    Ok(())
}

/// What a manifest refers to that only the API knows.
fn unreadable(pod: &Value) -> Option<&'static str> {
    let text = pod["spec"].to_string();
    let words = [
        ("\"secretRef\"", "secrets"),
        ("\"secretKeyRef\"", "secrets"),
        ("\"secretName\"", "secrets"),
        ("\"imagePullSecrets\"", "secrets"),
        ("\"configMapRef\"", "config maps"),
        ("\"configMapKeyRef\"", "config maps"),
        ("\"configMap\":", "config maps"),
        ("\"serviceAccountName\"", "a service account"),
        ("\"serviceAccountToken\"", "a service account"),
        ("\"persistentVolumeClaim\"", "persistent volume claims"),
    ];
    words.iter().find(|(word, _)| text.contains(word)).map(|(_, what)| *what)
}

/// The static pod that an API pod mirrors; None: it is an ordinary one.
pub fn mirrored(pod: &Object) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct View {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        #[serde(default)]
        annotations: std::collections::BTreeMap<String, String>,
    }
    // Few pods are mirrors: the others are not parsed for it.
    if !pod.bytes.windows(MIRROR.len()).any(|w| w == MIRROR.as_bytes()) {
        return None;
    }
    let View { mut metadata } = pod.view().ok()?;
    metadata.annotations.remove(MIRROR)
}

/// The mirror to create for a static pod.
///
/// # Errors
/// When the pod cannot be read.
pub fn mirror(pod: &Object, node: &str, node_uid: &str) -> Result<Value> {
    let mut mirror: Value = pod.tree().map_err(|source| Error::Decode { what: "Pod", source })?;
    mirror["kind"] = "Pod".into();
    mirror["apiVersion"] = "v1".into();
    let metadata = &mut mirror["metadata"];
    metadata["annotations"][MIRROR] = pod.head.uid.as_str().into();
    metadata["ownerReferences"] =
        json!([{ "apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid, "controller": true }]);
    for key in ["uid", "generation"] {
        if let Some(map) = metadata.as_object_mut() {
            map.remove(key);
        }
    }
    if let Some(map) = mirror.as_object_mut() {
        map.remove("status");
    }
    Ok(mirror)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kybern_api::seam::FixedClock;

    const GOOD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: kube-system}\nspec:\n  hostNetwork: true\n  containers: [{name: c, image: \"a.b/c:1\"}]\n";

    fn parsed(text: &str) -> std::result::Result<Object, String> {
        parse(text.as_bytes(), Path::new("/m/web.yaml"), "n1", jiff::Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let pod = parsed(GOOD).unwrap();
        assert_eq!((pod.head.name.as_str(), pod.head.namespace.as_str()), ("web-n1", "kube-system"));
        let tree: Value = pod.tree().unwrap();
        assert_eq!((&tree["spec"]["nodeName"], &tree["spec"]["restartPolicy"]), (&json!("n1"), &json!("Always")));
        assert_eq!(tree["status"]["phase"], "Pending");
        assert_eq!(mirrored(&pod), None);
        let changed = parsed(&GOOD.replace("a.b/c:1", "a.b/c:2")).unwrap();
        assert_ne!(pod.head.uid, changed.head.uid, "a changed manifest is another pod");
        let shown = mirror(&pod, "n1", "node-uid").unwrap();
        let shown = kybern_client::wire::object(shown.to_string().as_bytes()).unwrap();
        assert_eq!(mirrored(&shown).as_deref(), Some(pod.head.uid.as_str()));
        assert_eq!((shown.head.uid.as_str(), shown.head.owners[0].kind.as_str()), ("", "Node"));
    }

    #[test]
    fn what_is_no_static_pod_is_said() {
        for (text, why) in [
            ("kind: Service\napiVersion: v1\nmetadata: {name: x}\n", ""),
            ("nonsense", ""),
            (&GOOD.replace("name: c,", ""), "spec.containers[0].name"),
            (&GOOD.replace("name: web", "generateName: web"), "it has no name"),
            (
                &GOOD.replace("image: \"a.b/c:1\"", "image: x, envFrom: [{secretRef: {name: s}}]"),
                "can't refer to secrets",
            ),
        ] {
            let said = parsed(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[tokio::test]
    async fn the_directory_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let manifests = dir.path().join("manifests");
        let cancel = CancellationToken::new();
        let clock = Arc::new(FixedClock::new(jiff::Timestamp::UNIX_EPOCH));
        let mut pods = Sources::new(&manifests, "n1", clock).start(cancel.clone());
        assert!(pods.borrow_and_update().is_empty());
        pods.changed().await.unwrap();
        std::fs::write(manifests.join(".hidden.yaml"), GOOD).unwrap();
        std::fs::write(manifests.join("bad.yaml"), "x").unwrap();
        std::fs::write(manifests.join("web.yaml"), GOOD).unwrap();
        pods.wait_for(|p| p.len() == 1).await.unwrap();
        std::fs::remove_file(manifests.join("web.yaml")).unwrap();
        pods.wait_for(Vec::is_empty).await.unwrap();
        cancel.cancel();
    }
}
