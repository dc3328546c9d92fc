//! What is on disk of each ticket, so that nothing is lost when the daemon dies (docs/protocol.md section 7).
//!
//! A run's folder tells how far it came by the files in it: `ticket.json` (claimed), `attempt.json` (claimed again under
//! a newer attempt), `started.json` (its program was started), `outcome.json` (ended), `delivered` (the backend has the
//! outcome). Each is written aside, flushed and
//! renamed. What cannot be read is set aside under another name, never dropped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use log::warn;
use serde::{Deserialize, Serialize};

use super::record::{millis, read_json, time, unusable, write_json};
use super::{CLONE, LEFT_OUT, PATCH, RunFolder, SCRATCH, Store, TICKETS, set_aside, sync_folder};
use crate::domain::branch::Branch;
use crate::domain::excerpt::Excerpt;
use crate::domain::outbox::{DELIVERED_MAX, Delivered, Entry};
use crate::domain::repos::{Repo, RepoRef, Workspace};
use crate::domain::ticket::{
    Brief, Changes, DiffStat, Exit, FailCode, Failure, Job, Outcome, Payload, Role, RunId, Skill,
    Span, Subagent, Ticket, TicketId, Usage,
};

const TICKET: &str = "ticket.json";
const ATTEMPT: &str = "attempt.json";
const STARTED: &str = "started.json";
const OUTCOME: &str = "outcome.json";
const DELIVERED: &str = "delivered";

/// A run of an earlier process, and how far it had come.
pub enum Past {
    /// Claimed, and nothing of it started.
    Waiting {
        job: Box<Job>,
        claimed_at: SystemTime,
    },
    /// Started, and its end is not known.
    CutOff { job: Box<Job>, started: Started },
    /// Ended, and the backend may not have it.
    Ended(Entry),
    /// Ended, and the backend has it.
    Delivered(Delivered),
}

/// When a run's program was started, and where the repository stood before it. Its mark is the name of its folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    pub at_ms: u64,
    pub base_commit: Option<String>,
    /// The folder within its clone that the program works in; `None`: it works in the repository itself.
    #[serde(default)]
    pub clone: Option<PathBuf>,
}

impl Store {
    /// Everything that earlier processes left, oldest first. Of what was delivered only the newest is read: as much
    /// as the session remembers.
    pub fn past(&self) -> Vec<Past> {
        let Ok(folders) = fs::read_dir(self.tickets()) else {
            return Vec::new();
        };
        let mut past: Vec<(u64, Past)> = Vec::new();
        let mut delivered: Vec<(SystemTime, RunFolder, RunId)> = Vec::new();
        for path in folders.flatten().map(|entry| entry.path()) {
            let Some(run) = run_of(&path) else { continue };
            let folder = RunFolder { path };
            match fs::metadata(folder.path(DELIVERED)).and_then(|meta| meta.modified()) {
                Ok(at) => delivered.push((at, folder, run)),
                Err(_) => past.extend(read_or_set_aside(&folder, run)),
            }
        }
        delivered.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
        for (_, folder, run) in delivered.into_iter().take(DELIVERED_MAX) {
            past.extend(read_delivered(&folder, run).unwrap_or_else(|e| {
                set_aside(&folder.path, &e);
                None
            }));
        }
        past.sort_by_key(|(at, _)| *at);
        past.into_iter().map(|(_, past)| past).collect()
    }

    /// What a run that ended here came to, if that can still be read.
    pub fn outcome(&self, run: RunId) -> Option<Entry> {
        read_json::<OutcomeRecord>(&self.folder_of(run).path(OUTCOME))
            .ok()??
            .entry(run)
    }

