//! The audit log: events wait in a bounded queue for a thread that writes them to a file and turns it over.
//!
//! A request never waits for the disk: what does not fit into the queue is dropped and counted.

use super::Sink;
use super::event::Event;
use jiff::{SignedDuration, Timestamp};
use kybern_api::seam::Clock;
use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Memory that waiting events may take. A disk that stands still for longer than it takes to fill this
/// loses events, not requests.
const QUEUE_BYTES: usize = 8 << 20;
/// After the first event the thread waits this long for more: one wake and one write for all of them.
const BEAT: Duration = Duration::from_millis(50);

/// Where the log is, and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The file that is written to.
    pub path: PathBuf,
    /// Bytes after which it is turned over.
    pub max_size: u64,
    /// Turned-over files that are kept.
    pub max_backups: usize,
    /// How long they are kept.
    pub max_age: SignedDuration,
}

#[derive(Debug, Clone, Default)]
struct Figures {
    written: Counter,
    dropped: Counter,
    failed: Counter,
}

#[derive(Debug, Default)]
struct Queue {
    events: Vec<Event>,
    bytes: usize,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
    figures: Figures,
}

/// The log as a sink. Dropping it writes what waits.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Opens the log and starts its thread.
    ///
    /// # Errors
    /// When the file or its directory cannot be made.
    pub fn open(settings: LogSettings, clock: Arc<dyn Clock>, metrics: &mut Registry) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let f = &shared.figures;
        metrics.register("apiserver_audit_event", "Audit events written.", f.written.clone());
        metrics.register("apiserver_audit_dropped", "Audit events dropped: the queue was full.", f.dropped.clone());
        metrics.register("apiserver_audit_error", "Audit events that could not be written.", f.failed.clone());
        let files = Files::open(settings, clock)?;
        let writer = std::thread::Builder::new().name("audit".into()).spawn({
            let shared = shared.clone();
            move || write_until_closed(&shared, files)
        })?;
        Ok(Self { shared, writer: Mutex::new(Some(writer)) })
    }

    /// Writes what waits, and nothing after it.
    pub fn close(&self) {
        self.shared.queue.lock().closed = true;
        self.shared.news.notify_one();
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the audit log's thread broke");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

impl Sink for Log {
    fn push(&self, event: Event) {
        let weight = event.weight();
        let mut queue = self.shared.queue.lock();
        if queue.closed || queue.bytes + weight > QUEUE_BYTES {
            drop(queue);
            if self.shared.figures.dropped.inc() == 0 {
                tracing::warn!(
                    "the audit log cannot keep up: events are dropped and counted in apiserver_audit_dropped"
                );
            }
            return;
        }
        queue.bytes += weight;
        queue.events.push(event);
        let first = queue.events.len() == 1;
        drop(queue);
        if first {
            self.shared.news.notify_one();
        }
    }
}

fn write_until_closed(shared: &Shared, mut files: Files) {
    let mut lines = Vec::new();
    loop {
        let mut queue = shared.queue.lock();
        while queue.events.is_empty() && !queue.closed {
            shared.news.wait(&mut queue);
        }
        if !queue.closed {
            shared.news.wait_for(&mut queue, BEAT);
        }
        let closed = queue.closed;
        let events = std::mem::take(&mut queue.events);
        queue.bytes = 0;
        drop(queue);
        write(&events, &mut lines, &mut files, &shared.figures);
        if closed {
            return;
        }
    }
}

fn write(events: &[Event], lines: &mut Vec<u8>, files: &mut Files, figures: &Figures) {
    lines.clear();
    for event in events {
        lines.extend_from_slice(event.to_json().to_string().as_bytes());
        lines.push(b'\n');
    }
    let count = events.len() as u64;
    match files.append(lines) {
        Ok(()) => drop(figures.written.inc_by(count)),
        Err(error) => {
            if figures.failed.inc_by(count) == 0 {
                tracing::error!(%error, path = %files.settings.path.display(), "the audit log cannot be written");
            }
        }
    }
    lines.shrink_to(1 << 20);
}

/// The file that is written to, and those turned over.
struct Files {
    settings: LogSettings,
    clock: Arc<dyn Clock>,
    file: File,
    size: u64,
    /// A write failed half-way: the next begins a line of its own.
    torn: bool,
}

impl Files {
    fn open(settings: LogSettings, clock: Arc<dyn Clock>) -> io::Result<Self> {
        if let Some(dir) = settings.path.parent().filter(|d| !d.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let (file, size) = open(&settings.path)?;
        let files = Self { settings, clock, file, size, torn: size > 0 };
        files.prune()?;
        Ok(files)
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        // Line by line where the limit is near, so that a burst cannot exceed it.
        for part in parts(lines, self.settings.max_size.saturating_sub(self.size), self.settings.max_size) {
            if self.size > 0 && self.size + part.len() as u64 > self.settings.max_size {
                self.turn_over()?;
            }
            if self.torn {
                self.file.write_all(b"\n")?;
                (self.torn, self.size) = (false, self.size + 1);
            }
            if let Err(error) = self.file.write_all(part) {
                self.torn = true;
                return Err(error);
            }
            self.size += part.len() as u64;
        }
        Ok(())
    }

    fn turn_over(&mut self) -> io::Result<()> {
        let path = &self.settings.path;
        let mut at = self.clock.now();
        let mut to = backup(path, at);
        while to.exists() {
            at = at.saturating_add(SignedDuration::from_millis(1)).unwrap_or(at);
            to = backup(path, at);
        }
        std::fs::rename(path, to)?;
        (self.file, self.size) = open(path)?;
        self.torn = false;
        self.prune()
    }

    /// Removes what is too old or too much.
    fn prune(&self) -> io::Result<()> {
        let mut old = backups(&self.settings.path)?;
        old.sort();
        let too_many = old.len().saturating_sub(self.settings.max_backups);
        let oldest = self.clock.now().saturating_sub(self.settings.max_age).unwrap_or(Timestamp::MIN);
        let oldest = backup(&self.settings.path, oldest);
        for (i, path) in old.iter().enumerate() {
            if i < too_many || *path < oldest {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Splits whole lines into a first part of at most `first` bytes and others of at most `rest`; a longer
/// line stands alone.
fn parts(lines: &[u8], first: u64, rest: u64) -> Vec<&[u8]> {
    let (mut out, mut from, mut limit) = (Vec::new(), 0, first);
    let mut at = 0;
    for line in lines.split_inclusive(|b| *b == b'\n') {
        if (at + line.len() - from) as u64 > limit && at > from {
            out.push(&lines[from..at]);
            (from, limit) = (at, rest);
        }
        at += line.len();
    }
    if at > from {
        out.push(&lines[from..at]);
    }
    out
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn stem(path: &Path) -> (String, String) {
    let part = |p: Option<&std::ffi::OsStr>| p.unwrap_or_default().to_string_lossy().into_owned();
    let extension = part(path.extension());
    (part(path.file_stem()), if extension.is_empty() { extension } else { format!(".{extension}") })
}

/// `audit-2026-01-02T03-04-05.678.log` beside `audit.log`: names sort as their times do.
fn backup(path: &Path, at: Timestamp) -> PathBuf {
    let (stem, extension) = stem(path);
    path.with_file_name(format!("{stem}-{}{extension}", at.strftime("%Y-%m-%dT%H-%M-%S.%3f")))
}

fn backups(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (stem, extension) = stem(path);
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_one = |name: &str| {
        let time = name.strip_prefix(&stem).and_then(|n| n.strip_prefix('-')).and_then(|n| n.strip_suffix(&extension));
        time.is_some_and(|t| t.len() == "2026-01-02T03-04-05.678".len() && t.starts_with(|c: char| c.is_ascii_digit()))
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_one(&name) {
            found.push(path.with_file_name(name));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kybern_api::seam::FixedClock;

    fn files(dir: &Path, clock: &Arc<FixedClock>) -> Files {
        let settings = LogSettings {
            path: dir.join("logs/audit.log"),
            max_size: 100,
            max_backups: 2,
            max_age: SignedDuration::from_hours(24),
        };
        Files::open(settings, clock.clone()).expect("a log")
    }

    fn clock() -> Arc<FixedClock> {
        Arc::new(FixedClock::new("2026-01-02T03:04:05Z".parse().expect("a time")))
    }

    fn sizes(dir: &Path) -> Vec<(String, u64)> {
        let entries = std::fs::read_dir(dir.join("logs")).expect("a directory").map(|e| e.expect("an entry"));
        let mut all: Vec<_> = entries
            .map(|e| (e.file_name().to_string_lossy().into_owned(), e.metadata().expect("a size").len()))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn the_log_is_bounded_in_size_number_and_age() {
        let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
        let mut log = files(dir.path(), &clock);
        // 35 lines of 10 bytes in one burst: 100 bytes a file, of which the last two and the open one stay.
        log.append("123456789\n".repeat(35).as_bytes()).expect("written");
        let found = sizes(dir.path());
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().all(|(_, size)| *size <= 100), "{found:?}");
        assert_eq!(found.iter().map(|(_, size)| size).sum::<u64>(), 250, "{found:?}");
        assert!(found.iter().any(|(name, _)| name == "audit-2026-01-02T03-04-05.002.log"), "{found:?}");
        clock.advance(Duration::from_secs(25 * 3600));
        drop(log);
        let mut log = files(dir.path(), &clock);
        assert_eq!(sizes(dir.path()).len(), 1, "old files go, also at a start");
        log.append(b"x\n").expect("written");
        let text = std::fs::read_to_string(dir.path().join("logs/audit.log")).expect("text");
        assert!(text.ends_with("123456789\n\nx\n"), "a line never goes on where a start found another: {text:?}");
    }

    #[test]
    fn the_log_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        drop(files(dir.path(), &clock()));
        let mode = |path: &str| std::fs::metadata(dir.path().join(path)).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode("logs"), mode("logs/audit.log")), (0o700, 0o600));
    }

    #[test]
    fn a_line_longer_than_a_file_stands_alone() {
        let lines = [b"12\n".as_slice(), &[b'x'; 20], b"\n3\n"].concat();
        let found: Vec<usize> = parts(&lines, 5, 10).iter().map(|p| p.len()).collect();
        assert_eq!(found, [3, 21, 2]);
        assert!(parts(b"", 5, 10).is_empty());
    }
}
