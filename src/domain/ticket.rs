//! A ticket, its run and its outcome. The module `session` decides about them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::repos::{Branch, Repo, RepoRef};
use super::text::{Excerpt, checked_text, one_line, shown_by_name};
use crate::times;

/// A ticket's id: 1 to 128 of `A-Z a-z 0-9 . _ : -` (docs/protocol.md section 4).
///
/// An id is safe in a log line, a URL segment and an environment variable. It is not safe as a file name: some systems
/// do not allow `:` or ignore case. Therefore a run's folder has the [`RunId`] as its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct TicketId(String);

impl TicketId {
    pub fn parse(text: &str) -> Result<Self, String> {
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
        match text.len() {
            1..=128 if text.chars().all(usable) => Ok(Self(text.to_owned())),
            _ => Err("ticketId must be 1 to 128 of A-Z a-z 0-9 . _ : -".to_owned()),
        }
    }
}

checked_text!(TicketId);

/// The id of one run of one ticket on this machine. It is the name of the run's folder and marks the run's processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RunId(pub u128);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A role in its short form: `dev_agent` and `dev` are the same role (docs/protocol.md section 4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Role(String);

impl Role {
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        let short = text.strip_suffix("_agent").unwrap_or(&text);
        let usable =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        match short.len() {
            1..=32 if short.chars().all(usable) => Ok(Self(short.to_owned())),
            _ => Err("a role must be 1 to 32 of a-z 0-9 _ -".to_owned()),
        }
    }
}

checked_text!(Role);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skill {
    pub slug: String,
    /// The skill's text. `None`: it must still be downloaded.
    pub body: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subagent {
    #[serde(default)]
    pub slug: String,
    pub prompt: String,
}

/// The task. It comes with the assignment, or by download, or in part by each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    pub title: Option<String>,
    pub description: Option<String>,
    pub skills: Vec<Skill>,
    pub subagent: Option<Subagent>,
}

/// Where the rest of the brief is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    Inline,
    /// At the address below the API URL that the ticket's id gives.
    ByTicketId,
    /// At this address. It has the same origin as the API URL: this was checked.
    At(String),
}

/// A well-formed assignment. It may still be refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    #[serde(rename = "ticket_id")]
    pub id: TicketId,
    pub attempt: u32,
    pub role: Role,
    #[serde(rename = "asked_repo")]
    pub repo: RepoRef,
    #[serde(flatten)]
    pub brief: Brief,
    pub payload: Payload,
    /// The limit that the backend asks for. It can shorten the role's limit, never lengthen it.
    #[serde(rename = "asked_limit_s", with = "times::optional_seconds")]
    pub time_limit: Option<Duration>,
    /// The run works on this branch. After a successful run, the daemon pushes it.
    pub branch: Option<Branch>,
}

/// An accepted ticket: everything that a worker needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub run: RunId,
    pub ticket: Ticket,
    pub repo: Repo,
    pub time_limit: Duration,
}

/// A claimed ticket that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveTicket {
    pub run: RunId,
    pub id: TicketId,
    /// The newest attempt. If the backend assigns the active ticket again, only this number changes.
    pub attempt: u32,
    pub claimed_at: SystemTime,
    /// When the run started. `None`: the ticket waits for a slot or its work tree.
    pub started_at: Option<SystemTime>,
    /// The latest report of the run, shortened.
    pub progress: Option<Progress>,
    /// The number of progress messages sent.
    pub(super) seq: u64,
    /// The run has the order to end. A newer attempt needs another run.
    pub(super) is_stopping: bool,
    /// The work tree that the run shares with other runs. `None`: it has its own clone.
    pub(super) shared_root: Option<PathBuf>,
}

impl ActiveTicket {
    pub fn new(job: &Job, claimed_at: SystemTime) -> Self {
        Self {
            run: job.run,
            id: job.ticket.id.clone(),
            attempt: job.ticket.attempt,
            claimed_at,
            started_at: None,
            progress: None,
            seq: 0,
            is_stopping: false,
            shared_root: job.repo.shared_root().map(Path::to_owned),
        }
    }
}

/// A report about a run that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub phase: Phase,
    pub elapsed: Duration,
    pub stdout_bytes: u64,
    /// The lines of output since the report before.
    pub lines: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Preparing,
    Running,
    Collecting,
}

shown_by_name!(Phase);

impl Progress {
    /// The report with only its last line, shortened: reports may have many long lines. If this report has no line, the
    /// line of the report before stays.
    pub fn in_short(&self, before: Option<&Self>) -> Self {
        const LINE_MAX: usize = 200;
        let line = self.lines.last().map(|line| one_line(line, LINE_MAX));
        let line = line.or_else(|| before?.lines.last().cloned());
        Self {
            lines: line.into_iter().collect(),
            ..*self
        }
    }

    /// What the run is doing, in a few words.
    pub fn activity(&self) -> &str {
        match (self.phase, self.lines.last()) {
            (Phase::Preparing, _) => "preparing",
            (Phase::Running, Some(line)) => line,
            (Phase::Running, None) => "running",
            (Phase::Collecting, _) => "taking the diff",
        }
    }
}

/// Why a run is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    Cancelled,
    Shutdown,
}