    /// Removes folders of runs whose outcome was delivered that long ago.
    pub fn prune(&self, keep: Duration, now: SystemTime) {
        let Ok(folders) = fs::read_dir(self.tickets()) else {
            return;
        };
        // So many at a time, for somebody is waiting.
        let mut left = 50;
        for folder in folders.flatten().map(|entry| entry.path()) {
            let delivered = fs::metadata(folder.join(DELIVERED)).and_then(|meta| meta.modified());
            let is_old = delivered.is_ok_and(|at| is_older(at, keep, now));
            // A clone goes first, and where there is time for it.
            if is_old && left > 0 && !folder.join(CLONE).exists() {
                left -= 1;
                if let Err(e) = fs::remove_dir_all(&folder) {
                    warn!("{}: cannot be removed: {e}", folder.display());
                }
            }
        }
    }

    /// The runs whose clones may go. One that is the only place that has what the run did stays as long as the run's
    /// folder would.
    pub fn spent_clones(&self, keep: Duration, now: SystemTime) -> Vec<RunId> {
        let Ok(folders) = fs::read_dir(self.tickets()) else {
            return Vec::new();
        };
        let runs = folders.flatten().filter_map(|entry| run_of(&entry.path()));
        let is_old = |run: RunId| {
            let delivered =
                fs::metadata(self.folder_of(run).path(DELIVERED)).and_then(|meta| meta.modified());
            delivered.is_ok_and(|at| is_older(at, keep, now))
                && self.folder_of(run).clone_path().exists()
        };
        runs.filter(|run| self.has_spent_clone(*run) || is_old(*run))
            .collect()
    }

    /// Runs that have ended and still have what only the run itself needed.
    pub fn untidied(&self) -> Vec<RunId> {
        let Ok(folders) = fs::read_dir(self.tickets()) else {
            return Vec::new();
        };
        let runs = folders.flatten().filter_map(|entry| run_of(&entry.path()));
        let left = |run: &RunId| {
            let folder = self.folder_of(*run);
            folder.path(SCRATCH).exists() && folder.path(OUTCOME).exists()
        };
        runs.filter(left).collect()
    }

    /// Whether the run has a clone, its outcome was delivered, and what it did is on disk or was nothing.
    pub fn has_spent_clone(&self, run: RunId) -> bool {
        let folder = self.folder_of(run);
        let is_whole = folder.path(PATCH).exists() && !folder.path(LEFT_OUT).exists();
        let is_only_copy = || folder.path(STARTED).exists() && !is_whole;
        folder.clone_path().exists() && folder.path(DELIVERED).exists() && !is_only_copy()
    }

    fn folder_of(&self, run: RunId) -> RunFolder {
        RunFolder {
            path: self.tickets().join(run.to_string()),
        }
    }

    /// Before the claim is sent.
    pub fn keep_ticket(&self, job: &Job, claimed_at: SystemTime) -> io::Result<()> {
        let folder = self.run_folder(job.run)?;
        let kept = write_json(&folder.path(TICKET), &TicketRecord::of(job, claimed_at));
        // The folder itself is new, too. Last, for by now there is little left to do.
        let kept = kept.and_then(|()| sync_folder(&self.tickets()));
        if kept.is_err() {
            // It will be refused: nothing may be left that looks like a claim.
            let _ = fs::remove_dir_all(&folder.path);
        }
        kept
    }

    /// Before the claim under a newer attempt.
    pub fn keep_attempt(&self, run: RunId, attempt: u32) -> io::Result<()> {
        write_json(&self.run_folder(run)?.path(ATTEMPT), &attempt)
    }

    /// Before the outcome is first sent.
    pub fn keep_outcome(&self, entry: &Entry) -> io::Result<()> {
        let folder = self.run_folder(entry.run)?;
        write_json(&folder.path(OUTCOME), &OutcomeRecord::of(entry))
    }

    /// The backend has the outcome.
    pub fn keep_delivery(&self, run: RunId) -> io::Result<()> {
        // Not flushed: lost with the machine's power, it makes an outcome arrive twice, which it may.
        self.run_folder(run)?.create(DELIVERED).map(|_| ())
    }
}

