//! The cluster's keys in a server's data directory.

use anyhow::{Context, Result};
use jiff::Timestamp;
use kybern_authn::pki::ClusterKeys;
use std::path::{Path, PathBuf};

/// Where a server keeps the cluster's keys.
pub fn dir(data_dir: &Path) -> PathBuf {
    data_dir.join("server/tls")
}

/// The keys of this data directory; made where there are none.
///
/// # Errors
/// When they are damaged or can't be written.
pub fn load_or_create(data_dir: &Path, now: Timestamp) -> Result<ClusterKeys> {
    if let Some(keys) = load(data_dir)? {
        return Ok(keys);
    }
    let keys = ClusterKeys::create(now)?;
    keys.save(&dir(data_dir))?;
    Ok(keys)
}

/// The keys of this data directory, if it has them.
///
/// # Errors
/// When they are damaged.
pub fn load(data_dir: &Path) -> Result<Option<ClusterKeys>> {
    let dir = dir(data_dir);
    ClusterKeys::load(&dir).with_context(|| format!("the keys in {} can't be used", dir.display()))
}
