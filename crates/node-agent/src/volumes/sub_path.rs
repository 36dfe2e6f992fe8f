//! subPath: a part of a volume, which must not lead out of it.

use super::payload::relative;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// The host path of `sub` inside a volume; made as a directory where nothing is.
///
/// # Errors
/// When it leads out of the volume, by `..` or through a link.
pub fn resolve(volume: &Path, sub: &str) -> Result<PathBuf> {
    let path = volume.join(relative(sub)?);
    let root = volume.canonicalize().map_err(Error::file("open", volume))?;
    // The deepest part that exists decides where the rest would be made.
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or(volume);
    let real = existing.canonicalize().map_err(Error::file("open", existing))?;
    if !real.starts_with(&root) {
        return Err(Error::Pod(format!("subPath {sub:?} leads out of the volume")));
    }
    if existing == path {
        return Ok(real);
    }
    std::fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
    path.canonicalize().map_err(Error::file("open", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_do_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        std::fs::create_dir(&volume).unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        assert!(resolve(&volume, "a/b").unwrap().is_dir());
        assert!(
            resolve(&volume, "out").is_err() && resolve(&volume, "out/x").is_err() && resolve(&volume, "../v").is_err()
        );
        assert!(!Path::new("/etc/x").exists());
    }
}
