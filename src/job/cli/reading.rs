//! Reading a CLI's output by what it is, whatever its flags and its name: a wrapper's output is read like that of the
//! CLI that it wraps. Sees bytes, starts nothing, writes nothing.

use std::path::Path;

use serde_json::Value;

use super::report::Report;
use super::{ALL, Known};

/// A longer line is not read. Parsed, one line takes a few times its size in memory.
const LINE_MAX: usize = 1 << 20;
/// So much may stand before the first line of a CLI's own. A program whose output begins with more is a plain one, and
/// whatever it prints later, such as a file with such lines, is its text.
const PRELUDE_MAX: usize = 64 << 10;
/// Of what stands between the lines, for an error that is told nowhere else.
const STRAY_MAX: usize = 2000;

#[derive(Debug)]
enum State {
    /// No line so far has told.
    Open,
    /// Lines of that CLI.
    Lines(&'static Known),
    /// One JSON object over several lines, if it is one.
    Object,
    /// Text, sent as it is.
    Plain,
    /// It begins with a line that is too long to be read. Whatever is in it is not sent.
    Unread,
}

#[derive(Debug)]
pub struct Reading {
    state: State,
    line: Vec<u8>,
    /// The line is longer than is read, and the rest of it is to be left out.
    overlong: bool,
    prelude: usize,
    unread: usize,
    stray: String,
    report: Report,
}

impl Reading {
    /// Of a run in `cwd`.
    pub fn new(cwd: &Path) -> Self {
        Self {
            state: State::Open,
            line: Vec::new(),
            overlong: false,
            prelude: 0,
            unread: 0,
            stray: String::new(),
            report: Report::new(cwd),
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            if matches!(self.state, State::Plain | State::Unread) {
                return;
            }
            self.extend(&rest[..end]);
            self.end_line();
            rest = &rest[end + 1..];
        }
        self.extend(rest);
    }

    /// The output has ended.
    pub fn finish(&mut self) {
        if !self.line.is_empty() && !matches!(self.state, State::Object) {
            self.end_line();
        }
        if let State::Object = self.state {
            let text = std::mem::take(&mut self.line);
            self.state = match parse(&text).and_then(|objects| Some((owner(&objects)?, objects))) {
                Some((known, objects)) => {
                    objects
                        .iter()
                        .for_each(|object| (known.read)(object, &mut self.report));
                    State::Lines(known)
                }
                None => State::Plain,
            };
        }
    }

    /// Whether the output's own lines are fit to be told, as far as can be said by now.
    pub fn is_text(&self) -> bool {
        matches!(self.state, State::Open | State::Plain)
    }

    /// What is new since the last time.
    pub fn take_progress(&mut self) -> Vec<String> {
        self.report.take_progress()
    }

    /// `None`: the output is text.
    pub fn report(&self) -> Option<&Report> {
        matches!(self.state, State::Lines(_) | State::Unread).then_some(&self.report)
    }

    /// Lines that look like the CLI's own and could not be read.
    pub fn unread(&self) -> usize {
        self.unread
    }

    /// The end of what stood between the lines.
    pub fn stray(&self) -> &str {
        &self.stray
    }

    fn extend(&mut self, bytes: &[u8]) {
        match self.state {
            State::Plain | State::Unread => return,
            State::Open if !self.line.first().or(bytes.first()).is_some_and(looks_own) => {
                self.before(bytes.len());
                // Only how it begins matters.
                self.line
                    .extend(bytes.first().filter(|_| self.line.is_empty()));
                return;
            }
            _ => {}
        }
        let room = LINE_MAX - self.line.len();
        self.overlong |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self) {
        if let State::Object = self.state {
            // A larger one is not what it looked like.
            if std::mem::take(&mut self.overlong) || self.line.len() == LINE_MAX {
                return self.become_plain();
            }
            return self.line.push(b'\n');
        }
        let line = std::mem::take(&mut self.line);
        let overlong = std::mem::take(&mut self.overlong);
        let objects = if overlong { None } else { parse(&line) };
        match (&self.state, objects) {
            (State::Lines(known), Some(objects)) => {
                objects
                    .iter()
                    .for_each(|object| (known.read)(object, &mut self.report));
            }
            (State::Lines(_), None) if line.trim_ascii_start().first().is_some_and(looks_own) => {
                self.unread += 1
            }
            (State::Lines(_), None) => self.keep_stray(&line),
            (State::Open, Some(objects)) => match owner(&objects) {
                Some(known) => {
                    self.state = State::Lines(known);
                    objects
                        .iter()
                        .for_each(|object| (known.read)(object, &mut self.report));
                }
                None => self.before(line.len()),
            },
            (State::Open, None) if overlong => {
                self.unread += 1;
                self.state = State::Unread;
            }
            (State::Open, None) if line.trim_ascii() == b"{" => {
                self.state = State::Object;
                self.line = b"{\n".to_vec();
            }
            (State::Open, None) => self.before(line.len()),
            (State::Object | State::Plain | State::Unread, _) => {}
        }
    }

    fn before(&mut self, bytes: usize) {
        self.prelude += bytes;
        if self.prelude > PRELUDE_MAX {
            self.become_plain();
        }
    }

    fn become_plain(&mut self) {
        self.state = State::Plain;
        self.line = Vec::new();
    }

    fn keep_stray(&mut self, line: &[u8]) {
        let from = line.len().saturating_sub(STRAY_MAX);
        self.stray.push_str(&String::from_utf8_lossy(&line[from..]));
        self.stray.push('\n');
        let mut over = self.stray.len().saturating_sub(STRAY_MAX);
        while !self.stray.is_char_boundary(over) {
            over += 1;
        }
        self.stray.drain(..over);
    }
}

/// An object, or a list of them as Claude Code prints with `--output-format json --verbose`.
fn looks_own(first: &u8) -> bool {
    matches!(first, b'{' | b'[')
}

/// serde_json bounds how deep it may be.
fn parse(line: &[u8]) -> Option<Vec<Value>> {
    let line = line.trim_ascii();
    if !line.first().is_some_and(looks_own) {
        return None;
    }
    match serde_json::from_str(&String::from_utf8_lossy(line)).ok()? {
        Value::Array(objects) => Some(objects),
        object => Some(vec![object]),
    }
}

/// Whose output begins like this.
fn owner(objects: &[Value]) -> Option<&'static Known> {
    let first = objects.first()?;
    ALL.iter().copied().find(|known| (known.is_own)(first))
}
