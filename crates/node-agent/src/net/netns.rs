//! Network namespaces by path: create, enter (a thread), remove.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use std::io;
use std::path::{Path, PathBuf};

/// Where named namespaces live, as `ip netns` has them.
pub const NETNS_DIR: &str = "/run/netns";

/// The path of a named namespace.
pub fn path(name: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(name)
}

/// Does a named namespace exist (and is it mounted, not a left-over file)?
pub fn exists(name: &str) -> bool {
    std::fs::read_to_string("/proc/self/mountinfo")
        .is_ok_and(|m| m.lines().any(|l| l.split(' ').nth(4) == path(name).to_str()))
}

/// Creates a named namespace that stays until [`delete`]; does nothing when it is there.
///
/// # Errors
/// When the process may not (root is needed) or the mount fails.
pub fn create(name: &str) -> io::Result<()> {
    if exists(name) {
        return Ok(());
    }
    std::fs::create_dir_all(NETNS_DIR)?;
    let target = path(name);
    std::fs::File::create(&target)?;
    let mounted = on_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some("/proc/thread-self/ns/net"), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    });
    if mounted.is_err() {
        let _ = std::fs::remove_file(path(name));
    }
    mounted
}

/// Removes a named namespace; what runs inside keeps it alive until it ends. Absent is fine.
///
/// # Errors
/// When the mount or the file can't be removed.
pub fn delete(name: &str) -> io::Result<()> {
    let target = path(name);
    if exists(name) {
        umount2(&target, MntFlags::MNT_DETACH)?;
    }
    match std::fs::remove_file(&target) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Runs `work` on a thread of its own inside the namespace at `netns`. Sockets opened and processes
/// started there stay in that namespace.
///
/// # Errors
/// When the namespace can't be entered, or the work's own error.
pub fn run_in<T, F>(netns: &Path, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let file = std::fs::File::open(netns)?;
    on_thread(move || {
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        work()
    })
}

/// Like [`run_in`] for asynchronous work, on a small runtime of that thread.
///
/// # Errors
/// As [`run_in`].
pub fn run_in_async<T, F, Fut>(netns: &Path, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = io::Result<T>>,
{
    run_in(netns, move || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work()))
}

fn on_thread<T, F>(work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    std::thread::Builder::new()
        .name("netns".into())
        .spawn(work)?
        .join()
        .map_err(|_| io::Error::other("the namespace thread panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_created_entered_and_removed() {
        let name = format!("kybern-ut-{}", std::process::id());
        create(&name).unwrap();
        create(&name).unwrap();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let inside = run_in(&path(&name), || std::fs::read_link("/proc/thread-self/ns/net")).unwrap();
        assert_ne!(own, inside);
        assert_eq!(own, std::fs::read_link("/proc/thread-self/ns/net").unwrap());
        delete(&name).unwrap();
        assert!(!exists(&name) && !path(&name).exists());
        delete(&name).unwrap();
    }
}
