//! Volumes of pods: one file per kind. Setting up is idempotent and is also how contents are kept
//! current; taking down undoes every mount below the pod's directory, whoever made it.

pub mod atomic;
mod config_map;
mod downward_api;
mod empty_dir;
mod host_path;
pub mod local;
mod nfs;
pub mod payload;
mod persistent_volume_claim;
mod projected;
mod secret;
pub mod sub_path;
pub mod token;

use crate::config::Paths;
use crate::error::{Error, Result};
use crate::pods::fields::Surroundings;
use crate::references::{Claim, Lookup};
use crate::teardown::unmount_below;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use nix::mount::{MsFlags, mount};
use payload::Payload;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use token::Tokens;

/// What a volume's contents come from.
pub(crate) struct Context<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) around: &'a Surroundings,
    pub(crate) lookup: &'a dyn Lookup,
    pub(crate) tokens: &'a Tokens,
    pub(crate) now: Timestamp,
    /// The earliest time at which contents get stale by themselves (tokens).
    pub(crate) refresh: Option<Timestamp>,
}

impl Context<'_> {
    pub(crate) fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }
    fn fs_group(&self) -> Option<u32> {
        let group = self.pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
        u32::try_from(group).ok()
    }
}

/// A pod's volumes on the node.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mounted {
    /// Host path of each volume, by name.
    pub paths: BTreeMap<String, PathBuf>,
    /// Those that are images: name and the image's id, once it is there.
    pub images: BTreeMap<String, String>,
    /// Names of those that no container may write to.
    pub read_only: BTreeSet<String>,
    /// When to set up again, although no object changes.
    pub refresh: Option<Timestamp>,
}

/// The part of a volume's set-up that does not wait.
enum Kind<'a> {
    /// A path that is there.
    Host(PathBuf),
    /// Files to write, in memory or on disk.
    Files { payload: Payload, memory: bool },
    /// A directory of another machine.
    Nfs(nfs::Export),
    /// An empty directory.
    Empty(&'a k8s_openapi::api::core::v1::EmptyDirVolumeSource),
}

/// Sets all volumes of a pod up, or brings their contents up to date.
///
/// # Errors
/// When a volume's kind is not supported, or what it refers to is missing.
pub async fn set_up(
    paths: &Paths,
    pod: &Pod,
    around: &Surroundings,
    lookup: &dyn Lookup,
    tokens: &Tokens,
    now: Timestamp,
) -> Result<Mounted> {
    let mut context = Context { pod, around, lookup, tokens, now, refresh: None };
    let mut mounted = Mounted::default();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        if volume.image.is_some() {
            // The runtime mounts it; whoever makes a container sees to it that it is there.
            continue;
        }
        let dir = paths.pod(uid).join("volumes").join(&volume.name);
        let kind = resolve(&mut context, paths, volume, &dir).await.map_err(|e| failed(volume, e))?;
        let path = make(&context, kind, dir).await.map_err(|e| failed(volume, e))?;
        mounted.paths.insert(volume.name.clone(), path);
        if volume.persistent_volume_claim.as_ref().is_some_and(|c| c.read_only == Some(true)) {
            mounted.read_only.insert(volume.name.clone());
        }
    }
    mounted.refresh = context.refresh;
    Ok(mounted)
}

fn failed(volume: &Volume, error: Error) -> Error {
    match error {
        Error::Volume { .. } => error,
        other => Error::Volume { volume: volume.name.clone(), why: other.to_string() },
    }
}

/// The first volume of a kind this agent cannot mount, with the field that says so.
pub fn unsupported(pod: &Pod) -> Option<(String, String)> {
    let known = [
        "emptyDir",
        "hostPath",
        "configMap",
        "secret",
        "projected",
        "downwardAPI",
        "persistentVolumeClaim",
        "ephemeral",
        "nfs",
        "image",
        "name",
    ];
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).find_map(|v| {
        let json = serde_json::to_value(v).ok()?;
        let kind = json.as_object()?.keys().find(|k| !known.contains(&k.as_str()))?.clone();
        Some((v.name.clone(), kind))
    })
}

async fn resolve<'a>(context: &mut Context<'_>, paths: &Paths, volume: &'a Volume, dir: &Path) -> Result<Kind<'a>> {
    if let Some(source) = &volume.persistent_volume_claim {
        let claim = Claim { name: &source.claim_name, made_for_pod: false };
        return persistent_volume_claim::resolve(context, paths, claim).await;
    }
    if volume.ephemeral.is_some() {
        let name = format!("{}-{}", context.pod.metadata.name.as_deref().unwrap_or_default(), volume.name);
        return persistent_volume_claim::resolve(context, paths, Claim { name: &name, made_for_pod: true }).await;
    }
    if let Some(source) = &volume.nfs {
        return Ok(Kind::Nfs(nfs::Export::of(source, Vec::new())));
    }
    if let Some(source) = &volume.host_path {
        return host_path::resolve(source).map(Kind::Host);
    }
    if let Some(source) = &volume.config_map {
        return Ok(Kind::Files { payload: config_map::payload(context, source)?, memory: false });
    }
    if let Some(source) = &volume.secret {
        return Ok(Kind::Files { payload: secret::payload(context, source)?, memory: true });
    }
    if let Some(source) = &volume.downward_api {
        return Ok(Kind::Files { payload: downward_api::payload(context, source)?, memory: true });
    }
    if let Some(source) = &volume.projected {
        return Ok(Kind::Files { payload: projected::payload(context, source, dir).await?, memory: true });
    }
    match &volume.empty_dir {
        Some(source) => Ok(Kind::Empty(source)),
        None => Err(Error::Pod("this kind of volume is not supported".into())),
    }
}

async fn make(context: &Context<'_>, kind: Kind<'_>, dir: PathBuf) -> Result<PathBuf> {
    match kind {
        Kind::Host(path) => Ok(path),
        Kind::Nfs(export) => {
            nfs::set_up(&export, &dir, nfs::MOUNT).await?;
            Ok(dir)
        }
        Kind::Empty(source) => {
            empty_dir::make(source, &dir, context.pod, context.fs_group())?;
            Ok(dir)
        }
        Kind::Files { payload, memory } => {
            std::fs::create_dir_all(&dir).map_err(Error::file("create", &dir))?;
            if memory {
                ensure_mounted(&dir, "tmpfs", &tmpfs_options(None))?;
            }
            atomic::write(&dir, &payload, context.fs_group(), context.now)?;
            Ok(dir)
        }
    }
}

/// Mounts a file system of memory on a directory, unless there is one.
fn ensure_mounted(dir: &Path, kind: &str, options: &str) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let device = |p: &Path| std::fs::metadata(p).map(|m| m.dev()).ok();
    if device(dir) != dir.parent().and_then(device) {
        return Ok(());
    }
    mount(Some(kind), dir, Some(kind), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options))
        .map_err(|e| Error::file("mount memory on", dir)(e.into()))
}

fn tmpfs_options(size: Option<i64>) -> String {
    size.map_or_else(|| "mode=0755".to_owned(), |s| format!("mode=0777,size={s}"))
}

/// Undoes a pod's mounts and removes its directory; idempotent.
///
/// # Errors
/// When something stays behind.
pub fn tear_down(paths: &Paths, uid: &str) -> Result<()> {
    if uid.is_empty() {
        return Ok(());
    }
    let dir = paths.pod(uid);
    unmount_below(&[&dir])?;
    match std::fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", &dir)(e)),
        _ => Ok(()),
    }
}
