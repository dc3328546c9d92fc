//! Keeps one output stream of a run: its beginning and end in memory, all of it on disk, and its newest lines for
//! progress reports.

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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::Capture;

    fn fed(max: usize, chunks: &[&[u8]]) -> Capture {
        let mut capture = Capture::new(max, None);
        for chunk in chunks {
            capture.feed(chunk);
        }
        capture
    }

    /// The first quarter and the last three quarters of the limit are kept, however the bytes came in.
    #[test]
    fn keeps_the_beginning_and_the_end() {
        let rows: &[(&str, usize, &str, &str)] = &[
            ("nothing", 8, "", ""),
            ("less than the head", 8, "a", "a"),
            ("the head", 8, "ab", "ab"),
            ("up to the limit", 8, "abcdefgh", "abcdefgh"),
            (
                "one more",
                8,
                "abcdefghi",
                "ab\n[… 1 bytes left out …]\ndefghi",
            ),
            (
                "many more",
                8,
                "abcdefghijklmnopqrstuvwxyz",
                "ab\n[… 18 bytes left out …]\nuvwxyz",
            ),
            (
                "a limit that is no multiple of four",
                7,
                "abcdefghij",
                "a\n[… 3 bytes left out …]\nefghij",
            ),
            ("a limit of one", 1, "abc", "[… 2 bytes left out …]\nc"),
            ("a limit of nothing", 0, "abc", "[… 3 bytes left out …]\n"),
        ];
        for (label, max, text, wanted) in rows {
            let bytes = text.as_bytes();
            for size in 1..=bytes.len().max(1) {
                let mut capture = fed(*max, &bytes.chunks(size).collect::<Vec<_>>());
                assert_eq!(
                    capture.excerpt().render(),
                    *wanted,
                    "{label}, {size} bytes at a time"
                );
                assert_eq!(
                    capture.total(),
                    bytes.len() as u64,
                    "{label}, {size} bytes at a time"
                );
            }
        }
    }

    /// A character cut at the limit is left out whole; one that is complete stays, however it was cut on its way in.
    #[test]
    fn characters_stay_whole() {
        let rows: &[(&str, usize, &[u8], &str)] = &[
            (
                "cut at the end of the head",
                8,
                "aébcdefghij".as_bytes(),
                "a\n[… 5 bytes left out …]\nefghij",
            ),
            (
                "cut at the start of the tail",
                8,
                "abcdé12345".as_bytes(),
                "ab\n[… 4 bytes left out …]\n12345",
            ),
            (
                "in the joint of head and tail",
                8,
                "aébcdef".as_bytes(),
                "aébcdef",
            ),
            ("invalid bytes", 8, b"\xFF\xFEabcd", "\u{FFFD}\u{FFFD}abcd"),
            (
                "invalid bytes and a gap",
                8,
                b"a\xFF1234\xFFbcdef",
                "a\u{FFFD}\n[… 4 bytes left out …]\n\u{FFFD}bcdef",
            ),
        ];
        for (label, max, bytes, wanted) in rows {
            for size in 1..=bytes.len() {
                let mut capture = fed(*max, &bytes.chunks(size).collect::<Vec<_>>());
                assert_eq!(
                    capture.excerpt().render(),
                    *wanted,
                    "{label}, {size} bytes at a time"
                );
            }
        }
    }

    /// Random output in random pieces: what is shown is the real beginning and the real end, and the count is right.
    #[test]
    fn random_streams() {
        let mut rng = fastrand::Rng::with_seed(3);
        for round in 0..2_000 {
            let text: String = (0..rng.usize(..200))
                .map(|_| ['a', 'é', '語', '\u{1F600}', '\n'][rng.usize(..5)])
                .collect();
            let max = rng.usize(..120);
            let mut capture = Capture::new(max, None);
            let mut rest = text.as_bytes();
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(rng.usize(1..=rest.len().min(40)));
                capture.feed(chunk);
                rest = after;
            }
            let excerpt = capture.excerpt();
            let shown = excerpt.shown_len();
            assert!(shown <= max, "round {round}: {shown} of {max} bytes");
            let rendered = excerpt.render();
            if text.len() <= max {
                assert_eq!(rendered, text, "round {round}");
                continue;
            }
            assert!(
                shown + 6 >= max,
                "round {round}: only {shown} of {max} bytes"
            );
            let line = format!("[… {} bytes left out …]\n", text.len() - shown);
            let (head, tail) = rendered
                .split_once(&line)
                .unwrap_or_else(|| panic!("round {round}: {rendered:?}"));
            let head = if text.starts_with(head) {
                head
            } else {
                head.trim_end_matches('\n')
            };
            assert!(
                text.starts_with(head) && text.ends_with(tail),
                "round {round}: {rendered:?}"
            );
        }
    }

    /// Lines are told once, whole, without their ends, and the last one only when it has ended.
    #[test]
    fn lines_are_told_once() {
        let mut capture = Capture::new(8, None).with_lines();
        let steps: &[(&str, &[&str])] = &[
            ("", &[]),
            ("one\ntwo\n", &["one", "two"]),
            ("", &[]),
            ("thr", &[]),
            ("ee", &[]),
            ("\n", &["three"]),
            ("a\r\nb\r\n", &["a", "b"]),
            ("split\r", &[]),
            ("\nx\ry\n", &["split", "x\ry"]),
            ("\n\n", &["", ""]),
            ("é\n", &["é"]),
        ];
        for (at, (text, wanted)) in steps.iter().enumerate() {
            capture.feed(text.as_bytes());
            assert_eq!(capture.take_lines(), *wanted, "step {at}: {text:?}");
        }
        let mut bytewise = Capture::new(8, None).with_lines();
        "日本\nb".bytes().for_each(|byte| bytewise.feed(&[byte]));
        assert_eq!(
            bytewise.take_lines(),
            ["日本"],
            "a character that came in pieces"
        );
        bytewise.feed(b"\xFF\n");
        assert_eq!(bytewise.take_lines(), ["b\u{FFFD}"], "an invalid byte");
    }

    /// The lines of one report take at most 16 KiB, and it is the newest that are kept.
    #[test]
    fn lines_are_bounded() {
        let numbered: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        let rows = [
            ("many lines", numbered.clone().into_bytes(), "line 99999"),
            (
                "many empty lines",
                [vec![b'\n'; 1 << 20], b"last\n".to_vec()].concat(),
                "last",
            ),
            (
                "an endless line",
                [vec![b'x'; 1 << 20], b"\nlast\n".to_vec()].concat(),
                "last",
            ),
            (
                "endless lines",
                [vec![b'x'; 1 << 20], b"\n".to_vec()].concat().repeat(8),
                "xxx",
            ),
            (
                "invalid bytes",
                [vec![0xFF; 1 << 20], b"\n".to_vec()].concat().repeat(8),
                "\u{FFFD}",
            ),
        ];
        for (label, bytes, last) in rows {
            let mut capture = Capture::new(8, None).with_lines();
            capture.feed(&bytes);
            let lines = capture.take_lines();
            let size: usize = lines.iter().map(String::len).sum();
            assert!(
                size <= 16 << 10 && lines.len() <= 16 << 10,
                "{label}: {size} bytes in {} lines",
                lines.len()
            );
            assert!(
                lines.last().is_some_and(|line| line.starts_with(last)),
                "{label}: {:?}",
                lines.last()
            );
            assert!(capture.take_lines().is_empty(), "{label}: told twice");
        }
        let mut capture = Capture::new(8, None).with_lines();
        capture.feed(numbered.as_bytes());
        let lines = capture.take_lines();
        assert!(
            lines.len() > 1000,
            "no more than {} lines were kept",
            lines.len()
        );
        let first = 100_000 - lines.len();
        let wanted: Vec<_> = (first..100_000).map(|n| format!("line {n}")).collect();
        assert_eq!(lines, wanted, "the newest, without a gap");
    }

    /// Lines are collected only where somebody asked for them.
    #[test]
    fn no_lines_unless_asked_for() {
        let mut capture = Capture::new(8, None);
        capture.feed(b"one\ntwo\n");
        assert!(capture.take_lines().is_empty());
    }

    /// The whole output is on disk, whatever is kept of it in memory.
    #[test]
    fn the_whole_is_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stdout");
        let mut capture = Capture::new(16, Some(File::create(&path).unwrap()));
        let mut wanted = Vec::new();
        for n in 0..1000_u32 {
            let chunk = [n.to_le_bytes().as_slice(), b"\xFF\n"].concat();
            capture.feed(&chunk);
            wanted.extend(chunk);
        }
        assert_eq!(capture.file_error(), None);
        assert!(fs::read(&path).unwrap() == wanted, "the file differs");
        assert!(
            capture.excerpt().shown_len() <= 16 * 3,
            "more is kept than was asked for"
        );
    }

    /// A file that cannot be written is told of and costs nothing of what is kept in memory.
    #[test]
    fn a_file_that_fails_does_not_end_the_capture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stdout");
        fs::write(&path, "").unwrap();
        let mut capture = Capture::new(100, Some(File::open(&path).unwrap())).with_lines();
        capture.feed(b"one\n");
        capture.feed(b"two\n");
        assert!(capture.file_error().is_some_and(|error| !error.is_empty()));
        assert_eq!(capture.excerpt().render(), "one\ntwo\n");
        assert_eq!(capture.take_lines(), ["one", "two"]);
    }
}
