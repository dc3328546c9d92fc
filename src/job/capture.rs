//! One output stream of a run: its beginning and end in memory, the whole of it on disk, its new lines for reports.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;

use crate::domain::text::Excerpt;

/// What the lines of one report may take (docs/protocol.md section 3).
const LINES_BYTES: usize = 16 << 10;

/// Takes everything a stream brings, in bounded memory.
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
    /// Keeps `max` bytes: the first quarter and the last three. The whole goes to `file`.
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

    /// The whole lines that came since the last time, the newest 16 KiB of them.
    pub fn take_lines(&mut self) -> Vec<String> {
        self.lines
            .as_mut()
            .map(|lines| lines.whole.take())
            .unwrap_or_default()
    }

    /// Why not all of it is on disk, if so.
    pub fn file_error(&self) -> Option<&str> {
        self.file_error.as_deref()
    }

    /// A full disk ends the copy, never the run: the stream is drained all the same.
    fn write_down(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file {
            if let Err(e) = file.write_all(bytes) {
                self.file_error = Some(e.to_string());
                self.file = None;
            }
        }
    }
}

/// The newest of many lines.
#[derive(Debug, Default)]
pub struct Recent {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Recent {
    pub fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
        // A line counts for one byte at least, so that empty ones are bounded too.
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
    whole: Recent,
    partial: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            self.extend_partial(&rest[..end]);
            self.end_line();
            rest = &rest[end + 1..];
        }
        self.extend_partial(rest);
    }

    /// The rest of an endless line is of no use to anybody who watches.
    fn extend_partial(&mut self, bytes: &[u8]) {
        let room = (LINES_BYTES / 4).saturating_sub(self.partial.len());
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.partial);
        self.whole
            .push(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned());
    }
}
