//! What the daemon is doing, in a file for `wf0-agent status`: nobody has to ask the daemon, and it listens nowhere.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::files::{read_json, replace};
use super::{STATUS, Store};
use crate::domain::message::CliState;
use crate::domain::message::{Link, View};
use crate::domain::ticket::{ActiveTicket, Progress};
use crate::times::{millis, millis_of};

/// Who tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Daemon {
    pub version: String,
    pub pid: u32,
    pub started_at_ms: u64,
    pub name: String,
    /// Its address without a query, where somebody may keep a secret.
    pub backend: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct StatusRecord {
    pub daemon: Daemon,
    pub written_at_ms: u64,
    pub connected: bool,
    /// Since when it is, or is not.
    pub since_ms: u64,
    /// Why it is not connected, where that is known.
    pub why: Option<String>,
    pub dialect: String,
    /// `ready`, `draining` or `degraded`, as in a heartbeat.
    pub status: String,
    pub cli: CliRecord,
    pub slots: SlotsRecord,
    pub active: Vec<ActiveRecord>,
    /// Outcomes that the backend may not have yet.
    pub undelivered: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct CliRecord {
    pub name: String,
    pub version: Option<String>,
    /// `not_found` or `quota_exceeded`; `None`: it can run.
    pub unavailable: Option<String>,
    /// When its quota is tried again.
    pub quota_until_ms: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SlotsRecord {
    pub max: usize,
    pub free: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ActiveRecord {
    pub run: String,
    pub ticket: String,
    pub attempt: u32,
    /// `None`: it waits.
    pub started_at_ms: Option<u64>,
    pub progress: Option<ProgressRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ProgressRecord {
    /// `preparing`, `running` or `collecting`.
    pub phase: String,
    pub elapsed_ms: u64,
    pub stdout_bytes: u64,
    /// What it says, in a few words.
    pub says: String,
}

impl Store {
    /// Not flushed: after a crash there is no daemon whose status it would be.
    pub fn keep_status(&self, daemon: &Daemon, view: &View, now: SystemTime) -> io::Result<()> {
        let record = StatusRecord::of(daemon, view, now);
        replace(
            &self.root.join(STATUS),
            &serde_json::to_vec(&record).map_err(io::Error::other)?,
        )
    }
}

/// `None`: no daemon has ever told anything there. Whether one runs is another matter.
pub fn read(state_dir: &Path) -> io::Result<Option<StatusRecord>> {
    read_json(&state_dir.join(STATUS))
}

impl StatusRecord {
    fn of(daemon: &Daemon, view: &View, now: SystemTime) -> Self {
        let View {
            link,
            dialect,
            status,
            cli,
            quota,
            capacity,
            active,
            undelivered,
        } = view;
        let CliState {
            name,
            version,
            unavailable,
        } = cli.clone();
        let (since, why) = match link {
            Link::Up { since } => (since, None),
            Link::Down { since, why } => (since, why.clone()),
        };
        Self {
            daemon: daemon.clone(),
            written_at_ms: millis(now),
            connected: link.is_up(),
            since_ms: millis(*since),
            why,
            dialect: dialect.name().to_owned(),
            status: status.name().to_owned(),
            cli: CliRecord {
                name,
                version,
                unavailable: unavailable.map(|why| why.name().to_owned()),
                quota_until_ms: quota.until.map(millis),
            },
            slots: SlotsRecord {
                max: capacity.max,
                free: capacity.free,
            },
            active: active.iter().map(ActiveRecord::of).collect(),
            undelivered: *undelivered,
        }
    }
}

impl ActiveRecord {
    fn of(active: &ActiveTicket) -> Self {
        let ActiveTicket {
            run,
            id,
            attempt,
            started_at,
            progress,
            ..
        } = active;
        Self {
            run: run.to_string(),
            ticket: id.to_string(),
            attempt: *attempt,
            started_at_ms: started_at.map(millis),
            progress: progress.as_ref().map(ProgressRecord::of),
        }
    }
}

impl ProgressRecord {
    fn of(progress: &Progress) -> Self {
        Self {
            phase: progress.phase.name().to_owned(),
            elapsed_ms: millis_of(progress.elapsed),
            stdout_bytes: progress.stdout_bytes,
            says: progress.activity().to_owned(),
        }
    }
}
