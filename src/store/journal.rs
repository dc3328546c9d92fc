//! What is on disk about each ticket, so that nothing is lost when the daemon dies (docs/protocol.md section 7).
//!
//! The files in a run's folder tell how far the run came: `ticket.json` (claimed), `attempt.json` (claimed again under
//! a newer attempt), `started.json` (its program was started), `outcome.json` (ended), `delivered` (the backend has the
//! outcome). A folder that cannot be read is set aside under another name, never dropped.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use log::warn;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Store;
use super::files::{
    create, make_folder, read_json, remove_all, set_aside, sync_folder, write_json,
};
use crate::domain::outbox::{DELIVERED_MAX, Delivered, Entry};
use crate::domain::repos::{Repo, Workspace};
use crate::domain::session::SavedState;
use crate::domain::ticket::{Job, Outcome, RunId, Ticket, TicketId};
use crate::times::{from_millis, millis, now};

pub(super) const TICKET: &str = "ticket.json";
const ATTEMPT: &str = "attempt.json";
pub(super) const STARTED: &str = "started.json";
pub(super) const OUTCOME: &str = "outcome.json";
pub(super) const DELIVERED: &str = "delivered";

/// This folder in the state folder has a folder for each run.
const TICKETS: &str = "tickets";
/// Files that are needed only during the run.
const SCRATCH: &str = "scratch";
/// The clone that the run works in.
const CLONE: &str = "clone";
/// What the run changed. The file exists only when it is complete.
pub const PATCH: &str = "diff.patch";
/// The file exists if the patch does not have all changes of the run.
pub const LEFT_OUT: &str = "left-out";

/// A call of [`Store::prune`] removes at most this many folders, because a ticket waits until it returns.
const PRUNE_MAX: usize = 50;

/// A run that had started when the daemon died.
#[derive(Debug, PartialEq)]
pub struct CutOff {
    pub job: Box<Job>,
    pub started: Started,
}

/// When a run's program was started, and where the repository stood before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub at_ms: u64,
    pub base_commit: Option<String>,
    /// The folder within its clone that the program works in; `None`: it works in the repository itself.
    #[serde(default)]
    pub clone: Option<PathBuf>,
}

/// `ticket.json`. `T` is a [`Ticket`], or a reference to one.
#[derive(Serialize, Deserialize)]
struct TicketRecord<T> {
    claimed_at_ms: u64,
    #[serde(flatten)]
    ticket: T,
    repo_path: PathBuf,
    repo_slug: Option<String>,
    limit_s: u64,
}

impl TicketRecord<Ticket> {
    fn job(self, run: RunId) -> Box<Job> {
        let repo = Repo {
            root: self.repo_path.clone(),
            path: self.repo_path,
            slug: self.repo_slug,
            workspace: Workspace::InPlace,
        };
        Box::new(Job {
            run,
            ticket: self.ticket,
            repo,
            time_limit: Duration::from_secs(self.limit_s),
        })
    }
}

/// The part of `ticket.json` that identifies a repeated assignment.
#[derive(Deserialize)]
struct TicketName {
    ticket_id: TicketId,
    attempt: u32,
}

/// `outcome.json`. `T` is an [`Outcome`], or a reference to one.
#[derive(Serialize, Deserialize)]
struct OutcomeRecord<T> {
    ticket_id: TicketId,
    attempt: u32,
    #[serde(flatten)]
    outcome: T,
}

impl Store {
    /// What earlier processes left, oldest first, and the runs that were cut off. Of the delivered runs, this reads
    /// only the newest: as many as the session remembers.
    pub fn saved_state(&self) -> (SavedState, Vec<CutOff>) {
        let (mut past, mut cut_off) = (SavedState::default(), Vec::new());
        let (mut claimed, mut delivered) = (Vec::new(), Vec::new());
        for folder in self.run_folders() {
            match folder.delivered_at() {
                Some(at) => delivered.push((at, folder)),
                None => {
                    // Without a `ticket.json` the run was never claimed.
                    let ticket = read_json::<TicketRecord<Ticket>>(&folder.path(TICKET));
                    let ticket = folder.or_set_aside(ticket);
                    claimed.extend(ticket.map(|ticket| (ticket, folder)));
                }
            }
        }
        claimed.sort_by_key(|(ticket, _)| ticket.claimed_at_ms);
        for (ticket, folder) in claimed {
            let at_ms = ticket.claimed_at_ms;
            let mut job = ticket.job(folder.run);
            // The backend gets an answer for a claimed ticket even if the other files cannot be read.
            let stage = folder.stage(&mut job).unwrap_or_else(|e| {
                let path = folder.path.display();
                warn!("{path}: {e}: this run is treated as cut off");
                Stage::Started(Started {
                    at_ms,
                    base_commit: None,
                    clone: None,
                })
            });
            match stage {
                Stage::Claimed => past.waiting.push((job, from_millis(at_ms))),
                Stage::Started(started) => cut_off.push(CutOff { job, started }),
                Stage::Ended(entry) => past.ended.push(entry),
            }
        }
        delivered.sort_by_key(|(at, _)| *at);
        let forgotten = delivered.len().saturating_sub(DELIVERED_MAX);
        for (_, folder) in delivered.drain(forgotten..) {
            let delivered = folder.or_set_aside(folder.delivered());
            past.delivered.extend(delivered);
        }
        (past, cut_off)
    }

