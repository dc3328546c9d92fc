//! What a ticket is and how it can end. Not what is decided about it: that is `session`.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::branch::Branch;
use super::excerpt::Excerpt;
use super::repos::{Repo, RepoRef};
use super::text::one_line;
use crate::times;

/// A ticket's id: 1 to 128 of `A-Z a-z 0-9 . _ : -` (docs/protocol.md section 4).
///
/// Safe in a log line, a URL segment and an environment variable. Not a file name: `:` and upper case are no
/// name of their own on every system, so folders are named after the [`RunId`].
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

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TicketId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One run of one ticket on this machine: the mark its processes carry and the name of its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Role {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skill {
    pub slug: String,
    /// `None`: it is still to be downloaded.
    pub body: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subagent {
    pub slug: String,
    pub prompt: String,
}

/// What is to be done: sent inline, downloaded, or some of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    pub title: Option<String>,
    pub description: Option<String>,
    pub skills: Vec<Skill>,
    pub subagent: Option<Subagent>,
}

/// Where the part of the brief is that did not come with the assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    Inline,
    /// At the ticket's own address below the API URL.
    ByTicketId,
    /// At an address that has been found to be of the API URL's origin.
    At(String),
}

/// A well-formed assignment. Whether it is accepted is another matter.
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
    /// What the backend asks for; it may shorten the role's limit, never lengthen it.
    #[serde(rename = "asked_limit_s", with = "times::optional_seconds")]
    pub time_limit: Option<Duration>,
    /// Where the work is to be done, and to be pushed if it went well.
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

/// Why a run is ended before its time.
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

impl FailCode {
    pub const NAMES: [(Self, &'static str); 15] = [
        (Self::Timeout, "timeout"),
        (Self::CliExit, "cli_exit"),
        (Self::CliNotFound, "cli_not_found"),
        (Self::SpawnFailed, "spawn_failed"),
        (Self::QuotaExceeded, "quota_exceeded"),
        (Self::RepoNotAllowed, "repo_not_allowed"),
        (Self::RoleNotAllowed, "role_not_allowed"),
        (Self::AtCapacity, "at_capacity"),
        (Self::InvalidTicket, "invalid_ticket"),
        (Self::PayloadUnavailable, "payload_unavailable"),
        (Self::Cancelled, "cancelled"),
        (Self::Rejected, "rejected"),
        (Self::AgentShutdown, "agent_shutdown"),
        (Self::AgentRestarted, "agent_restarted"),
        (Self::Internal, "internal"),
    ];

    pub fn as_str(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(code, _)| *code == self)
            .map_or("internal", |(_, name)| name)
    }

    /// Whether the reason for a refusal is one of this moment only.
    pub fn passes(self) -> bool {
        matches!(
            self,
            Self::AtCapacity | Self::QuotaExceeded | Self::AgentShutdown | Self::Internal
        )
    }

    /// Whether another agent, or this one later, may well succeed.
    pub fn retryable(self) -> bool {
        !matches!(
            self,
            Self::Timeout | Self::CliExit | Self::InvalidTicket | Self::Cancelled
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: FailCode,
    /// One human line.
    pub error: String,
    /// When the quota is back, where that is known.
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
        write!(
            f,
            "{} {noun}, +{} −{}",
            self.files, self.insertions, self.deletions
        )
    }
}

/// What a run changed in its repository. Every field is absent where there is no git to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    pub diff: Option<String>,
    /// The diff was left out for its size; it is never cut.
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

/// What the CLI says a run took, in its own way of counting. Every field is absent where it does not say.
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
    /// What the CLI said in the end; of a CLI that is not known, all that it printed.
    #[serde(flatten)]
    pub stdout: Excerpt,
    pub usage: Option<Usage>,
    #[serde(flatten)]
    pub changes: Changes,
    /// `None` for a ticket that never started.
    pub span: Option<Span>,
    pub warnings: Vec<String>,
    /// The address of the pull request that was opened for it.
    pub pull_request: Option<String>,
}

impl Outcome {
    /// A ticket that ended before anything ran.
    pub fn unstarted(failure: Failure) -> Self {
        Self {
            failure: Some(failure),
            ..Self::default()
        }
    }

    /// With everything that has no bound of its own cut to what a person reads: it may quote a ticket or an answer.
    pub fn bounded(mut self) -> Self {
        const WARNINGS: usize = 50;
        if self.warnings.len() > WARNINGS {
            let more = self.warnings.len() - WARNINGS;
            self.warnings.truncate(WARNINGS);
            self.warnings.push(format!("and {more} more"));
        }
        self.warnings
            .iter_mut()
            .for_each(|warning| *warning = one_line(warning, 500));
        if let Some(failure) = &mut self.failure {
            failure.error = one_line(&failure.error, 2000);
        }
        if let Some(id) = self
            .usage
            .as_mut()
            .and_then(|usage| usage.session_id.as_mut())
        {
            *id = one_line(id, 200);
        }
        self
    }

    /// About how many bytes it takes in memory and, before escaping, on the wire.
    pub fn size(&self) -> usize {
        self.stdout.shown_len() + self.changes.diff.as_ref().map_or(0, String::len) + 1024
    }
}