/// A run as somebody sees it who looks into a state folder without having opened it.
pub struct Seen {
    pub run: RunId,
    pub ticket: TicketId,
    pub attempt: u32,
    pub claimed_at: SystemTime,
    pub role: String,
    /// As it was assigned: it may come with the payload instead.
    pub title: Option<String>,
    /// The entry of `REPO_PATHS`.
    pub repo: PathBuf,
    folder: RunFolder,
}

impl Seen {
    /// Its program was started, or was about to be.
    pub fn has_started(&self) -> bool {
        self.folder.path(STARTED).exists()
    }
}

/// The runs in a state folder, the newest first. Nothing is written, so a daemon may be at work in it: each file is
/// there whole or not at all. What cannot be read is left out.
pub fn look_into(state_dir: &Path) -> io::Result<Vec<Seen>> {
    let mut runs: Vec<_> = runs_in(state_dir)?
        .into_iter()
        .filter_map(|run| Seen::of(state_dir, run))
        .collect();
    runs.sort_by_key(|seen| std::cmp::Reverse(seen.claimed_at));
    Ok(runs)
}

/// The runs that have a folder there, in no order.
pub fn runs_in(state_dir: &Path) -> io::Result<Vec<RunId>> {
    Ok(fs::read_dir(state_dir.join(TICKETS))?
        .flatten()
        .filter_map(|entry| run_of(&entry.path()))
        .collect())
}

/// The part of a [`TicketRecord`] that people ask for. What is not in it is not kept in memory either.
#[derive(Deserialize)]
struct TicketInShort {
    claimed_at_ms: u64,
    ticket_id: String,
    attempt: u32,
    role: String,
    title: Option<String>,
    repo_path: PathBuf,
}

impl Seen {
    /// `None`: it was never claimed, or cannot be read.
    pub fn of(state_dir: &Path, run: RunId) -> Option<Self> {
        let folder = RunFolder {
            path: state_dir.join(TICKETS).join(run.to_string()),
        };
        let record = read_json::<TicketInShort>(&folder.path(TICKET)).ok()??;
        let ticket = TicketId::parse(&record.ticket_id).ok()?;
        let attempt = read_json(&folder.path(ATTEMPT))
            .ok()?
            .unwrap_or(record.attempt);
        let TicketInShort {
            claimed_at_ms,
            role,
            title,
            repo_path: repo,
            ..
        } = record;
        Some(Self {
            run,
            ticket,
            attempt,
            claimed_at: time(claimed_at_ms),
            role,
            title,
            repo,
            folder,
        })
    }

    /// When its outcome was written; `None`: it has not ended.
    pub fn ended_at(&self) -> Option<SystemTime> {
        fs::metadata(self.folder.path(OUTCOME))
            .and_then(|meta| meta.modified())
            .ok()
    }

    /// `None`: its program has not been started.
    pub fn started(&self) -> io::Result<Option<Started>> {
        read_json(&self.folder.path(STARTED))
    }

    /// `None`: it has not ended.
    pub fn outcome(&self) -> io::Result<Option<Entry>> {
        let Some(record) = read_json::<OutcomeRecord>(&self.folder.path(OUTCOME))? else {
            return Ok(None);
        };
        record
            .entry(self.run)
            .map(Some)
            .ok_or_else(|| unusable(OUTCOME))
    }