    /// The outcome of a run that has ended, if it can still be read.
    pub fn outcome(&self, run: RunId) -> Option<Entry> {
        self.folder(run).outcome().ok()?
    }

    /// Removes the folders of runs whose outcome was delivered longer ago than `keep`.
    pub fn prune(&self, keep: Duration) {
        // A folder with a clone stays: a worker removes the clone first, because that can take long.
        let is_old = |own: &RunFolder| own.is_older(keep) && !own.clone_path().exists();
        let old = self.run_folders().into_iter().filter(is_old);
        for folder in old.take(PRUNE_MAX) {
            if let Err(e) = fs::remove_dir_all(&folder.path) {
                warn!("{}: cannot be removed: {e}", folder.path.display());
            }
        }
    }

    /// The runs that still have scratch files after their end, or a clone that is no longer needed.
    pub fn untidied(&self, keep: Duration) -> Vec<RunId> {
        let is_untidied = |folder: &RunFolder| {
            let has_ended = folder.path(OUTCOME).exists();
            has_ended && folder.path(SCRATCH).exists() || folder.has_spent_clone(keep)
        };
        let folders = self.run_folders().into_iter().filter(is_untidied);
        folders.map(|folder| folder.run).collect()
    }

    /// The run's folder. It may not exist yet.
    pub fn folder(&self, run: RunId) -> RunFolder {
        let path = self.root.join(TICKETS).join(run.to_string());
        RunFolder { run, path }
    }

    /// The run's folder. Makes it if it is missing.
    pub fn run_folder(&self, run: RunId) -> io::Result<RunFolder> {
        let folder = self.folder(run);
        make_folder(&folder.path)?;
        Ok(folder)
    }

    fn run_folders(&self) -> Vec<RunFolder> {
        RunFolder::all(&self.root).unwrap_or_default()
    }

    /// Call this before the claim is sent.
    pub fn keep_ticket(&self, job: &Job, claimed_at: SystemTime) -> io::Result<()> {
        let folder = self.run_folder(job.run)?;
        let record = TicketRecord {
            claimed_at_ms: millis(claimed_at),
            ticket: &job.ticket,
            repo_path: job.repo.path.clone(),
            repo_slug: job.repo.slug.clone(),
            limit_s: job.time_limit.as_secs(),
        };
        let kept = write_json(&folder.path(TICKET), &record);
        // The run's folder is new, so its parent folder needs a flush, too.
        let kept = kept.and_then(|()| sync_folder(&self.root.join(TICKETS)));
        if kept.is_err() {
            // The daemon will refuse the ticket, so nothing must remain that looks like a claim.
            let _ = fs::remove_dir_all(&folder.path);
        }
        kept
    }

    /// Call this before the claim under a newer attempt is sent.
    pub fn keep_attempt(&self, run: RunId, attempt: u32) -> io::Result<()> {
        write_json(&self.run_folder(run)?.path(ATTEMPT), &attempt)
    }

    /// Call this before the outcome is sent for the first time.
    pub fn keep_outcome(&self, entry: &Entry) -> io::Result<()> {
        let record = OutcomeRecord {
            ticket_id: entry.id.clone(),
            attempt: entry.attempt,
            outcome: &*entry.outcome,
        };
        write_json(&self.run_folder(entry.run)?.path(OUTCOME), &record)
    }

    /// Records that the backend has the outcome.
    pub fn keep_delivery(&self, run: RunId) -> io::Result<()> {
        // No flush: if the machine loses its power, the daemon sends the outcome twice. That is allowed.
        self.run_folder(run)?.create(DELIVERED).map(|_| ())
    }
}

/// How far a run came.
enum Stage {
    Claimed,
    Started(Started),
    Ended(Entry),
}

/// The folder of one run: its records, its output, its diff, and its clone if it has one.
#[derive(Debug, Default)]
pub struct RunFolder {
    pub run: RunId,
    path: PathBuf,
}

