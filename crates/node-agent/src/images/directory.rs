//! A directory of image archives: what lies in it, or comes into it, is put into the runtime.

use super::archive;
use super::import::Importer;
use crate::error::{Error, Result};
use crate::inotify::Events;
use crate::runtime::Runtime;
use crate::runtime::events::TaskChanged;
use nix::sys::inotify::AddWatchFlags;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What an archive was when it was imported, and the images it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// Inode, size, and time of the last change in nanoseconds.
    stamp: (u64, u64, i128),
    images: Vec<String>,
}

/// The directory.
pub struct Directory {
    /// Where the archives are put.
    pub dir: PathBuf,
    /// File that keeps what has been imported, so that large archives are not read at every start.
    pub record: PathBuf,
    /// Puts images into the runtime.
    pub importer: Importer,
    /// Says which images are there.
    pub runtime: Arc<dyn Runtime>,
    /// Told, by an event without id, when there are new images: pods may have waited for them.
    pub changes: mpsc::Sender<TaskChanged>,
}

impl Directory {
    /// Imports what is there and what comes, until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        if let Some(Err(e)) = cancel.run_until_cancelled(self.follow()).await {
            tracing::error!(dir = %self.dir.display(), error = %e, "archives of images are no longer taken from here");
        }
    }

    async fn follow(&self) -> Result<()> {
        let failed = || Error::file("watch", &self.dir);
        std::fs::create_dir_all(&self.dir).map_err(Error::file("create", &self.dir))?;
        let mut events = Events::new().map_err(failed())?;
        // A file that is still being written is closed once it is whole.
        let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
        events.watch(&self.dir, flags).map_err(failed())?;
        loop {
            if self.import_all().await {
                // A closed channel means that the agent ends.
                self.changes.send(TaskChanged { id: String::new() }).await.ok();
            }
            events.next().await.map_err(failed())?;
        }
    }

    /// Imports the archives that are new; was there one? What cannot be imported is told and left alone
    /// until it changes or the agent starts again.
    async fn import_all(&self) -> bool {
        let known = self.load();
        let (mut now, mut news) = (BTreeMap::new(), false);
        for (name, path) in archives(&self.dir) {
            let Ok(stamp) = stamp(&path) else { continue };
            if let Some(old) = known.get(&name)
                && old.stamp == stamp
                && self.has_all(&old.images).await
            {
                now.insert(name, old.clone());
                continue;
            }
            match self.import(&path).await {
                Ok(images) => {
                    tracing::info!(archive = %path.display(), ?images, "images imported");
                    now.insert(name, Known { stamp, images });
                    news = true;
                }
                Err(e) => tracing::warn!(archive = %path.display(), error = %e, "not imported"),
            }
        }
        if now != known
            && let Err(e) = self.save(&now)
        {
            tracing::warn!(error = %e, "archives will be read again at the next start");
        }
        news
    }

    async fn has_all(&self, images: &[String]) -> bool {
        for image in images {
            if !matches!(self.runtime.image(image).await, Ok(Some(_))) {
                return false;
            }
        }
        true
    }

    async fn import(&self, path: &Path) -> Result<Vec<String>> {
        let scratch = self.record.with_extension("scratch");
        std::fs::create_dir_all(&scratch).map_err(Error::file("create", &scratch))?;
        let imported = self.import_by(path, &scratch).await;
        std::fs::remove_dir_all(&scratch).map_err(Error::file("remove", &scratch))?;
        imported
    }

    async fn import_by(&self, path: &Path, scratch: &Path) -> Result<Vec<String>> {
        let name = path.display().to_string();
        let (path, scratch) = (path.to_owned(), scratch.to_owned());
        // Large files take their time.
        let opened = tokio::task::spawn_blocking(move || archive::open(&path, &scratch)).await;
        let bundle = opened.map_err(|e| Error::Archive { path: name, why: e.to_string() })??;
        self.importer.import(&bundle, &*self.runtime, "kybern-directory").await
    }

    /// A record that cannot be read costs time and nothing else.
    fn load(&self) -> BTreeMap<String, Known> {
        std::fs::read(&self.record).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
    }

    fn save(&self, known: &BTreeMap<String, Known>) -> Result<()> {
        let bytes = serde_json::to_vec(known).map_err(|source| Error::Decode { what: "record of images", source })?;
        std::fs::write(&self.record, bytes).map_err(Error::file("write", &self.record))
    }
}

/// The archives of a directory, by name. Hidden files are on their way.
fn archives(dir: &Path) -> BTreeMap<String, PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let named = entries.map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()));
    named.filter(|(name, path)| !name.starts_with('.') && path.is_file()).collect()
}

fn stamp(path: &Path) -> std::io::Result<(u64, u64, i128)> {
    let meta = std::fs::metadata(path)?;
    Ok((meta.ino(), meta.len(), i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())))
}
