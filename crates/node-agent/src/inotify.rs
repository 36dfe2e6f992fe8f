//! The kernel's news about files, without blocking.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// A stream of events about the files that are watched.
pub(crate) struct Events(AsyncFd<Fd>);

struct Fd(Inotify);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Events {
    /// Of nothing yet.
    #[expect(deprecated, reason = "its successor is unsafe, for descriptors that change under it; this one is owned")]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(AsyncFd::new(Fd(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?))?))
    }
    /// Watches one more file or directory.
    pub(crate) fn watch(&self, path: &Path, flags: AddWatchFlags) -> io::Result<()> {
        Ok(self.0.get_ref().0.add_watch(path, flags).map(drop)?)
    }
    /// Waits for the next events.
    pub(crate) async fn next(&mut self) -> io::Result<Vec<InotifyEvent>> {
        loop {
            let mut ready = self.0.readable().await?;
            // An error of the outer kind only says that there was nothing after all.
            if let Ok(events) = ready.try_io(|fd| Ok(fd.get_ref().0.read_events()?)) {
                return events;
            }
        }
    }
}
