//! `status.json`: what the daemon does. `wf0-agent status` and `wf0-agent doctor` read this file, so the daemon needs
//! no socket for them. `wf0-agent status --json` prints the same field names.

use std::io;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::files::replace;
use super::{STATUS, Store};
use crate::domain::message::{Capacity, View};
use crate::domain::ticket::ActiveTicket;
use crate::times::{Rfc3339, millis_of};

/// The daemon that writes the status, and what it found in its environment. A shell's environment can differ.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DaemonInfo {
    pub name: String,
    pub version: String,
    pub pid: u32,
    pub started_at: Rfc3339,
    /// The address without its query, which may hold a secret.
    pub backend: String,
    /// The daemon's PATH.
    pub search_path: String,
    /// Where the daemon found git and the CLI at its start.
    pub git_program: Option<String>,
    pub cli_program: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct StatusRecord {
    pub daemon: DaemonStatus,
    /// The claimed tickets that have not ended, running ones first.
    pub active: Vec<ActiveStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DaemonStatus {
    #[serde(flatten)]
    pub daemon: DaemonInfo,
    pub written_at: Rfc3339,
    pub connected: bool,
    /// `connected` has had its value since this time.
    pub since: Rfc3339,
    /// Why the daemon is not connected, if that is known.
    pub why: Option<String>,
    pub dialect: String,
    /// `ready`, `draining` or `degraded`, as in a heartbeat.
    pub status: String,
    pub cli: CliStatus,
    pub capacity: Capacity,
    /// Number of outcomes that the backend may not have yet.
    pub undelivered: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CliStatus {
    pub name: String,
    pub version: Option<String>,
    /// `not_found` or `quota_exceeded`; `None`: it can run.
    pub unavailable: Option<String>,
    /// After the quota was used up: when the daemon tries a ticket again.
    pub quota_until: Option<Rfc3339>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveStatus {
    pub ticket_id: String,
    pub run: String,
    pub attempt: u32,
    /// `None`: the ticket waits.
    pub started_at: Option<Rfc3339>,
    pub progress: Option<ProgressStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressStatus {
    /// `preparing`, `running` or `collecting`.
    pub phase: String,
    pub elapsed_ms: u64,
    pub stdout_bytes: u64,
    /// The CLI's activity, in a few words.
    pub says: String,
}

impl Store {
    /// Does not flush the file: after a crash of the machine the status is out of date in any case.
    pub fn keep_status(&self, daemon: &DaemonInfo, view: &View, now: SystemTime) -> io::Result<()> {
        let daemon = DaemonStatus {
            daemon: daemon.clone(),
            written_at: Rfc3339(now),
            connected: view.link.is_up,
            since: Rfc3339(view.link.since),
            why: view.link.why.clone(),
            dialect: view.dialect.name().to_owned(),
            status: view.status.to_string(),
            cli: CliStatus {
                name: view.cli.name.clone(),
                version: view.cli.version.clone(),
                unavailable: view.cli.unavailable.map(|why| why.name().to_owned()),
                quota_until: view.quota.until.map(Rfc3339),
            },
            capacity: view.capacity,
            undelivered: view.undelivered,
        };
        let active = view.active.iter().map(ActiveStatus::of).collect();
        let record = StatusRecord { daemon, active };
        replace(&self.root.join(STATUS), &serde_json::to_vec(&record)?)
    }
}

impl ActiveStatus {
    fn of(active: &ActiveTicket) -> Self {
        let progress = active.progress.as_ref().map(|progress| ProgressStatus {
            phase: progress.phase.to_string(),
            elapsed_ms: millis_of(progress.elapsed),
            stdout_bytes: progress.stdout_bytes,
            says: progress.activity().to_owned(),
        });
        Self {
            ticket_id: active.id.to_string(),
            run: active.run.to_string(),
            attempt: active.attempt,
            started_at: active.started_at.map(Rfc3339),
            progress,
        }
    }
}
