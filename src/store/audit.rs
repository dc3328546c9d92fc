//! The audit log, `audit.jsonl`: one line for each program that was started here and each frame that was sent to the
//! backend, for the person who answers for this machine. What was sent stands there by its size and SHA-256.
//!
//! Heartbeats and progress reports are left out. The log is bounded: at [`FILE_MAX`] it becomes `audit.jsonl.1`, in place of
//! an older one. Nothing reads it back, and a crash of the machine may lose a line.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use log::warn;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::log_file::LogFile;
use crate::domain::message::Message;
use crate::domain::text::one_line;
use crate::domain::ticket::{RunId, TicketId};
use crate::times::{now, rfc3339};

const FILE_MAX: u64 = 8 << 20;
/// An argument may be a whole prompt, whose hash is in the line anyway.
const ARGUMENT_MAX: usize = 300;
const ADDRESS_MAX: usize = 1000;

#[derive(Debug)]
pub struct Audit(Mutex<Log>);

#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// `None`: it is to be opened before the next line.
    file: Option<LogFile>,
    /// Lines are missing since the last that was written.
    is_broken: bool,
}

/// A program that is started for a ticket.
pub struct ProgramStart<'a> {
    pub run: RunId,
    pub ticket: &'a TicketId,
    pub attempt: u32,
    pub program: &'a Path,
    pub args: Vec<String>,
    pub cwd: &'a Path,
    /// What it reads on its standard input, or as an argument.
    pub prompt: &'a str,
}

impl Audit {
    pub fn open(state_dir: &Path) -> Self {
        Self(Mutex::new(Log {
            path: state_dir.join("audit.jsonl"),
            file: None,
            is_broken: false,
        }))
    }

    /// The token goes to that address, to open a connection in that dialect.
    pub fn connecting(&self, to: &str) {
        self.write(json!({"what": "connecting", "to": to}));
    }

    /// A frame goes out to the backend. A frame that is lost with its connection and sent again has a second line.
    pub fn sent(&self, message: &Message, frame: &str) {
        let mut line = json!({"what": "sent", "frame": message.name()});
        if let Some((ticket, attempt)) = message.ticket() {
            line["ticket"] = json!(ticket.as_str());
            line["attempt"] = json!(attempt);
        }
        match message {
            Message::Heartbeat(_) | Message::Progress { .. } => return,
            Message::Outcome { outcome, .. } => {
                let diff = outcome.changes.diff.as_ref();
                line["diff"] = json!(diff.map(|diff| with_content(json!({}), diff.as_bytes())));
                let stdout = outcome.stdout.render();
                line["stdout"] = with_content(json!({}), stdout.as_bytes());
            }
            Message::Register(_) | Message::Claim { .. } => {}
        }
        self.write(with_content(line, frame.as_bytes()));
    }

    /// The backend was asked for that address, with the token and nothing else.
    pub fn asked(&self, address: &str) {
        self.write(json!({"what": "asked", "for": one_line(without_query(address), ADDRESS_MAX)}));
    }

    pub fn started(&self, started: &ProgramStart<'_>) {
        let args: Vec<_> = started
            .args
            .iter()
            .map(|arg| one_line(arg, ARGUMENT_MAX))
            .collect();
        let line = json!({
            "what": "started",
            "ticket": started.ticket.as_str(),
            "attempt": started.attempt,
            "run": started.run.to_string(),
            "program": started.program,
            "args": args,
            "cwd": started.cwd,
        });
        self.write(with_content(line, started.prompt.as_bytes()));
    }

    /// A branch was pushed, or was to be, to that address, which holds no credentials.
    pub fn pushed(&self, ticket: &TicketId, run: RunId, branch: &str, to: &str) {
        let (ticket, run) = (ticket.as_str(), run.to_string());
        self.write(
            json!({"what": "pushed", "ticket": ticket, "run": run, "branch": branch, "to": to}),
        );
    }

    fn write(&self, line: Value) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.write(line);
    }
}

impl Log {
    /// An error is logged once and stops no ticket. The next line that can be written comes after one that says that
    /// lines are missing.
    fn write(&mut self, line: Value) {
        let mut written = Ok(());
        if self.is_broken {
            written = self.try_write(json!({"what": "missing"}));
        }
        written = written.and_then(|()| self.try_write(line));
        if let (Err(e), false) = (&written, self.is_broken) {
            warn!(
                "{}: the audit log cannot be written, and until it can, lines are missing in it: {e}",
                self.path.display()
            );
        }
        self.is_broken = written.is_err();
    }

    fn try_write(&mut self, mut line: Value) -> io::Result<()> {
        line["at"] = json!(rfc3339(now()));
        let mut file = match self.file.take() {
            Some(file) => file,
            None => LogFile::open(&self.path, FILE_MAX)?,
        };
        // After an error it is opened anew, which finds out whether a part of the line is there.
        file.write_line(&line.to_string())?;
        self.file = Some(file);
        Ok(())
    }
}

/// A query may hold what gives access.
fn without_query(address: &str) -> &str {
    address
        .split_once('?')
        .map_or(address, |(address, _)| address)
}

fn with_content(mut line: Value, content: &[u8]) -> Value {
    let hash = Sha256::digest(content);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    line["bytes"] = json!(content.len());
    line["sha256"] = json!(hex);
    line
}
