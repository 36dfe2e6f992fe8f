//! emptyDir volumes: on disk, in memory, or in huge pages.

use super::{ensure_mounted, tmpfs_options};
use crate::error::{Error, Result};
use crate::pods::hugepages;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
use kybern_api::meta::quantity::Quantity;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::str::FromStr;

pub(super) fn make(source: &EmptyDirVolumeSource, dir: &Path, pod: &Pod, group: Option<u32>) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    let medium = source.medium.as_deref().unwrap_or_default();
    let huge = hugepages::mount_option(medium, pod)?;
    std::fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    if let Err(e) = fill(source, dir, medium, huge) {
        // Left behind, it would count as made the next time. What cannot be removed is in use.
        let _ = std::fs::remove_dir(dir);
        return Err(e);
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    if group.is_some() {
        chown(dir, None, group).map_err(Error::file("chown", dir))?;
    }
    // After the chown, which clears the setgid bit; and not at creation, where the umask would cut it.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).map_err(Error::file("chmod", dir))
}

/// Mounts what the directory is to be made of, unless that is the disk.
fn fill(source: &EmptyDirVolumeSource, dir: &Path, medium: &str, huge: Option<String>) -> Result<()> {
    if medium == "Memory" {
        let limit = source.size_limit.as_ref().and_then(|q| Quantity::from_str(&q.0).ok());
        ensure_mounted(dir, "tmpfs", &tmpfs_options(limit.map(Quantity::value)))?;
    }
    huge.map_or(Ok(()), |option| ensure_mounted(dir, "hugetlbfs", &option))
}
