//! The servers' addresses, kept over restarts.

use std::io::Write;
use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// The addresses and their file.
#[derive(Debug)]
pub(super) struct Servers {
    path: PathBuf,
    list: watch::Sender<Vec<String>>,
}

impl Servers {
    /// Those of the file, then those of the configuration that it lacks. A missing or damaged file is none:
    /// the configured servers tell the rest.
    pub(super) fn load(path: PathBuf, configured: Vec<String>) -> Self {
        let mut list: Vec<String> = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "the list of known servers is damaged");
                Vec::new()
            }),
            Err(_) => Vec::new(),
        };
        for server in configured {
            if !list.contains(&server) {
                list.push(server);
            }
        }
        Self { path, list: watch::Sender::new(list) }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Vec<String>> {
        self.list.subscribe()
    }
    /// The address to try as number `attempt`, counting round.
    pub(super) fn at(&self, attempt: usize) -> Option<String> {
        let list = self.list.borrow();
        list.get(attempt.checked_rem(list.len())?).cloned()
    }

    pub(super) fn count(&self) -> usize {
        self.list.borrow().len()
    }
    /// Takes over what a server says; nothing said is nothing learnt.
    pub(super) fn learn(&self, servers: Vec<String>) {
        if servers.is_empty() || *self.list.borrow() == servers {
            return;
        }
        if let Err(error) = save(&self.path, &servers) {
            tracing::warn!(path = %self.path.display(), %error, "the list of servers cannot be kept");
        }
        self.list.send_replace(servers);
    }
}

/// Replaces the file as a whole.
fn save(path: &Path, servers: &[String]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(&serde_json::to_vec(servers)?)?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learnt_outlives_the_process() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("servers.json");
        let servers = Servers::load(path.clone(), vec!["a:1".into()]);
        servers.learn(vec!["a:1".into(), "b:1".into()]);
        servers.learn(Vec::new());
        let again = Servers::load(path.clone(), vec!["c:1".into(), "a:1".into()]);
        assert_eq!(*again.watch().borrow(), ["a:1", "b:1", "c:1"]);
        assert_eq!([again.at(2), again.at(3)], [Some("c:1".into()), Some("a:1".into())]);
        std::fs::write(&path, "[").expect("write");
        assert_eq!(*Servers::load(path, vec!["c:1".into()]).watch().borrow(), ["c:1"]);
    }
}
