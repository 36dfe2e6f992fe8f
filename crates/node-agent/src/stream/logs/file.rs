//! A log file: lines from an end, and news of more.

use crate::inotify::Events;
use nix::sys::inotify::{AddWatchFlags, InotifyEvent};
use std::ffi::{OsStr, OsString};
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, BufReader};

/// Blocks read when looking for the last lines.
const BLOCK: u64 = 64 * 1024;
/// Runtimes cut lines at 16 KiB; what is longer than this is no log line and is passed on in pieces.
const MAX_LINE: u64 = 1 << 20;

/// A log file being read.
pub(super) struct LogFile {
    path: PathBuf,
    reader: BufReader<File>,
    line: Vec<u8>,
    /// The rotated file's successor is opened when this is read to its end.
    reopen: bool,
}

impl LogFile {
    /// At its beginning.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        let reader = BufReader::with_capacity(32 * 1024, File::open(path).await?);
        Ok(Self { path: path.to_owned(), reader, line: Vec::new(), reopen: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
    /// Moves to the beginning of the last `lines` lines.
    pub(super) async fn seek_to_tail(&mut self, lines: u64) -> io::Result<()> {
        let file = self.reader.get_mut();
        let mut end = file.seek(SeekFrom::End(0)).await?;
        let mut start = if lines == 0 { end } else { 0 };
        // The newline at the very end closes the last line, so one more has to be passed.
        let mut wanted = lines + 1;
        let mut block = Vec::new();
        'search: while end > 0 && lines > 0 {
            let from = end.saturating_sub(BLOCK);
            block.resize((end - from) as usize, 0);
            file.seek(SeekFrom::Start(from)).await?;
            file.read_exact(&mut block).await?;
            for (at, _) in block.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
                wanted -= 1;
                if wanted == 0 {
                    start = from + at as u64 + 1;
                    break 'search;
                }
            }
            end = from;
        }
        self.reader.seek(SeekFrom::Start(start)).await.map(drop)
    }
    /// The next whole line with its newline; None: there is none yet.
    pub(super) async fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        if self.is_whole() {
            self.line.clear();
        }
        while !self.is_whole() {
            let room = MAX_LINE - self.line.len() as u64;
            if (&mut self.reader).take(room).read_until(b'\n', &mut self.line).await? == 0 {
                if !std::mem::take(&mut self.reopen) {
                    return Ok(None);
                }
                *self = Self::open(&self.path.clone()).await?;
            }
        }
        Ok(Some(&self.line))
    }

    fn is_whole(&self) -> bool {
        self.line.last() == Some(&b'\n') || self.line.len() as u64 >= MAX_LINE
    }
    /// The file was rotated: reads it to its end and goes on with the new one of the same name.
    pub(super) async fn rest_then_reopen(&mut self) -> io::Result<()> {
        // Until the runtime has made the new one, the old one is all there is.
        self.reopen = tokio::fs::try_exists(&self.path).await?;
        Ok(())
    }
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// There is more.
    Written,
    /// Its writer has closed it.
    Closed,
    /// Another file may stand in its place.
    Replaced,
}

/// News about one file, from the kernel.
pub(super) struct Watch {
    events: Events,
    /// The file's name: news of its directory's other files are none.
    name: OsString,
}

impl Watch {
    /// Begins now. The directory is watched too: a rotation renames the file and makes a new one.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let events = Events::new()?;
        events.watch(path, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE)?;
        if let Some(dir) = path.parent() {
            events.watch(dir, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
        }
        Ok(Self { events, name: path.file_name().unwrap_or_default().to_owned() })
    }
    /// Waits for news. Of several, the one that matters most.
    pub(super) async fn next(&mut self) -> io::Result<News> {
        loop {
            if let Some(news) = judge(&self.events.next().await?, &self.name) {
                return Ok(news);
            }
        }
    }
}

/// Events without a name are the file's own; those of the directory name what they are about.
fn judge(events: &[InotifyEvent], name: &OsStr) -> Option<News> {
    let has = |flags: AddWatchFlags| {
        events.iter().any(|e| e.mask.intersects(flags) && e.name.as_deref().is_none_or(|n| n == name))
    };
    if has(AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO) {
        Some(News::Replaced)
    } else if has(AddWatchFlags::IN_CLOSE_WRITE) {
        Some(News::Closed)
    } else {
        has(AddWatchFlags::IN_MODIFY).then_some(News::Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    async fn lines(file: &mut LogFile) -> String {
        let mut all = Vec::new();
        while let Some(line) = file.next_line().await.expect("line") {
            all.extend_from_slice(line);
        }
        String::from_utf8(all).expect("text")
    }

    #[tokio::test]
    async fn the_tail_begins_so_many_lines_before_the_end() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("0.log");
        let long = "x".repeat(100_000);
        let cases: [(&str, u64, &str); 7] = [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc\n", 3, "a\nb\nc\n"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\nb\nc\n", 0, ""),
            ("", 3, ""),
            ("\n\n\n", 1, "\n"),
            ("a\nLONG\nc\n", 2, "LONG\nc\n"),
        ];
        for (content, tail, expected) in cases {
            std::fs::write(&path, content.replace("LONG", &long)).expect("write");
            let mut file = LogFile::open(&path).await.expect("open");
            file.seek_to_tail(tail).await.expect("seek");
            assert_eq!(lines(&mut file).await, expected.replace("LONG", &long), "{content:?} {tail}");
        }
    }

    #[tokio::test]
    async fn what_is_written_later_is_read_in_whole_lines() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("0.log");
        let mut writer = std::fs::File::create(&path).expect("create");
        let mut watch = Watch::new(&path).expect("watch");
        let mut file = LogFile::open(&path).await.expect("open");
        writer.write_all(b"half").expect("write");
        assert_eq!(watch.next().await.expect("news"), News::Written);
        assert_eq!(lines(&mut file).await, "");
        writer.write_all(b" and half\nnext\n").expect("write");
        assert_eq!(watch.next().await.expect("news"), News::Written);
        assert_eq!(lines(&mut file).await, "half and half\nnext\n");
        drop(writer);
        assert_eq!(watch.next().await.expect("news"), News::Closed);
        std::fs::write(dir.path().join("1.log"), "another container's").expect("write");
        std::fs::rename(&path, dir.path().join("0.log.1")).expect("rename");
        std::fs::write(&path, "new file\n").expect("write");
        assert_eq!(watch.next().await.expect("news"), News::Replaced);
        file.rest_then_reopen().await.expect("reopen");
        assert_eq!(lines(&mut file).await, "new file\n");
    }
}
