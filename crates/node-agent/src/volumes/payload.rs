//! Files that a volume is to contain, whatever they come from.

use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::KeyToPath;
use std::collections::BTreeMap;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its content.
    pub content: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
}

/// Files by path relative to the volume.
pub type Payload = BTreeMap<String, File>;

/// Permissions where a pod says nothing.
pub const DEFAULT_MODE: i32 = 0o644;

/// Picks files out of an object's data: all of it, or the listed items.
///
/// # Errors
/// When an item's key is missing and not optional, or its path leads out of the volume.
pub fn pick(
    data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    mode: Option<i32>,
    optional: bool,
    what: &str,
) -> Result<Payload> {
    let mode = mode.unwrap_or(DEFAULT_MODE);
    let file = |content: Vec<u8>, mode: i32| File { content, mode: u32::try_from(mode).unwrap_or(0) & 0o777 };
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        return Ok(data.into_iter().map(|(k, v)| (k, file(v, mode))).collect());
    };
    let mut payload = Payload::new();
    for item in items {
        match data.get(&item.key) {
            Some(content) => {
                payload.insert(relative(&item.path)?.to_owned(), file(content.clone(), item.mode.unwrap_or(mode)));
            }
            None if optional => {}
            None => return Err(Error::Pod(format!("{what} references non-existent {what} key: {}", item.key))),
        }
    }
    Ok(payload)
}

/// Checks that a path stays inside the volume.
///
/// # Errors
/// When it is absolute, empty or contains `..`.
pub fn relative(path: &str) -> Result<&str> {
    let bad = path.is_empty() || path.starts_with('/') || path.split('/').any(|p| p.is_empty() || p.starts_with(".."));
    if bad { Err(Error::Pod(format!("invalid path {path:?}: must be relative and without \"..\""))) } else { Ok(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_choose_rename_and_chmod() {
        let data = BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        let items = [KeyToPath { key: "a".into(), path: "x/y".into(), mode: Some(0o600) }];
        let some = pick(data.clone(), Some(&items), None, false, "configmap").unwrap();
        assert_eq!(some, Payload::from([("x/y".into(), File { content: b"1".to_vec(), mode: 0o600 })]));
        assert_eq!(pick(data.clone(), None, None, false, "configmap").unwrap().len(), 2);
        let missing = [KeyToPath { key: "z".into(), path: "z".into(), mode: None }];
        assert!(pick(data.clone(), Some(&missing), None, false, "configmap").is_err());
        assert!(pick(data, Some(&missing), None, true, "configmap").unwrap().is_empty());
    }

    #[test]
    fn paths_stay_inside() {
        for bad in ["", "/etc/passwd", "../x", "a/../b", "..data"] {
            assert!(relative(bad).is_err(), "{bad}");
        }
        assert!(relative("a/b.c").is_ok());
    }
}