    pub fn is_delivered(&self) -> bool {
        self.path(DELIVERED).exists()
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    pub fn patch(&self) -> PathBuf {
        self.folder.path(PATCH)
    }
}

impl RunFolder {
    /// Before the run's program is started.
    pub fn keep_start(&self, started: &Started) -> io::Result<()> {
        write_json(&self.path(STARTED), started)
    }
}

/// A run's folder is named after it.
fn run_of(folder: &Path) -> Option<RunId> {
    u128::from_str_radix(folder.file_name()?.to_str()?, 16)
        .ok()
        .map(RunId)
}

fn is_older(at: SystemTime, than: Duration, now: SystemTime) -> bool {
    now.duration_since(at).is_ok_and(|age| age > than)
}

fn read_folder(folder: &RunFolder, run: RunId) -> io::Result<Option<(u64, Past)>> {
    let Some(ticket) = read_json::<TicketRecord>(&folder.path(TICKET))? else {
        return Ok(None);
    };
    let at = ticket.claimed_at_ms;
    let mut job = Box::new(ticket.job(run).ok_or_else(|| unusable(TICKET))?);
    // A ticket that was claimed gets its answer, whatever has become of the rest.
    let progress = read_progress(folder, run, &mut job).unwrap_or_else(|e| {
        warn!(
            "{}: {e}: taken for a run that was cut off",
            folder.path.display()
        );
        Progress::Started(Started {
            at_ms: at,
            base_commit: None,
            clone: None,
        })
    });
    Ok(Some(match progress {
        Progress::Ended(entry) => (at, Past::Ended(entry)),
        Progress::Started(started) => (at, Past::CutOff { job, started }),
        Progress::Claimed => (
            at,
            Past::Waiting {
                job,
                claimed_at: time(at),
            },
        ),
    }))
}

/// Of a delivered outcome only the name is read: there may be many, and each of megabytes.
fn read_delivered(folder: &RunFolder, run: RunId) -> io::Result<Option<(u64, Past)>> {
    let Some(ticket) = read_json::<TicketName>(&folder.path(TICKET))? else {
        return Ok(None);
    };
    let id = TicketId::parse(&ticket.ticket_id).map_err(|_| unusable(TICKET))?;
    let attempt = read_json(&folder.path(ATTEMPT))?.unwrap_or(ticket.attempt);
    Ok(Some((
        ticket.claimed_at_ms,
        Past::Delivered(Delivered { run, id, attempt }),
    )))
}

enum Progress {
    Claimed,
    Started(Started),
    Ended(Entry),
}

fn read_progress(folder: &RunFolder, run: RunId, job: &mut Job) -> io::Result<Progress> {
    if let Some(attempt) = read_json(&folder.path(ATTEMPT))? {
        job.ticket.attempt = attempt;
    }
    if let Some(outcome) = read_json::<OutcomeRecord>(&folder.path(OUTCOME))? {
        return Ok(Progress::Ended(
            outcome.entry(run).ok_or_else(|| unusable(OUTCOME))?,
        ));
    }
    Ok(read_json(&folder.path(STARTED))?.map_or(Progress::Claimed, Progress::Started))
}

fn read_or_set_aside(folder: &RunFolder, run: RunId) -> Option<(u64, Past)> {
    // Without a ticket it was never claimed.
    read_folder(folder, run).unwrap_or_else(|e| {
        set_aside(&folder.path, &e);
        None
    })
}

#[derive(Serialize, Deserialize)]
struct TicketRecord {
    claimed_at_ms: u64,
    ticket_id: String,
    attempt: u32,
    role: String,
    /// As the backend called it.
    asked_repo: String,
    asked_by_path: bool,
    repo_path: PathBuf,
    repo_slug: Option<String>,
    limit_s: u64,
    asked_limit_s: Option<u64>,
    title: Option<String>,
    description: Option<String>,
    skills: Vec<SkillRecord>,
    subagent: Option<SubagentRecord>,
    payload: PayloadRecord,
    branch: Option<String>,
}

/// The part of a [`TicketRecord`] by which a repeated assignment is known.
#[derive(Deserialize)]
struct TicketName {
    claimed_at_ms: u64,
    ticket_id: String,
    attempt: u32,
}

#[derive(Serialize, Deserialize)]
struct SkillRecord {
    slug: String,
    body: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct SubagentRecord {
    slug: String,
    prompt: String,
}

#[derive(Serialize, Deserialize)]
enum PayloadRecord {
    Inline,
    ByTicketId,
    At(String),
}

impl TicketRecord {
    fn of(job: &Job, claimed_at: SystemTime) -> Self {
        let Ticket {
            id,
            attempt,
            role,
            repo,
            brief,
            payload,
            time_limit,
            branch,
        } = &job.ticket;
        let (asked_repo, asked_by_path) = match repo {
            RepoRef::Slug(slug) => (slug.clone(), false),
            RepoRef::Path { asked, .. } => (asked.clone(), true),
        };
        let skill = |skill: &Skill| match skill {
            Skill::Named(slug) => SkillRecord {
                slug: slug.clone(),
                body: None,
            },
            Skill::Inline { slug, body } => SkillRecord {
                slug: slug.clone(),
                body: Some(body.clone()),
            },
        };
        Self {
            claimed_at_ms: millis(claimed_at),
            ticket_id: id.as_str().to_owned(),
            attempt: *attempt,
            role: role.as_str().to_owned(),
            asked_repo,
            asked_by_path,
            repo_path: job.repo.path.clone(),
            repo_slug: job.repo.slug.clone(),
            limit_s: job.time_limit.as_secs(),
            asked_limit_s: time_limit.map(|limit| limit.as_secs()),
            title: brief.title.clone(),
            description: brief.description.clone(),
            skills: brief.skills.iter().map(skill).collect(),
            subagent: brief.subagent.as_ref().map(|s| SubagentRecord {
                slug: s.slug.clone(),
                prompt: s.prompt.clone(),
            }),
            payload: match payload {
                Payload::Inline => PayloadRecord::Inline,
                Payload::ByTicketId => PayloadRecord::ByTicketId,
                Payload::At(url) => PayloadRecord::At(url.clone()),
            },
            branch: branch.as_ref().map(|branch| branch.as_str().to_owned()),
        }
    }

