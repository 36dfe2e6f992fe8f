//! Local persistent volumes: directories of this node's disk. Those that the cluster's own provisioner
//! made out lie below the node's storage directory, where nothing else does.

use crate::config::Paths;
use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::{LocalVolumeSource, Node, PersistentVolume};
use kybern_client::informer::Informer;
use kybern_client::transport::{MERGE_PATCH, Resource};
use kybern_client::write::{At, Writer};
use serde_json::json;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Annotation of a Node: where it keeps volumes.
pub const DIRECTORY: &str = "kybern.io/local-path";
/// Before a volume's name, the annotation of a Node that asks for its removal.
const ASK: &str = "reclaim.kybern.io/";
/// Annotation of a volume: the node that has it.
const NODE: &str = "kybern.io/node";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const PROVISIONER: &str = "kybern.io/local-path";

/// The directory of a volume; made at its first use if it is the provisioner's.
pub(super) fn resolve(
    paths: &Paths,
    volume: &PersistentVolume,
    source: &LocalVolumeSource,
    node: &str,
    group: Option<u32>,
) -> Result<PathBuf> {
    let path = PathBuf::from(&source.path);
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let annotation = |key: &str| volume.metadata.annotations.as_ref().and_then(|a| a.get(key)).map(String::as_str);
    if annotation(NODE).is_some_and(|of| of != node) {
        return Err(Error::Pod(format!(
            "MountVolume.NodeAffinity check failed for volume {name:?} : no matching NodeSelectorTerms"
        )));
    }
    if annotation(PROVISIONED_BY) == Some(PROVISIONER) && place(paths, name).is_some_and(|own| own == path) {
        make(&path, group)?;
    }
    if path.exists() { Ok(path) } else { Err(Error::Pod(format!("path {:?} does not exist", source.path))) }
}

/// Where a volume of the provisioner lies; None for a name that would lead elsewhere.
fn place(paths: &Paths, name: &str) -> Option<PathBuf> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    plain.then(|| paths.storage().join(name))
}

fn make(path: &Path, group: Option<u32>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(path).map_err(Error::file("create", path))?;
    if group.is_some() {
        chown(path, None, group).map_err(Error::file("chown", path))?;
    }
    // After the chown, which clears the setgid bit; and not at creation, where the umask would cut it.
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Error::file("chmod", path))
}

/// Removes the volumes that this node is asked to remove, and says so on its Node, until the informer
/// of the nodes ends.
pub async fn give_back(nodes: Arc<Informer>, writer: Writer, paths: Paths, node: String) {
    let mut changes = nodes.subscribe();
    while let Some(change) = changes.recv().await {
        let Some(own) = change.new.filter(|n| n.object.head.name == node) else { continue };
        let own: Node = match own.object.view() {
            Ok(own) => own,
            Err(error) => {
                tracing::error!(%error, "the node's own object cannot be read");
                continue;
            }
        };
        for volume in asked(&own) {
            if let Err(error) = remove(&paths, &volume, &writer, &node).await {
                // The next change of the node brings it back; its status changes every few minutes.
                tracing::warn!(volume, %error, "a volume was not removed");
            }
        }
    }
}

fn asked(node: &Node) -> Vec<String> {
    let annotations = node.metadata.annotations.iter().flatten();
    let asks = annotations.filter(|(_, word)| word.as_str() == "delete");
    asks.filter_map(|(key, _)| key.strip_prefix(ASK).map(str::to_owned)).collect()
}

async fn remove(paths: &Paths, volume: &str, writer: &Writer, node: &str) -> Result<()> {
    let dir = place(paths, volume).ok_or_else(|| Error::Pod(format!("{volume:?} names no volume")))?;
    // Apart: many files take their time.
    let removed = tokio::task::spawn_blocking({
        let dir = dir.clone();
        move || std::fs::remove_dir_all(dir)
    });
    match removed.await.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::file("remove", &dir)(e)),
        _ => {}
    }
    let at = At { resource: &Resource::new("", "v1", "nodes"), namespace: "", name: node, subresource: "" };
    let patch = json!({"metadata": {"annotations": {format!("{ASK}{volume}"): "done"}}});
    writer.patch(at, MERGE_PATCH, &patch).await.map(drop).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(path: &Path, provisioner: &str) -> (PersistentVolume, LocalVolumeSource) {
        let annotations = json!({PROVISIONED_BY: provisioner, NODE: "n1"});
        let volume = json!({"metadata": {"name": "pvc-1", "annotations": annotations}});
        let source = LocalVolumeSource { path: path.display().to_string(), fs_type: None };
        (serde_json::from_value(volume).unwrap(), source)
    }

    #[test]
    fn only_the_provisioners_own_directories_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path(), dir.path());
        let own = paths.storage().join("pvc-1");
        let (v, source) = volume(&own, PROVISIONER);
        assert_eq!(resolve(&paths, &v, &source, "n1", None).unwrap(), own);
        assert_eq!(std::fs::metadata(&own).unwrap().permissions().mode() & 0o7777, 0o777);
        assert!(
            resolve(&paths, &v, &source, "n2", None).unwrap_err().to_string().contains("NodeAffinity check failed")
        );

        let elsewhere = dir.path().join("elsewhere");
        let (v, source) = volume(&elsewhere, PROVISIONER);
        assert!(resolve(&paths, &v, &source, "n1", None).unwrap_err().to_string().ends_with("does not exist"));
        let (v, source) = volume(&elsewhere, "by-hand");
        std::fs::create_dir(&elsewhere).unwrap();
        assert_eq!(resolve(&paths, &v, &source, "n1", None).unwrap(), elsewhere);
    }

    #[test]
    fn names_lead_nowhere_but_below_the_storage_directory() {
        let paths = Paths::new(Path::new("/d"), Path::new("/s"));
        assert_eq!(place(&paths, "pvc-1").as_deref(), Some(Path::new("/d/storage/pvc-1")));
        for name in ["", ".", "..", "../x", "/etc", "a/b"] {
            assert_eq!(place(&paths, name), None, "{name}");
        }
    }

    #[test]
    fn a_node_is_asked_by_its_annotations() {
        let node = json!({"metadata": {"annotations": {"reclaim.kybern.io/a": "delete", "reclaim.kybern.io/b": "done", "x": "delete"}}});
        assert_eq!(asked(&serde_json::from_value(node).unwrap()), ["a"]);
    }
}
