//! The audit log, `audit.jsonl`: one line for each program that was started on this machine and each frame that was
//! sent to the backend. A line has the size and the SHA-256 of what was sent, not the content.
//!
//! Heartbeats and progress reports are left out. The log is bounded: at [`FILE_MAX`] it becomes `audit.jsonl.1` and
//! replaces an older one. The daemon never reads the log. A crash of the machine may lose a line.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use log::warn;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::files::LogFile;
use crate::domain::message::Message;
use crate::domain::text::one_line;
use crate::domain::ticket::Job;
use crate::times::{now, rfc3339};

const FILE_MAX: u64 = 8 << 20;
/// An argument may be a whole prompt. The line has the hash of the prompt in any case.
const ARGUMENT_MAX: usize = 300;
const ADDRESS_MAX: usize = 1000;

#[derive(Debug)]
pub struct Audit {
    log: LogFile,
    /// The last line could not be written.
    is_broken: Mutex<bool>,
}

impl Audit {
    pub fn new(state_dir: &Path) -> Self {
        let log = LogFile::new(&state_dir.join("audit.jsonl"), FILE_MAX);
        let is_broken = Mutex::new(false);
        Self { log, is_broken }
    }

    /// The daemon is about to send the token to this address, to open a connection.
    pub fn connecting(&self, to: &str) {
        self.write(json!({"what": "connecting", "to": to}));
    }

    /// The daemon sends a frame to the backend. A frame that is lost with its connection and sent again has two lines.
    pub fn sent(&self, message: &Message, frame: &str) {
        let mut line = json!({"what": "sent", "frame": message.name()});
        if let Some((ticket, attempt)) = message.ticket() {
            line["ticket"] = json!(ticket);
            line["attempt"] = json!(attempt);
        }
        match message {
            Message::Heartbeat(_) | Message::Progress(..) => return,
            Message::Outcome(_, _, outcome) => {
                let diff = outcome.changes.diff.as_ref();
                line["diff"] = json!(diff.map(|diff| with_content(json!({}), diff)));
                line["stdout"] = with_content(json!({}), &outcome.stdout.render());
            }
            Message::Register(_) | Message::Claim(..) => {}
        }
        self.write(with_content(line, frame));
    }

    /// The daemon is about to request this address from the backend. The request holds the token and nothing else.
    pub fn asked(&self, address: &str) {
        // A query may hold a secret.
        let address = address.split('?').next().unwrap_or_default();
        self.write(json!({"what": "asked", "for": one_line(address, ADDRESS_MAX)}));
    }

    /// A program was started for a ticket. The program reads the prompt on its standard input, or as an argument.
    pub fn started(&self, job: &Job, program: &Path, args: &[OsString], cwd: &Path, prompt: &str) {
        let shown = |arg: &OsString| one_line(&arg.to_string_lossy(), ARGUMENT_MAX);
        let line = json!({
            "what": "started",
            "ticket": job.ticket.id,
            "attempt": job.ticket.attempt,
            "run": job.run.to_string(),
            "program": program.to_string_lossy(),
            "args": args.iter().map(shown).collect::<Vec<_>>(),
            "cwd": cwd.to_string_lossy(),
        });
        self.write(with_content(line, prompt));
    }

    /// The daemon is about to push a branch to this address, which holds no credentials.
    pub fn pushed(&self, job: &Job, branch: &str, to: &str) {
        let mut line = json!({"what": "pushed", "branch": branch, "to": to});
        line["ticket"] = json!(job.ticket.id);
        line["run"] = json!(job.run.to_string());
        self.write(line);
    }

    /// An error stops no ticket, and the daemon logs it only once. When lines can be written again, a line `missing`
    /// comes before them.
    fn write(&self, line: Value) {
        let is_broken = self.is_broken.lock();
        let mut is_broken = is_broken.unwrap_or_else(PoisonError::into_inner);
        let mut written = Ok(());
        if *is_broken {
            written = self.append(json!({"what": "missing"}));
        }
        written = written.and_then(|()| self.append(line));
        if let (Err(e), false) = (&written, *is_broken) {
            warn!(
                "{}: the audit log cannot be written, and until it can, lines are missing in it: {e}",
                self.log.path.display()
            );
        }
        *is_broken = written.is_err();
    }

    fn append(&self, mut line: Value) -> io::Result<()> {
        line["at"] = json!(rfc3339(now()));
        self.log.append(format!("{line}\n").as_bytes())
    }
}

fn with_content(mut line: Value, content: &str) -> Value {
    let hash = Sha256::digest(content);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    line["bytes"] = json!(content.len());
    line["sha256"] = json!(hex);
    line
}
