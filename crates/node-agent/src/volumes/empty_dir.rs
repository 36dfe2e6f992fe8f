//! emptyDir volumes, on disk or in memory.

use super::ensure_tmpfs;
use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use kybern_api::meta::quantity::Quantity;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::str::FromStr;

pub(super) fn make(source: &EmptyDirVolumeSource, dir: &Path, group: Option<u32>) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    if source.medium.as_deref() == Some("Memory") {
        let limit = source.size_limit.as_ref().and_then(|q| Quantity::from_str(&q.0).ok());
        ensure_tmpfs(dir, limit.map(Quantity::value))?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    if group.is_some() {
        chown(dir, None, group).map_err(Error::file("chown", dir))?;
    }
    // After the chown, which clears the setgid bit; and not at creation, where the umask would cut it.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).map_err(Error::file("chmod", dir))
}
