//! Collects what a CLI's own lines say about its run. The CLI is not trusted, so this keeps only figures and text of
//! limited length, and no content of files.

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
/// The names that CLIs give to the path that a tool works on.
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

#[derive(Debug, Default)]
pub struct CliReport {
    pub usage: Usage,
    /// The final message. Until there is one, the newest message.
    pub message: String,
    /// `message` is the one with which the run ended.
    pub is_final: bool,
    /// The CLI itself reports a failure, whatever its exit code is.
    pub has_failed: bool,
    /// The CLI's own error. It counts only if the run then fails.
    pub error: Option<String>,
    /// What else the CLI says about the error.
    details: Option<String>,
    /// Set if the CLI's own event says that the subscription is used up.
    pub rejected: Option<Exceeded>,
    /// Tools that the CLI was not allowed to use.
    pub denied: Vec<String>,
    cwd: PathBuf,
    /// The next piece begins another message.
    is_whole: bool,
    pub(super) progress: RecentLines,
}

impl CliReport {
    /// Paths in progress lines are relative to `cwd`.
    pub fn new(cwd: &Path) -> Self {
        Self {
            cwd: cwd.to_owned(),
            ..Self::default()
        }
    }

    /// The error and all its details. A message about a used-up quota may be in either.
    pub fn error_in_full(&self) -> Option<String> {
        let details = self.details.as_deref().unwrap_or_default();
        let error = self.error.as_ref()?;
        Some(format!("{error}\n{details}"))
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

    /// A piece of a message. The message goes on until [`next_message`](Self::next_message).
    pub(super) fn said_more(&mut self, text: Option<&str>) {
        if std::mem::take(&mut self.is_whole) {
            self.message.clear();
        }
        let text = text.unwrap_or_default();
        if self.message.len() + text.len() <= MESSAGE_MAX {
            self.message.push_str(text);
        }
    }

    /// The next piece begins another message. Until it comes, the last message stays.
    pub(super) fn next_message(&mut self) {
        self.is_whole = true;
    }

    /// `None`: the last message is the final one.
    pub(super) fn final_message(&mut self, text: Option<&str>) {
        if let Some(text) = text {
            text.clone_into(&mut self.message);
        }
        self.is_final = true;
    }

    pub(super) fn ended_well(&mut self) {
        self.has_failed = false;
        self.error = None;
        self.details = None;
    }

    pub(super) fn failed(&mut self, error: Option<&str>, details: Option<&str>) {
        self.has_failed = true;
        let error = error.unwrap_or("failed, and did not say why");
        self.error = Some(error.to_owned());
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

    /// Notes that the CLI uses a tool, and its target: a path or the start of a command. Other arguments may hold
    /// source code, which is not sent.
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
    let command = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [shell, "-c" | "-lc", inner] if shell.ends_with("sh") => inner,
        _ => command,
    };
    let command = command.trim_start();
    let end = command
        .find(['\'', '"', '`', '<', '>', '|', ';', '&', '(', '\n', '\r'])
        .unwrap_or(command.len());
    let is_setting = |word: &&str| {
        word.split_once('=')
            .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
    };
    // Secrets may be in `KEY=secret program`, `-u user:password`, `https://token@host`; `echo` and `printf` print text.
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

/// The elements of a list; none if there is no list.
pub(super) fn list<'a>(of: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    let list = of.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten()
}

pub(super) fn number(of: &Value, pointer: &str) -> Option<u64> {
    of.pointer(pointer).and_then(Value::as_u64)
}

/// Returns millionths of a dollar.
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

/// Adds up figures that come once per step.
pub(super) fn add(sum: &mut Option<u64>, more: Option<u64>) {
    *sum = more
        .map(|more| sum.unwrap_or_default().saturating_add(more))
        .or(*sum);
}
