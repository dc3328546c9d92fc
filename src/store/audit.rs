//! The audit log, `audit.jsonl`: what was started here and what has left this machine, a line each, for whoever has to
//! answer for it. Contents are told by their size and SHA-256, so the log itself gives nothing away.
//!
//! It is bounded: at [`FILE_MAX`] it becomes `audit.jsonl.1`, and the one before that is gone. Heartbeats, six a minute,
//! are told in sums. It is no journal: nothing is ever read back, and a line may be lost with the machine's power.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use log::warn;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::log_file::LogFile;
use crate::domain::message::Message;
use crate::domain::text::one_line;
use crate::domain::ticket::{RunId, TicketId};
use crate::times::rfc3339;

const FILE_MAX: u64 = 8 << 20;
/// An argument may be a whole prompt, whose hash is told anyway.
const ARGUMENT_MAX: usize = 300;
/// Heartbeats wait for company no longer than that.
const BEATS_EVERY: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Audit(Mutex<Log>);

#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// `None`: it cannot be written, which was said.
    file: Option<LogFile>,
    beats: Option<Beats>,
}

/// Heartbeats that were sent and are not yet told.
#[derive(Debug)]
struct Beats {
    since: SystemTime,
    count: u64,
    bytes: u64,
    hash: Sha256,
}

/// A program that is started for a ticket.
pub struct Started<'a> {
    pub run: RunId,
    pub ticket: &'a TicketId,
    pub attempt: u32,
    pub program: &'a Path,
    pub args: Vec<String>,
    pub cwd: &'a Path,
    /// What it gets to read.
    pub prompt: &'a str,
}

impl Audit {
    pub fn open(state_dir: &Path) -> Self {
        let path = state_dir.join("audit.jsonl");
        let file = LogFile::open(&path, FILE_MAX).map_err(|e| complain(&path, &e)).ok();
        Self(Mutex::new(Log { path, file, beats: None }))
    }

    /// A connection is open: the token was sent to that address, and to no other.
    pub fn connected(&self, to: &str) {
        self.write(json!({"what": "connected", "to": to}));
    }

    /// A frame has gone out to the backend.
    pub fn sent(&self, message: &Message, frame: &str) {
        if let Message::Heartbeat(_) = message {
            return self.beat(frame);
        }
        let mut line = json!({"what": "sent", "frame": message.name()});
        if let Some((ticket, attempt)) = message.ticket() {
            line["ticket"] = json!(ticket.as_str());
            line["attempt"] = json!(attempt);
        }
        self.write(with_content(line, frame.as_bytes()));
    }

    /// The backend was asked for that address, with the token and nothing else.
    pub fn asked(&self, address: &str) {
        self.write(json!({"what": "asked", "for": one_line(address, 1000)}));
    }

    pub fn started(&self, started: &Started<'_>) {
        let args: Vec<_> = started.args.iter().map(|arg| one_line(arg, ARGUMENT_MAX)).collect();
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
        self.write(json!({"what": "pushed", "ticket": ticket, "run": run, "branch": branch, "to": to}));
    }

    fn beat(&self, frame: &str) {
        let now = now();
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let beats = log.beats.get_or_insert_with(|| Beats { since: now, count: 0, bytes: 0, hash: Sha256::new() });
        beats.count += 1;
        beats.bytes += frame.len() as u64;
        beats.hash.update(frame);
        if now.duration_since(beats.since).is_ok_and(|waited| waited >= BEATS_EVERY) {
            log.tell_beats();
        }
    }

    fn write(&self, line: Value) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.tell_beats();
        log.write(line);
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).tell_beats();
    }
}

impl Log {
    fn tell_beats(&mut self) {
        if let Some(Beats { since, count, bytes, hash }) = self.beats.take() {
            let line = json!({"what": "sent", "frame": "heartbeat", "since": rfc3339(since), "count": count});
            self.write(with_hash(line, bytes, hash));
        }
    }

    /// A log that cannot be written to is said once, and is no reason to leave tickets undone.
    fn write(&mut self, mut line: Value) {
        line["at"] = json!(rfc3339(now()));
        let text = format!("{line}\n");
        if let Some(Err(e)) = self.file.as_mut().map(|file| file.write_all(text.as_bytes())) {
            complain(&self.path, &e);
            self.file = None;
        }
    }
}

fn with_content(line: Value, content: &[u8]) -> Value {
    with_hash(line, content.len() as u64, Sha256::new_with_prefix(content))
}

fn with_hash(mut line: Value, bytes: u64, hash: Sha256) -> Value {
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    line["bytes"] = json!(bytes);
    line["sha256"] = json!(hex);
    line
}

fn complain(path: &Path, e: &io::Error) {
    warn!("{}: the audit log cannot be written, and what follows is missing in it: {e}", path.display());
}

#[expect(clippy::disallowed_methods, reason = "when something was done is no policy")]
fn now() -> SystemTime {
    SystemTime::now()
}
