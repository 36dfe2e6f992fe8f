//! Private files: mode 600 in directories of mode 700, replaced as a whole or not at all.

use crate::error::{Error, Result};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Writes a file that only its owner may read. Its directory is made (mode 700) where it is missing,
/// and narrowed to 700 where `own_dir` says that it is ours alone.
///
/// # Errors
/// When the file system refuses.
pub fn write_private(path: &Path, content: &[u8], own_dir: bool) -> Result<()> {
    write(path, content, own_dir).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Reads a private file.
///
/// # Errors
/// When it is missing or unreadable.
pub fn read_private(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn write(path: &Path, content: &[u8], own_dir: bool) -> std::io::Result<()> {
    let dir = path.parent().ok_or_else(|| std::io::Error::other("the path has no directory"))?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    if own_dir {
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    }
    let mut name = path.file_name().ok_or_else(|| std::io::Error::other("the path has no file name"))?.to_owned();
    name.push(".new");
    let fresh = dir.join(name);
    // a leftover of an interrupted write may have other permissions
    match fs::remove_file(&fresh) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(dir)?.sync_all()
}
