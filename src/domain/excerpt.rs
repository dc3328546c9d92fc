//! A long text of which only the beginning and the end are kept (docs/protocol.md section 6).

use serde::{Deserialize, Serialize};

/// The beginning and the end of a text, and how many bytes were left out between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    head: String,
    tail: String,
    omitted: u64,
}

impl Excerpt {
    /// From the first and the last bytes of a stream of `total` bytes. Invalid UTF-8 is replaced; a character
    /// cut in two where bytes were left out is left out whole.
    pub fn from_bytes(head: &[u8], tail: &[u8], total: u64) -> Self {
        let kept = (head.len() + tail.len()) as u64;
        if total <= kept {
            let whole = [head, tail].concat();
            return Self {
                head: lossy(&whole),
                ..Self::default()
            };
        }
        let head = &head[..head.len() - cut_at_end(head)];
        let tail = &tail[cut_at_start(tail)..];
        Self {
            head: lossy(head),
            tail: lossy(tail),
            omitted: total - (head.len() + tail.len()) as u64,
        }
    }

    /// Beginning, bytes left out, end: to be put together again by [`from_parts`](Self::from_parts).
    pub fn parts(&self) -> (&str, u64, &str) {
        (&self.head, self.omitted, &self.tail)
    }

    pub fn from_parts(head: String, omitted: u64, tail: String) -> Self {
        Self {
            head,
            tail,
            omitted,
        }
    }

    pub fn is_cut(&self) -> bool {
        self.omitted > 0
    }

    pub fn shown_len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// At most `max` bytes of it: the first quarter and the last three quarters of that.
    pub fn shortened(&self, max: usize) -> Self {
        if self.shown_len() <= max {
            return self.clone();
        }
        let text = [self.head.as_str(), self.tail.as_str()].concat();
        let (front, back) = (max / 4, max - max / 4);
        // A gap that is there already stays between the two.
        let mut head_end = if self.is_cut() {
            front.min(self.head.len())
        } else {
            front
        };
        let mut tail_start =
            (text.len() - back).max(if self.is_cut() { self.head.len() } else { 0 });
        while !text.is_char_boundary(head_end) {
            head_end -= 1;
        }
        while !text.is_char_boundary(tail_start) {
            tail_start += 1;
        }
        Self {
            head: text[..head_end].to_owned(),
            tail: text[tail_start..].to_owned(),
            omitted: self.omitted.saturating_add((tail_start - head_end) as u64),
        }
    }

    /// The text to show, with a line that says what is missing.
    pub fn render(&self) -> String {
        if !self.is_cut() {
            return [self.head.as_str(), self.tail.as_str()].concat();
        }
        let gap = if self.head.is_empty() || self.head.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        format!(
            "{}{gap}[… {} bytes left out …]\n{}",
            self.head, self.omitted, self.tail
        )
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How many bytes at the end belong to a character that does not end there.
fn cut_at_end(bytes: &[u8]) -> usize {
    (1..=bytes.len().min(3))
        .find(|&n| is_lead_of_longer(bytes[bytes.len() - n], n))
        .unwrap_or(0)
}

/// Whether `lead` starts a character of more than `available` bytes.
fn is_lead_of_longer(lead: u8, available: usize) -> bool {
    let needs = match lead {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    needs > available
}

/// How many bytes at the start belong to a character that does not begin there.
fn cut_at_start(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take(3)
        .take_while(|b| (0x80..=0xBF).contains(*b))
        .count()
}
