//! Collects what a CLI's own lines say about its run. All of it comes from a program that is not trusted: it is bounded
//! text and figures, and none of it is a file's content.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::domain::quota::Exceeded;
use crate::domain::text::one_line;
use crate::domain::ticket::Usage;
use crate::job::capture::RecentLines;

/// Limits in characters on a progress line and on the command in it, and on the number of denied tools.
const PROGRESS_MAX: usize = 200;
const COMMAND_MAX: usize = 80;
const DENIED_MAX: usize = 20;
/// The names that CLIs have for a tool's path.
const PATH_KEYS: [&str; 6] = [
    "file_path",
    "filePath",
    "notebook_path",
    "absolute_path",
    "dir_path",
    "path",
];
/// Limit in bytes on a message that comes in pieces.
const MESSAGE_MAX: usize = 1 << 20;

#[derive(Debug)]
pub struct CliReport {
    pub usage: Usage,
    /// Set if the CLI's own event says that the subscription is used up.
    pub rejected: Option<Exceeded>,
    /// Tools that the CLI was not allowed to use.
    pub denied: Vec<String>,
    cwd: PathBuf,
    message: String,
    /// The message is the one with which the run ended, not just the newest.
    is_final: bool,
    /// The next piece begins another message.
    is_whole: bool,
    error: Option<String>,
    details: Option<String>,
    failed: bool,
    progress: RecentLines,
}

impl CliReport {
    /// Paths in progress lines are relative to `cwd`.
    pub fn new(cwd: &Path) -> Self {
        Self {
            usage: Usage::default(),
            rejected: None,
            denied: Vec::new(),
            cwd: cwd.to_owned(),
            message: String::new(),
            is_final: false,
            is_whole: false,
            error: None,
            details: None,
            failed: false,
            progress: RecentLines::default(),
        }
    }

    /// The final message, else the newest.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn is_final(&self) -> bool {
        self.is_final
    }

    /// Whether the CLI itself reports a failure, whatever its exit code is.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// The CLI's own error.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The error with all details that the CLI has: the place to look for a used-up quota.
    pub fn error_in_full(&self) -> Option<String> {
        let details = self.details.as_deref().unwrap_or_default();
        self.error
            .as_ref()
            .map(|error| format!("{error}\n{details}"))
    }

    pub fn take_progress(&mut self) -> Vec<String> {
        self.progress.take()
    }

    pub fn usage(&self) -> Option<Usage> {
        (self.usage != Usage::default()).then(|| self.usage.clone())
    }

    pub(super) fn session(&mut self, id: Option<&str>) {
        if let Some(id) = id {
            self.usage.session_id = Some(one_line(id, PROGRESS_MAX));
        }
    }

    /// A whole message.
    pub(super) fn said(&mut self, text: Option<&str>) {
        if let Some(text) = text.filter(|text| !text.trim().is_empty()) {
            text.clone_into(&mut self.message);
            self.is_final = false;
        }
    }

    /// A piece of a message, which goes on until [`next_message`](Self::next_message).
    pub(super) fn said_more(&mut self, text: Option<&str>) {
        if std::mem::take(&mut self.is_whole) {
            self.message.clear();
        }
        let text = text.unwrap_or_default();
        if self.message.len() + text.len() <= MESSAGE_MAX {
            self.message.push_str(text);
        }
    }

    /// The next piece begins another message. The last one stays until it comes.
    pub(super) fn next_message(&mut self) {
        self.is_whole = true;
    }

    pub(super) fn final_message(&mut self, text: Option<&str>) {
        if let Some(text) = text {
            text.clone_into(&mut self.message);
        }
        self.is_final = true;
    }

    pub(super) fn last_said_is_final(&mut self) {
        self.is_final = true;
    }

    pub(super) fn ended_well(&mut self) {
        self.failed = false;
        self.error = None;
        self.details = None;
    }

    /// An error that may not be the end: it counts only if the run then fails.
    pub(super) fn complained(&mut self, error: &str) {
        self.error = Some(error.to_owned());
    }

    pub(super) fn failed(&mut self, error: &str) {
        self.failed = true;
        self.error = Some(error.to_owned());
    }

    pub(super) fn details(&mut self, details: Option<&str>) {
        self.details = details.map(str::to_owned);
    }

    pub(super) fn denied(&mut self, tool: Option<&str>) {
        let tool = one_line(tool.unwrap_or("a tool"), PROGRESS_MAX);
        if self.denied.len() < DENIED_MAX && !self.denied.contains(&tool) {
            self.denied.push(tool);
        }
    }

    pub(super) fn progress(&mut self, line: String) {
        self.progress.push(one_line(&line, PROGRESS_MAX));
    }

    /// Notes a use of a tool and its target: a path or the start of a command. Other arguments may hold source code, which
    /// is not sent.
    pub(super) fn tool(&mut self, name: Option<&str>, input: Option<&Value>) {
        let name = one_line(name.unwrap_or("tool"), 60);
        let of = |key: &&str| input.and_then(|input| text(input, key));
        let target = match (PATH_KEYS.iter().find_map(of), of(&"command")) {
            (Some(path), _) => {
                let path = Path::new(path);
                let path = path.strip_prefix(&self.cwd).unwrap_or(path);
                path.display().to_string()
            }
            (None, Some(command)) => start_of_command(command),
            (None, None) => String::new(),
        };
        self.progress(format!("{name} {target}"));
    }
}

/// The start of a command line: the program and its targets, and nothing that may be text for a file.
fn start_of_command(command: &str) -> String {
    // Codex shows how it calls the shell: `/bin/bash -lc 'cargo test'`.
    let words = shell_words::split(command).unwrap_or_default();
    let inner = match words.as_slice() {
        [shell, option, inner] if shell.ends_with("sh") => {
            matches!(option.as_str(), "-c" | "-lc").then_some(inner.as_str())
        }
        _ => None,
    };
    let command = inner.unwrap_or(command).trim_start();
    let end = command
        .find(['\'', '"', '`', '<', '>', '|', ';', '&', '(', '\n', '\r'])
        .unwrap_or(command.len());
    let is_setting = |word: &&str| {
        word.split_once('=')
            .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
    };
    // `KEY=secret program`, `-u user:password`, `https://token@host`; `echo` and `printf` print text.
    let is_plain = |word: &&str| !word.contains(['=', ':', '@']);
    let words = command[..end]
        .split_whitespace()
        .skip_while(is_setting)
        .take_while(is_plain);
    let words: Vec<_> = words.collect();
    let shown = match words.first() {
        Some(&("echo" | "printf")) => &words[..1],
        _ => &words,
    };
    one_line(&shown.join(" "), COMMAND_MAX)
}

pub(super) fn text<'a>(of: &'a Value, key: &str) -> Option<&'a str> {
    of.get(key).and_then(Value::as_str)
}

/// Empty if there is no list.
pub(super) fn list<'a>(of: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    let list = of.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten()
}

pub(super) fn number(of: &Value, pointer: &str) -> Option<u64> {
    of.pointer(pointer).and_then(Value::as_u64)
}

/// In millionths of a dollar.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is clamped before"
)]
pub(super) fn dollars(value: Option<&Value>) -> Option<u64> {
    let dollars = value
        .and_then(Value::as_f64)
        .filter(|dollars| dollars.is_finite())?;
    Some((dollars * 1e6).round().clamp(0.0, 1e15) as u64)
}

/// For figures that come once per step.
pub(super) fn add(sum: &mut Option<u64>, more: Option<u64>) {
    *sum = more
        .map(|more| sum.unwrap_or_default().saturating_add(more))
        .or(*sum);
}
