//! Replaces a directory's files in one step: readers see all old or all new ones.
//!
//! Files live in a hidden directory; `..data` is a link to it, and each visible name a link through
//! `..data`. An update writes another hidden directory and renames a new `..data` over the old one.

use super::payload::Payload;
use crate::error::{Error, Result};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Makes `dir` contain the payload. Does nothing when it does already.
///
/// # Errors
/// When a file cannot be written; the old contents are then still in place.
pub fn write(dir: &Path, payload: &Payload, group: Option<u32>, now: Timestamp) -> Result<()> {
    let current = std::fs::read_link(dir.join(DATA)).ok();
    if current.as_ref().is_some_and(|c| holds(&dir.join(c), payload)) {
        return Ok(());
    }
    let version = free_name(dir, now);
    let target = dir.join(&version);
    std::fs::create_dir(&target).map_err(Error::file("create", &target))?;
    for (path, file) in payload {
        let to = target.join(path);
        let parent = to.parent().unwrap_or(&target);
        std::fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
        std::fs::write(&to, &file.content).map_err(Error::file("write", &to))?;
        let mode = if group.is_some() { file.mode | 0o040 } else { file.mode };
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode)).map_err(Error::file("chmod", &to))?;
        if group.is_some() {
            chown(&to, None, group).map_err(Error::file("chown", &to))?;
        }
    }
    let next = dir.join(NEXT);
    let _ = std::fs::remove_file(&next);
    symlink(&version, &next).map_err(Error::file("link", &next))?;
    let data = dir.join(DATA);
    std::fs::rename(&next, &data).map_err(Error::file("replace", &data))?;
    link_names(dir, payload)?;
    if let Some(old) = current {
        let old = dir.join(old);
        std::fs::remove_dir_all(&old).map_err(Error::file("remove", &old))?;
    }
    Ok(())
}

/// Does the directory hold exactly these files?
fn holds(dir: &Path, payload: &Payload) -> bool {
    let same = |(path, file): (&String, &super::payload::File)| {
        std::fs::read(dir.join(path)).is_ok_and(|content| content == file.content)
    };
    payload.iter().all(same) && count(dir) == payload.len()
}

fn count(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { count(&e.path()) } else { 1 }).sum()
}

fn free_name(dir: &Path, now: Timestamp) -> PathBuf {
    let base = format!("..{}", now.strftime("%Y_%m_%d_%H_%M_%S"));
    let names = std::iter::once(base.clone()).chain((1..u32::MAX).map(|n| format!("{base}.{n}")));
    names.map(PathBuf::from).find(|n| !dir.join(n).exists()).unwrap_or_default()
}

/// Makes the visible links equal to the payload's first path components.
fn link_names(dir: &Path, payload: &Payload) -> Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|p| p.split('/').next()).collect();
    for name in &wanted {
        let link = dir.join(name);
        if std::fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link).map_err(Error::file("link", &link))?;
        }
    }
    for entry in std::fs::read_dir(dir).map_err(Error::file("list", dir))?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) {
            std::fs::remove_file(entry.path()).map_err(Error::file("remove", &entry.path()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::payload::File;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |c: &str| File { content: c.into(), mode: 0o640 };
        files.iter().map(|(n, c)| ((*n).to_owned(), file(c))).collect()
    }

    #[test]
    fn updates_replace_everything_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |s| Timestamp::from_second(s).unwrap();
        let read = |n: &str| std::fs::read_to_string(dir.path().join(n)).ok();
        write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")]), None, at(0)).unwrap();
        assert_eq!((read("a").as_deref(), read("d/b").as_deref()), (Some("1"), Some("2")));
        let first = std::fs::read_link(dir.path().join(DATA)).unwrap();

        write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")]), None, at(5)).unwrap();
        assert_eq!(std::fs::read_link(dir.path().join(DATA)).unwrap(), first, "unchanged contents stay");

        write(dir.path(), &payload(&[("a", "3"), ("c", "4")]), None, at(0)).unwrap();
        assert_eq!((read("a").as_deref(), read("c").as_deref(), read("d/b")), (Some("3"), Some("4"), None));
        assert!(!dir.path().join(first).exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4, "..data, its target and two names");
        let mode = std::fs::metadata(dir.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }
}
