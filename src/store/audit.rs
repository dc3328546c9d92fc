//! The audit log, `audit.jsonl`: which runs were started here and what the daemon has sent to the backend, a line each, for
//! whoever has to answer for it. What was sent is told by its size and SHA-256.
//!
//! It is bounded: at 8 MiB it becomes `audit.jsonl.1`, and the one before that is gone. Heartbeats and progress are
//! told in sums. It is no journal: nothing is ever read back, and a line may be lost with the machine's power.

use std::collections::BTreeMap;
use std::io;
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
/// Sums wait for company no longer than that.
const SUMS_EVERY: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Audit(Mutex<Log>);

#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// `None`: it cannot be opened.
    file: Option<LogFile>,
    /// Lines that could not be written since the last that could.
    missing: u64,
    sums: BTreeMap<&'static str, Sum>,
}

/// Frames of one kind that were sent and are not yet told.
#[derive(Debug)]
struct Sum {
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
        let file = LogFile::open(&path, FILE_MAX)
            .map_err(|e| complain(&path, &e))
            .ok();
        // What cannot be opened was complained of.
        let missing = u64::from(file.is_none());
        Self(Mutex::new(Log {
            path,
            file,
            missing,
            sums: BTreeMap::new(),
        }))
    }

    /// The token goes to that address, to open a connection in that dialect.
    pub fn connecting(&self, to: &str) {
        self.write(json!({"what": "connecting", "to": to}));
    }

    /// A frame goes out to the backend. One that is lost with its connection and sent again is told again.
    pub fn sent(&self, message: &Message, frame: &str) {
        let mut line = json!({"what": "sent", "frame": message.name()});
        if let Some((ticket, attempt)) = message.ticket() {
            line["ticket"] = json!(ticket.as_str());
            line["attempt"] = json!(attempt);
        }
        match message {
            Message::Heartbeat(_) | Message::Progress { .. } => {
                return self.add(message.name(), frame);
            }
            Message::Outcome { outcome, .. } => {
                let diff = outcome.changes.diff.as_ref();
                line["diff"] = json!(diff.map(|diff| of_content(diff.as_bytes())));
                line["stdout"] = of_content(outcome.stdout.render().as_bytes());
            }
            Message::Register(_) | Message::Claim { .. } => {}
        }
        self.write(with_content(line, frame.as_bytes()));
    }

    /// The backend was asked for that address, with the token and nothing else.
    pub fn asked(&self, address: &str) {
        self.write(json!({"what": "asked", "for": one_line(without_query(address), 1000)}));
    }

    pub fn started(&self, started: &Started<'_>) {
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

    fn add(&self, kind: &'static str, frame: &str) {
        let now = now();
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Sum {
            since: now,
            count: 0,
            bytes: 0,
            hash: Sha256::new(),
        };
        let sum = log.sums.entry(kind).or_insert_with(new);
        sum.count += 1;
        sum.bytes += frame.len() as u64;
        sum.hash.update(frame);
        if now
            .duration_since(sum.since)
            .is_ok_and(|waited| waited >= SUMS_EVERY)
        {
            log.tell_sums();
        }
    }

    fn write(&self, line: Value) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.tell_sums();
        log.write(line);
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.0
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .tell_sums();
    }
}

impl Log {
    fn tell_sums(&mut self) {
        for (
            kind,
            Sum {
                since,
                count,
                bytes,
                hash,
            },
        ) in std::mem::take(&mut self.sums)
        {
            let line =
                json!({"what": "sent", "frame": kind, "since": rfc3339(since), "count": count});
            self.write(with_hash(line, bytes, hash));
        }
    }

    /// A log that cannot be written to is said once, and is no reason to leave tickets undone. It goes on as soon as it
    /// can, and says how many lines are missing.
    fn write(&mut self, line: Value) {
        if self.missing > 0
            && self
                .try_write(json!({"what": "missing", "lines": self.missing}))
                .is_ok()
        {
            self.missing = 0;
        }
        let written = if self.missing == 0 {
            self.try_write(line)
        } else {
            Err(io::ErrorKind::Other.into())
        };
        if let Err(e) = written {
            if self.missing == 0 {
                complain(&self.path, &e);
            }
            self.missing += 1;
        }
    }

    fn try_write(&mut self, mut line: Value) -> io::Result<()> {
        line["at"] = json!(rfc3339(now()));
        if self.file.is_none() {
            self.file = Some(LogFile::open(&self.path, FILE_MAX)?);
        }
        let written = self
            .file
            .as_mut()
            .map_or(Ok(()), |file| file.write_line(&line.to_string()));
        if written.is_err() {
            // Opened anew, it knows whether a part of the line is there, and goes on where it could not be set aside.
            self.file = None;
        }
        written
    }
}

/// A part of what was sent.
fn of_content(content: &[u8]) -> Value {
    with_content(json!({}), content)
}

/// A query may hold what gives access.
fn without_query(address: &str) -> &str {
    address
        .split_once('?')
        .map_or(address, |(address, _)| address)
}

fn with_content(line: Value, content: &[u8]) -> Value {
    with_hash(line, content.len() as u64, Sha256::new_with_prefix(content))
}

fn with_hash(mut line: Value, bytes: u64, hash: Sha256) -> Value {
    let hex: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    line["bytes"] = json!(bytes);
    line["sha256"] = json!(hex);
    line
}

fn complain(path: &Path, e: &io::Error) {
    warn!(
        "{}: the audit log cannot be written, and until it can, lines are missing in it: {e}",
        path.display()
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "when something was done is no policy"
)]
fn now() -> SystemTime {
    SystemTime::now()
}