impl StopReason {
    pub fn failure(self) -> Failure {
        match self {
            Self::Cancelled => Failure::new(FailCode::Cancelled, "cancelled by the backend"),
            Self::Shutdown => Failure::new(
                FailCode::AgentShutdown,
                "the agent was told to stop before the ticket ended",
            ),
        }
    }
}

/// Why a ticket failed (docs/protocol.md section 3, `ticket.fail`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailCode {
    Timeout,
    CliExit,
    CliNotFound,
    SpawnFailed,
    QuotaExceeded,
    RepoNotAllowed,
    RoleNotAllowed,
    AtCapacity,
    InvalidTicket,
    PayloadUnavailable,
    Cancelled,
    Rejected,
    AgentShutdown,
    AgentRestarted,
    Internal,
}

shown_by_name!(FailCode);

impl FailCode {
    /// Whether this reason to refuse a ticket passes by itself.
    pub(super) fn is_temporary(self) -> bool {
        matches!(
            self,
            Self::AtCapacity | Self::QuotaExceeded | Self::AgentShutdown | Self::Internal
        )
    }

    /// Whether another agent, or this agent later, may succeed.
    pub fn is_retryable(self) -> bool {
        !matches!(
            self,
            Self::Timeout | Self::CliExit | Self::InvalidTicket | Self::Cancelled
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: FailCode,
    /// One line for people.
    pub error: String,
    /// When the quota is back, if known.
    #[serde(skip)]
    pub available_at: Option<SystemTime>,
}

impl Failure {
    pub fn new(code: FailCode, error: impl Into<String>) -> Self {
        Self {
            code,
            error: error.into(),
            available_at: None,
        }
    }
}

/// How the CLI's own process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    #[serde(rename = "exit_code")]
    Code(i32),
    #[serde(rename = "signal")]
    Signal(i32),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffStat {
    pub files: u64,
    pub insertions: u64,
    pub deletions: u64,
}

impl fmt::Display for DiffStat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.files == 1 { "file" } else { "files" };
        let (files, added, removed) = (self.files, self.insertions, self.deletions);
        write!(f, "{files} {noun}, +{added} −{removed}")
    }
}

/// What a run changed in its repository. Without git, every field is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    pub diff: Option<String>,
    /// The diff is left out because it is too large. A diff is never cut: it is complete or not there.
    pub diff_truncated: bool,
    pub stat: Option<DiffStat>,
    pub base_commit: Option<String>,
    pub head_commit: Option<String>,
}

/// When a run started and how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    #[serde(rename = "started_at_ms", with = "times::millis_since_1970")]
    pub started_at: SystemTime,
    #[serde(rename = "finished_at_ms", with = "times::millis_since_1970")]
    pub finished_at: SystemTime,
    #[serde(rename = "duration_ms", with = "times::duration_in_millis")]
    pub duration: Duration,
}

/// What a run cost, as the CLI counts it. A field is `None` if the CLI does not report it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub cache_read_tokens: Option<u64>,
    /// In millionths of a dollar.
    pub cost_micros: Option<u64>,
    pub turns: Option<u64>,
    pub session_id: Option<String>,
}

/// How a ticket ended. A failed ticket is an outcome like any other, never an error of the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// `None`: the CLI ended with exit code 0.
    pub failure: Option<Failure>,
    #[serde(flatten)]
    pub exit: Option<Exit>,
    /// For a known CLI, its final message. For an unknown CLI, everything that it printed.
    #[serde(flatten)]
    pub stdout: Excerpt,
    pub usage: Option<Usage>,
    #[serde(flatten)]
    pub changes: Changes,
    /// `None` for a ticket that never started.
    pub span: Option<Span>,
    pub warnings: Vec<String>,
    /// The address of the pull request that was opened for the ticket.
    pub pull_request: Option<String>,
}

impl Outcome {
    /// The outcome of a ticket that never started.
    pub fn unstarted(failure: Failure) -> Self {
        Self {
            failure: Some(failure),
            ..Self::default()
        }
    }

    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Shortens the texts that have no limit yet: they may quote a ticket or an answer of any length.
    pub fn bounded(mut self) -> Self {
        const WARNINGS: usize = 50;
        const WARNING_MAX: usize = 500;
        const ERROR_MAX: usize = 2000;
        const SESSION_ID_MAX: usize = 200;
        if self.warnings.len() > WARNINGS {
            let more = self.warnings.len() - WARNINGS;
            self.warnings.truncate(WARNINGS);
            self.warnings.push(format!("and {more} more"));
        }
        for warning in &mut self.warnings {
            *warning = one_line(warning, WARNING_MAX);
        }
        if let Some(failure) = &mut self.failure {
            failure.error = one_line(&failure.error, ERROR_MAX);
        }
        let usage = self.usage.as_mut();
        if let Some(id) = usage.and_then(|usage| usage.session_id.as_mut()) {
            *id = one_line(id, SESSION_ID_MAX);
        }
        self
    }

    /// The outcome's approximate size in bytes: in memory, and in a message before escaping.
    pub fn size(&self) -> usize {
        self.stdout.shown_len() + self.changes.diff.as_ref().map_or(0, String::len) + 1024
    }
}
