//! Makes text from outside safe for a log line, a message or a terminal, and shortens it.

#[cfg(test)]
#[path = "../../tests/beside/text.rs"]
mod tests;

use serde::{Deserialize, Serialize};

/// The first `max` characters as one line. Control characters, and characters that [`turns_text`] finds, become spaces.
/// So the text cannot look like another line or another text.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let mut chars = text.trim().chars();
    let line: String = chars.by_ref().take(max).collect();
    let mut line = line.replace(|c: char| c.is_control() || turns_text(c), " ");
    if chars.next().is_some() {
        line.push('…');
    }
    line
}

/// Whether a character makes the shown text differ from the real text: it is invisible or changes the direction of
/// writing (UAX #9).
fn turns_text(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Escapes all special characters in a JSON text (RFC 8259 section 7), so a terminal cannot act on them.
pub(crate) fn escaped(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() || turns_text(c) || matches!(c, '\u{2028}' | '\u{2029}') {
            for unit in c.encode_utf16(&mut [0; 2]) {
                plain.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            plain.push(c);
        }
    }
    plain
}

/// The last `max` bytes of a text as one line, without the characters that a terminal acts on.
pub(crate) fn last_lines(max: usize, text: &str) -> Option<String> {
    let lines = plain_lines(last_bytes(text, max)).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join(" | ");
    (!joined.is_empty()).then_some(joined)
}

/// The beginning of a text: at most `max` bytes, and only whole characters.
pub(crate) fn first_bytes(text: &str, max: usize) -> &str {
    let mut ends = (0..=max.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// The end of a text: at most `max` bytes, and only whole characters.
pub(crate) fn last_bytes(text: &str, max: usize) -> &str {
    let mut starts = text.len().saturating_sub(max)..=text.len();
    let start = starts.find(|start| text.is_char_boundary(*start));
    &text[start.unwrap_or_default()..]
}

/// The lines of a text, trimmed, without the characters that a terminal acts on.
pub(crate) fn plain_lines(text: &str) -> impl Iterator<Item = String> {
    text.lines()
        .map(|line| for_terminal(line).replace('\t', " ").trim().to_owned())
}

/// Removes escape sequences (ECMA-48: ESC, `[`, parameters, a letter) and control characters from a line. Keeps the
/// indentation.
pub(crate) fn for_terminal(line: &str) -> String {
    let mut plain = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.next() == Some('[') {
                    let _ = chars.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            c if c.is_control() && c != '\t' || turns_text(c) => {}
            c => plain.push(c),
        }
    }
    plain
}

/// The beginning and the end of a text, and the number of bytes that are left out between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    head: String,
    tail: String,
    omitted: u64,
}

impl Excerpt {
    /// Makes an excerpt of a stream of `total` bytes from its first and its last bytes. Replaces invalid UTF-8. Leaves
    /// out a character that the gap cuts in two.
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

    pub fn is_cut(&self) -> bool {
        self.omitted > 0
    }

    pub fn shown_len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// At most `max` bytes of the excerpt: a quarter from its beginning and three quarters from its end.
    pub fn shortened(&self, max: usize) -> Self {
        if self.shown_len() <= max {
            return self.clone();
        }
        let text = [self.head.as_str(), self.tail.as_str()].concat();
        let front = max / 4;
        // If there is already a gap, it stays between the beginning and the end.
        let (begin, end) = match self.is_cut() {
            true => (&self.head, &self.tail),
            false => (&text, &text),
        };
        let (head, tail) = (first_bytes(begin, front), last_bytes(end, max - front));
        let omitted = text.len() - head.len() - tail.len();
        Self {
            head: head.to_owned(),
            tail: tail.to_owned(),
            omitted: self.omitted.saturating_add(omitted as u64),
        }
    }

    /// The text to show. If bytes are left out, a line in their place says how many.
    pub fn render(&self) -> String {
        if !self.is_cut() {
            return [self.head.as_str(), self.tail.as_str()].concat();
        }
        let (head, tail) = (&self.head, &self.tail);
        let omitted = self.omitted;
        let gap = match head.is_empty() || head.ends_with('\n') {
            true => "",
            false => "\n",
        };
        format!("{head}{gap}[… {omitted} bytes left out …]\n{tail}")
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The number of bytes at the end that belong to an incomplete character.
fn cut_at_end(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last();
    let rest = last.map_or(&[][..], |last| last.invalid());
    match std::str::from_utf8(rest) {
        Err(e) if e.error_len().is_none() => rest.len(),
        _ => 0,
    }
}

/// The number of bytes at the start that belong to a character whose first byte is missing.
fn cut_at_start(bytes: &[u8]) -> usize {
    let continues = |byte: &&u8| (0x80..=0xBF).contains(*byte);
    bytes.iter().take(3).take_while(continues).count()
}

/// Completes a type that holds a checked text: a tuple struct of a `String`, with a function `parse` that checks. Adds
/// `as_str`, `Display`, and the `TryFrom` that checks the text again when it is read from a record.
macro_rules! checked_text {
    ($name:ident) => {
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                Self::parse(&text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(super) use checked_text;

/// Adds `Display` to an enum. It shows the same names as serde writes to records and messages.
macro_rules! shown_by_name {
    ($name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                serde::Serialize::serialize(self, f)
            }
        }
    };
}
pub(super) use shown_by_name;