impl RunFolder {
    /// All folders of runs in this state folder, in no order.
    pub(super) fn all(state_dir: &Path) -> io::Result<Vec<Self>> {
        let folder = |path: PathBuf| {
            let run = u128::from_str_radix(path.file_name()?.to_str()?, 16);
            let run = RunId(run.ok()?);
            Some(Self { run, path })
        };
        let entries = fs::read_dir(state_dir.join(TICKETS))?.flatten();
        Ok(entries.filter_map(|entry| folder(entry.path())).collect())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A new file, open for writing.
    pub fn create(&self, name: &str) -> io::Result<File> {
        create(&self.path(name))
    }

    /// A new file with this content, open for reading from its start.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<File> {
        self.create(name)?.write_all(content)?;
        File::open(self.path(name))
    }

    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        make_folder(&path)?;
        Ok(path)
    }

    /// Removes the scratch files. If one cannot be removed, it takes room but does no harm.
    pub fn remove_scratch(&self) {
        let _ = fs::remove_dir_all(self.path(SCRATCH));
    }

    /// Where the run's clone is, if it has one.
    pub fn clone_path(&self) -> PathBuf {
        self.path(CLONE)
    }

    pub fn make_clone_folder(&self) -> io::Result<PathBuf> {
        self.folder(CLONE)
    }

    /// Call this only after all processes of the run have ended.
    pub fn remove_clone(&self) -> io::Result<()> {
        remove_all(&self.clone_path())
    }

    /// Call this before the clone is removed: from then on the patch may be the only copy of the run's work.
    pub fn flush_patch(&self) -> io::Result<()> {
        // Windows flushes only files that are open for writing.
        match File::options().write(true).open(self.path(PATCH)) {
            Ok(patch) => patch.sync_all(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Call this before the run's program is started.
    pub fn keep_start(&self, started: &Started) -> io::Result<()> {
        write_json(&self.path(STARTED), started)
    }

    /// The newer attempt under which the ticket was claimed again, if there is one.
    pub(super) fn attempt(&self) -> io::Result<Option<u32>> {
        read_json(&self.path(ATTEMPT))
    }

    fn stage(&self, job: &mut Job) -> io::Result<Stage> {
        if let Some(attempt) = self.attempt()? {
            job.ticket.attempt = attempt;
        }
        if let Some(entry) = self.outcome()? {
            return Ok(Stage::Ended(entry));
        }
        Ok(read_json(&self.path(STARTED))?.map_or(Stage::Claimed, Stage::Started))
    }

    /// `None`: the run has not ended.
    pub(super) fn outcome(&self) -> io::Result<Option<Entry>> {
        let Some(mut record) = read_json::<Map<String, Value>>(&self.path(OUTCOME))? else {
            return Ok(None);
        };
        // Version 0.1.0 wrote both `exit_code` and `signal`, one of them as null.
        record.retain(|_, value| !value.is_null());
        let record: OutcomeRecord<Outcome> = serde_json::from_value(record.into())?;
        Ok(Some(Entry {
            run: self.run,
            id: record.ticket_id,
            attempt: record.attempt,
            outcome: record.outcome.into(),
        }))
    }

    /// This does not read the outcome itself: there may be many outcomes, and each can have megabytes.
    fn delivered(&self) -> io::Result<Option<Delivered>> {
        let Some(ticket) = read_json::<TicketName>(&self.path(TICKET))? else {
            return Ok(None);
        };
        Ok(Some(Delivered {
            run: self.run,
            id: ticket.ticket_id,
            attempt: self.attempt()?.unwrap_or(ticket.attempt),
        }))
    }

    fn delivered_at(&self) -> Option<SystemTime> {
        modified(&self.path(DELIVERED))
    }

    /// Whether the run's outcome was delivered longer ago than `than`.
    fn is_older(&self, than: Duration) -> bool {
        let age = self.delivered_at().map(|at| now().duration_since(at));
        age.is_some_and(|age| age.is_ok_and(|age| age > than))
    }

    /// Whether there is a clone that is no longer needed. The outcome must be delivered. Then the clone can go if the
    /// patch has all changes, or the run never started. A clone with the only copy of a change stays until `keep` has
    /// passed, as long as the run's folder.
    pub fn has_spent_clone(&self, keep: Duration) -> bool {
        if !self.clone_path().exists() || !self.path(DELIVERED).exists() {
            return false;
        }
        let is_whole = self.path(PATCH).exists() && !self.path(LEFT_OUT).exists();
        is_whole || !self.path(STARTED).exists() || self.is_older(keep)
    }

    fn or_set_aside<T>(&self, read: io::Result<Option<T>>) -> Option<T> {
        read.unwrap_or_else(|e| {
            set_aside(&self.path, &e);
            None
        })
    }
}

pub(super) fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}
