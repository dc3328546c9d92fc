//! Keeps one output stream of a run: its beginning and end in memory, all of it on disk, and its newest lines for
//! progress reports.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;

use crate::domain::text::Excerpt;

/// Limit on the lines of one progress report (docs/protocol.md section 3).
const LINES_BYTES: usize = 16 << 10;

/// Takes all bytes of a stream, in bounded memory.
#[derive(Debug)]
pub struct Capture {
    head: Vec<u8>,
    head_max: usize,
    tail: VecDeque<u8>,
    tail_max: usize,
    total: u64,
    lines: Option<Lines>,
    file: Option<File>,
    file_error: Option<String>,
}

impl Capture {
    /// Keeps at most `max` bytes: a quarter of them from the start of the stream, the rest from its end. Writes all
    /// bytes to `file`.
    pub fn new(max: usize, file: Option<File>) -> Self {
        Self {
            head: Vec::new(),
            head_max: max / 4,
            tail: VecDeque::new(),
            tail_max: max - max / 4,
            total: 0,
            lines: None,
            file,
            file_error: None,
        }
    }

    /// Also collects whole lines for [`take_lines`](Self::take_lines).
    pub fn with_lines(self) -> Self {
        Self {
            lines: Some(Lines::default()),
            ..self
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        self.write_down(bytes);
        if let Some(lines) = &mut self.lines {
            lines.feed(bytes);
        }
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_max - self.head.len()));
        self.head.extend_from_slice(head);
        let rest = &rest[rest.len().saturating_sub(self.tail_max)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(self.tail_max);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn excerpt(&mut self) -> Excerpt {
        Excerpt::from_bytes(&self.head, self.tail.make_contiguous(), self.total)
    }

    /// The whole lines since the last call: the newest of them, up to `LINES_BYTES` bytes.
    pub fn take_lines(&mut self) -> Vec<String> {
        let lines = self.lines.as_mut();
        lines.map(|lines| lines.whole.take()).unwrap_or_default()
    }

    /// Why the file on disk is not complete, if it is not.
    pub fn file_error(&self) -> Option<&str> {
        self.file_error.as_deref()
    }

    /// A full disk ends only the copy on disk. The run goes on, and its output is still read.
    fn write_down(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file
            && let Err(e) = file.write_all(bytes)
        {
            self.file_error = Some(e.to_string());
            self.file = None;
        }
    }
}

/// The newest lines, up to [`LINES_BYTES`] bytes.
#[derive(Debug, Default)]
pub struct RecentLines {
    lines: VecDeque<String>,
    bytes: usize,
}

impl RecentLines {
    pub fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
        // Each line counts one extra byte. This limits the number of empty lines too.
        while self.bytes + self.lines.len() > LINES_BYTES {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.len();
        }
    }

    pub fn take(&mut self) -> Vec<String> {
        self.bytes = 0;
        std::mem::take(&mut self.lines).into()
    }
}

#[derive(Debug, Default)]
struct Lines {
    whole: RecentLines,
    partial: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            // A line that is too long loses its end.
            let room = LINES_BYTES / 4 - self.partial.len();
            self.partial
                .extend_from_slice(&text[..text.len().min(room)]);
            if text.len() < part.len() {
                let line = std::mem::take(&mut self.partial);
                let line = line.strip_suffix(b"\r").unwrap_or(&line);
                self.whole.push(String::from_utf8_lossy(line).into_owned());
            }
        }
    }
}
