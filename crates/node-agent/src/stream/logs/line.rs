//! Lines of the CRI log format: `TIME STREAM TAGS TEXT`, for example
//! `2024-05-01T10:00:00.123456789Z stdout F hello`.

use bytes::{Bytes, BytesMut};

/// Bytes collected before they are sent.
const CHUNK: usize = 32 * 1024;

/// A line's parts. The text has its newline when it is the end of what the container wrote as a line.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    time: &'a [u8],
    stream: &'a [u8],
    /// Tag `P`: the line goes on in the next one.
    partial: bool,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    /// None for a line that no runtime writes.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |b| *b == b' ');
        let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
        // A line without text may lack the last separator.
        let text = parts.next().unwrap_or(b"\n");
        let tag = tags.split(|b| *b == b':').next()?;
        let tag = tag.strip_suffix(b"\n").unwrap_or(tag);
        let partial = match tag {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        if !matches!(stream, b"stdout" | b"stderr") {
            return None;
        }
        let text = if partial { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
        Some(Self { time, stream, partial, text })
    }
}

/// Turns lines into what the client gets.
#[derive(Debug)]
pub(super) struct Writer {
    /// Lines before it are left out; None: no longer asked about.
    since: Option<jiff::Timestamp>,
    timestamps: bool,
    /// The stream to send; None: both.
    stream: Option<&'static [u8]>,
    /// Bytes still to send; None: no limit.
    left: Option<u64>,
    /// The last line sent was partial: the next one continues it.
    midway: bool,
    out: BytesMut,
}

impl Writer {
    /// `stream` is All, Stdout or Stderr.
    pub(super) fn new(since: Option<jiff::Timestamp>, timestamps: bool, stream: &str, limit: Option<u64>) -> Self {
        let stream: Option<&'static [u8]> = match stream {
            "Stdout" => Some(b"stdout"),
            "Stderr" => Some(b"stderr"),
            _ => None,
        };
        Self { since, timestamps, stream, left: limit, midway: false, out: BytesMut::new() }
    }
    /// Adds a line; false when the limit is reached. A line that cannot be read is left out.
    pub(super) fn line(&mut self, line: &[u8]) -> bool {
        let Some(line) = Line::parse(line) else {
            tracing::debug!("a log line is not in the CRI format");
            return !self.is_done();
        };
        if self.is_before(line.time) || self.stream.is_some_and(|s| s != line.stream) {
            return !self.is_done();
        }
        if self.timestamps && !self.midway {
            self.put(line.time);
            self.put(b" ");
        }
        self.put(line.text);
        self.midway = line.partial;
        !self.is_done()
    }
    /// Times only grow: the first line that is late enough ends the question.
    fn is_before(&mut self, time: &[u8]) -> bool {
        let Some(since) = self.since else { return false };
        let time = std::str::from_utf8(time).ok().and_then(|t| t.parse::<jiff::Timestamp>().ok());
        if time.is_some_and(|t| t < since) {
            return true;
        }
        self.since = None;
        false
    }

    fn put(&mut self, bytes: &[u8]) {
        let n = match &mut self.left {
            Some(left) => {
                let n = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                n
            }
            None => bytes.len(),
        };
        self.out.extend_from_slice(&bytes[..n]);
    }
    /// Has the limit been reached?
    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
    }
    /// Is there enough to be worth sending?
    pub(super) fn is_full(&self) -> bool {
        self.out.len() >= CHUNK
    }
    /// What has been collected.
    pub(super) fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2024-05-01T10:00:00.1Z stdout F one
2024-05-01T10:00:01.2Z stderr F two
not a log line
2024-05-01T10:00:02Z stdout P thr
2024-05-01T10:00:02Z stdout F ee
2024-05-01T12:00:03+02:00 stdout F:more  four
2024-05-01T10:00:04Z stdout F 
";

    fn check(since: &str, timestamps: bool, stream: &str, limit: Option<u64>, expected: &str) {
        let mut writer = Writer::new(since.parse().ok(), timestamps, stream, limit);
        for line in LOG.split_inclusive('\n') {
            if !writer.line(line.as_bytes()) {
                break;
            }
        }
        assert_eq!(String::from_utf8_lossy(&writer.take()), expected, "{since} {timestamps} {stream} {limit:?}");
    }

    #[test]
    fn lines_become_what_the_container_wrote() {
        check("", false, "All", None, "one\ntwo\nthree\n four\n\n");
        check("", false, "Stderr", None, "two\n");
        check("", false, "Stdout", Some(5), "one\nt");
        check("", false, "All", Some(0), "");
        check("2024-05-01T10:00:01.2Z", false, "All", None, "two\nthree\n four\n\n");
        check("2024-05-01T10:00:03Z", false, "All", None, " four\n\n");
        check("2025-01-01T00:00:00Z", false, "All", None, "");
        let stamped = "2024-05-01T10:00:02Z three\n2024-05-01T12:00:03+02:00  four\n2024-05-01T10:00:04Z \n";
        check("2024-05-01T10:00:02Z", true, "All", None, stamped);
    }

    #[test]
    fn foreign_lines_are_left_out() {
        for line in ["", "\n", "x", "t stdout", "t stdin F x\n", "t stdout X x\n", "t stdout  x\n"] {
            assert_eq!(Line::parse(line.as_bytes()), None, "{line:?}");
        }
    }
}
