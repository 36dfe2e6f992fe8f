//! Log rotation: a container's log is renamed when it is long, the runtime opens a new one, and a few
//! old ones are kept, compressed but for the latest.

use crate::config::Paths;
use crate::error::{Error, Result};
use crate::runtime::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID, Runtime};
use flate2::Compression;
use flate2::write::GzEncoder;
use kybern_wire::cri as pb;
use std::path::{Path, PathBuf};

/// A log is rotated when it is longer than this.
const MAX_SIZE: u64 = 10 << 20;
/// Files kept of one log, the one being written included.
const MAX_FILES: usize = 5;

/// Rotates the logs of running containers that are too long.
///
/// # Errors
/// When the runtime cannot be listed. What goes wrong with one log is logged and tried again.
pub async fn rotate(runtime: &dyn Runtime, paths: &Paths, stamp: &str) -> Result<()> {
    for c in runtime.containers(None).await? {
        if c.state() != pb::ContainerState::ContainerRunning {
            continue;
        }
        let label = |key: &str| c.labels.get(key).map(String::as_str).unwrap_or_default();
        let attempt = c.metadata.as_ref().map_or(0, |m| m.attempt);
        let dir = paths.pod_logs(label(POD_NAMESPACE), label(POD_NAME), label(POD_UID));
        let log = dir.join(super::config::log_path(label(CONTAINER_NAME), attempt));
        if !is_long(&log) {
            continue;
        }
        if let Err(e) = one(runtime, &c.id, log.clone(), stamp).await {
            tracing::warn!(log = %log.display(), error = %e, "a log is not rotated");
        }
    }
    Ok(())
}

/// Links are not followed: a log is a file of the runtime's making.
fn is_long(log: &Path) -> bool {
    std::fs::symlink_metadata(log).is_ok_and(|m| m.is_file() && m.len() > MAX_SIZE)
}

async fn one(runtime: &dyn Runtime, id: &str, log: PathBuf, stamp: &str) -> Result<()> {
    let tidied = tokio::task::spawn_blocking({
        let log = log.clone();
        move || tidy(&log)
    });
    tidied.await.map_err(|e| Error::file("rotate", &log)(e.into()))??;
    let rotated = with_suffix(&log, stamp);
    std::fs::rename(&log, &rotated).map_err(Error::file("rename", &log))?;
    if let Err(e) = runtime.reopen_log(id).await {
        // The runtime goes on writing to the file it has open: it gets its name back.
        std::fs::rename(&rotated, &log).map_err(Error::file("rename", &rotated))?;
        return Err(e);
    }
    Ok(())
}

fn with_suffix(log: &Path, suffix: &str) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Makes room for one more rotated log, and compresses those that are there.
fn tidy(log: &Path) -> Result<()> {
    let mut old = rotated(log)?;
    let surplus = (old.len() + 2).saturating_sub(MAX_FILES);
    for path in old.drain(..surplus) {
        std::fs::remove_file(&path).map_err(Error::file("remove", &path))?;
    }
    for path in old.iter().filter(|p| p.extension().is_none_or(|e| e != "gz")) {
        compress(path).map_err(Error::file("compress", path))?;
    }
    Ok(())
}

/// The rotated files of a log, oldest first: their names end with the time.
fn rotated(log: &Path) -> Result<Vec<PathBuf>> {
    let dir = log.parent().unwrap_or(log);
    let prefix = format!("{}.", log.file_name().unwrap_or_default().to_string_lossy());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::file("read", dir))? {
        let entry = entry.map_err(Error::file("read", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".tmp") {
            // Left by an agent that was killed while it compressed.
            std::fs::remove_file(entry.path()).map_err(Error::file("remove", &entry.path()))?;
        } else if name.starts_with(&prefix) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn compress(path: &Path) -> std::io::Result<()> {
    let (partial, whole) = (with_suffix(path, "tmp"), with_suffix(path, "gz"));
    let mut encoder = GzEncoder::new(std::fs::File::create(&partial)?, Compression::fast());
    std::io::copy(&mut std::fs::File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    std::fs::rename(&partial, &whole)?;
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fake::Fake;

    async fn world() -> (Fake, Paths, PathBuf, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(&dir.path().join("d"), &dir.path().join("s"));
        let fake = Fake::default();
        let labels = [(POD_NAMESPACE, "ns"), (POD_NAME, "p"), (POD_UID, "u"), (CONTAINER_NAME, "c")];
        let config = pb::ContainerConfig {
            metadata: Some(pb::ContainerMetadata { name: "c".into(), attempt: 0 }),
            labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ..Default::default()
        };
        let id = fake.create_container("s", config, pb::PodSandboxConfig::default()).await.unwrap();
        fake.start_container(&id).await.unwrap();
        let log = paths.pod_logs("ns", "p", "u").join("c/0.log");
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        (fake, paths, log, dir)
    }

    fn files(log: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(log.parent().unwrap()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn long_logs_are_renamed_compressed_and_forgotten() {
        let (fake, paths, log, _dir) = world().await;
        for round in 0..7 {
            std::fs::File::create(&log).unwrap().set_len(MAX_SIZE + 1).unwrap();
            rotate(&fake, &paths, &format!("2026010{round}")).await.unwrap();
        }
        std::fs::write(&log, "new").unwrap();
        rotate(&fake, &paths, "20260109").await.unwrap();
        let expected = ["0.log", "0.log.20260103.gz", "0.log.20260104.gz", "0.log.20260105.gz", "0.log.20260106"];
        assert_eq!(files(&log), expected);
        assert_eq!(fake.state.lock().calls.iter().filter(|c| c.starts_with("ReopenContainerLog")).count(), 7);
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_reopened_keeps_its_name() {
        let (fake, paths, log, _dir) = world().await;
        std::fs::File::create(&log).unwrap().set_len(MAX_SIZE + 1).unwrap();
        fake.state.lock().failing.insert("ReopenContainerLog", "no".into());
        rotate(&fake, &paths, "1").await.unwrap();
        assert_eq!(files(&log), ["0.log"]);
    }

    #[tokio::test]
    async fn a_link_in_a_logs_place_is_left_alone() {
        let (fake, paths, log, dir) = world().await;
        let elsewhere = dir.path().join("elsewhere");
        std::fs::File::create(&elsewhere).unwrap().set_len(MAX_SIZE + 1).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &log).unwrap();
        rotate(&fake, &paths, "1").await.unwrap();
        assert_eq!(files(&log), ["0.log"]);
    }
}
