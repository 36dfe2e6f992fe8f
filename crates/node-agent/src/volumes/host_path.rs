//! hostPath volumes: a path of the node, checked or made as its type says.

use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::HostPathVolumeSource;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

pub(super) fn resolve(source: &HostPathVolumeSource) -> Result<PathBuf> {
    let path = PathBuf::from(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "DirectoryOrCreate" if !path.exists() => {
            std::fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
        }
        "FileOrCreate" if !path.exists() => {
            std::fs::File::create(&path).map_err(Error::file("create", &path))?;
        }
        _ => {}
    }
    if fits(kind, &path) {
        return Ok(path);
    }
    Err(Error::Pod(format!("hostPath type check failed: {} is not {}", path.display(), described(kind))))
}

fn fits(kind: &str, path: &Path) -> bool {
    let Ok(meta) = std::fs::metadata(path) else { return kind.is_empty() };
    let file_type = meta.file_type();
    match kind {
        "Directory" | "DirectoryOrCreate" => file_type.is_dir(),
        "File" | "FileOrCreate" => file_type.is_file(),
        "Socket" => file_type.is_socket(),
        "CharDevice" => file_type.is_char_device(),
        "BlockDevice" => file_type.is_block_device(),
        _ => true,
    }
}

fn described(kind: &str) -> &str {
    match kind {
        "Directory" | "DirectoryOrCreate" => "a directory",
        "File" | "FileOrCreate" => "a file",
        "Socket" => "a socket file",
        "CharDevice" => "a character device",
        "BlockDevice" => "a block device",
        _ => "there",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, kind: &str| {
            resolve(&HostPathVolumeSource {
                path: dir.path().join(name).display().to_string(),
                type_: Some(kind.into()),
            })
        };
        assert!(at("x", "Directory").unwrap_err().to_string().ends_with("is not a directory"));
        assert!(at("x", "DirectoryOrCreate").unwrap().is_dir());
        assert!(at("f", "FileOrCreate").unwrap().is_file());
        assert!(at("f", "Directory").is_err() && at("x", "Socket").is_err());
        assert!(at("anything", "").is_ok());
    }
}