    fn job(self, run: RunId) -> Option<Job> {
        let repo = match self.asked_by_path {
            true => RepoRef::Path {
                asked: self.asked_repo,
                resolved: self.repo_path.clone(),
            },
            false => RepoRef::Slug(self.asked_repo),
        };
        let skill = |skill: SkillRecord| match skill.body {
            None => Skill::Named(skill.slug),
            Some(body) => Skill::Inline {
                slug: skill.slug,
                body,
            },
        };
        let ticket = Ticket {
            id: TicketId::parse(&self.ticket_id).ok()?,
            attempt: self.attempt,
            role: Role::parse(&self.role).ok()?,
            repo,
            brief: Brief {
                title: self.title,
                description: self.description,
                skills: self.skills.into_iter().map(skill).collect(),
                subagent: self.subagent.map(|s| Subagent {
                    slug: s.slug,
                    prompt: s.prompt,
                }),
            },
            payload: match self.payload {
                PayloadRecord::Inline => Payload::Inline,
                PayloadRecord::ByTicketId => Payload::ByTicketId,
                PayloadRecord::At(url) => Payload::At(url),
            },
            time_limit: self.asked_limit_s.map(Duration::from_secs),
            branch: self
                .branch
                .map(|branch| Branch::parse(&branch))
                .transpose()
                .ok()?,
        };
        let workspace = Workspace::InPlace;
        let repo = Repo {
            root: self.repo_path.clone(),
            path: self.repo_path,
            slug: self.repo_slug,
            workspace,
        };
        Some(Job {
            run,
            ticket,
            repo,
            time_limit: Duration::from_secs(self.limit_s),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct OutcomeRecord {
    ticket_id: String,
    attempt: u32,
    failure: Option<(String, String)>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    head: String,
    tail: String,
    omitted: u64,
    diff: Option<String>,
    diff_truncated: bool,
    /// Files, insertions, deletions.
    stat: Option<(u64, u64, u64)>,
    base_commit: Option<String>,
    head_commit: Option<String>,
    span: Option<SpanRecord>,
    warnings: Vec<String>,
    pull_request: Option<String>,
    usage: Option<UsageRecord>,
}

#[derive(Serialize, Deserialize)]
struct UsageRecord {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_tokens: Option<u64>,
    cost_micros: Option<u64>,
    turns: Option<u64>,
    session_id: Option<String>,
}

impl UsageRecord {
    fn of(usage: &Usage) -> Self {
        let Usage {
            input_tokens,
            output_tokens,
            cache_read_tokens,
            cost_micros,
            turns,
            session_id,
        } = usage.clone();
        Self {
            input_tokens,
            output_tokens,
            cache_read_tokens,
            cost_micros,
            turns,
            session_id,
        }
    }

    fn usage(self) -> Usage {
        let Self {
            input_tokens,
            output_tokens,
            cache_read_tokens,
            cost_micros,
            turns,
            session_id,
        } = self;
        Usage {
            input_tokens,
            output_tokens,
            cache_read_tokens,
            cost_micros,
            turns,
            session_id,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct SpanRecord {
    started_at_ms: u64,
    finished_at_ms: u64,
    duration_ms: u64,
}

impl OutcomeRecord {
    fn of(entry: &Entry) -> Self {
        let Outcome {
            failure,
            exit,
            stdout,
            usage,
            changes,
            span,
            warnings,
            pull_request,
        } = &*entry.outcome;
        let (head, omitted, tail) = stdout.parts();
        Self {
            ticket_id: entry.id.as_str().to_owned(),
            attempt: entry.attempt,
            failure: failure
                .as_ref()
                .map(|failure| (failure.code.as_str().to_owned(), failure.error.clone())),
            exit_code: exit.and_then(|exit| {
                if let Exit::Code(code) = exit {
                    Some(code)
                } else {
                    None
                }
            }),
            signal: exit.and_then(|exit| {
                if let Exit::Signal(signal) = exit {
                    Some(signal)
                } else {
                    None
                }
            }),
            head: head.to_owned(),
            tail: tail.to_owned(),
            omitted,
            diff: changes.diff.clone(),
            diff_truncated: changes.diff_truncated,
            stat: changes
                .stat
                .map(|stat| (stat.files, stat.insertions, stat.deletions)),
            base_commit: changes.base_commit.clone(),
            head_commit: changes.head_commit.clone(),
            span: span.map(|span| SpanRecord {
                started_at_ms: millis(span.started_at),
                finished_at_ms: millis(span.finished_at),
                duration_ms: u64::try_from(span.duration.as_millis()).unwrap_or(u64::MAX),
            }),
            warnings: warnings.clone(),
            pull_request: pull_request.clone(),
            usage: usage.as_ref().map(UsageRecord::of),
        }
    }

    fn entry(self, run: RunId) -> Option<Entry> {
        let failure = match self.failure {
            None => None,
            Some((code, error)) => Some(Failure::new(FailCode::parse(&code)?, error)),
        };
        let outcome = Outcome {
            failure,
            exit: self
                .exit_code
                .map(Exit::Code)
                .or(self.signal.map(Exit::Signal)),
            stdout: Excerpt::from_parts(self.head, self.omitted, self.tail),
            changes: Changes {
                diff: self.diff,
                diff_truncated: self.diff_truncated,
                stat: self.stat.map(|(files, insertions, deletions)| DiffStat {
                    files,
                    insertions,
                    deletions,
                }),
                base_commit: self.base_commit,
                head_commit: self.head_commit,
            },
            span: self.span.map(|span| Span {
                started_at: time(span.started_at_ms),
                finished_at: time(span.finished_at_ms),
                duration: Duration::from_millis(span.duration_ms),
            }),
            warnings: self.warnings,
            pull_request: self.pull_request,
            usage: self.usage.map(UsageRecord::usage),
        };
        let id = TicketId::parse(&self.ticket_id).ok()?;
        Some(Entry {
            run,
            id,
            attempt: self.attempt,
            outcome: outcome.into(),
        })
    }
}
