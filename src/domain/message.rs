//! The daemon's reports: messages for the backend, not yet encoded in a dialect (docs/protocol.md section 3), notices
//! for the log, and a view of the daemon's state for people and service managers.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::quota::Quota;
use super::repos::Repo;
use super::text::shown_by_name;
use super::ticket::{ActiveTicket, Outcome, Progress, Role, RunId, TicketId};

/// A dialect of the protocol (docs/protocol.md section 8). Its methods are the differences that policy must know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// The documented protocol.
    #[default]
    Ticket,
    /// The hub inside the backend as it ships today.
    Hub,
}

impl Dialect {
    pub const ALL: [Self; 2] = [Self::Ticket, Self::Hub];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Hub => "hub",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == text)
    }

    pub fn other(self) -> Self {
        match self {
            Self::Ticket => Self::Hub,
            Self::Hub => Self::Ticket,
        }
    }

    /// How many Pings the daemon sends for each heartbeat. The hub wants a heartbeat only every 30 s.
    pub(super) fn pings_per_heartbeat(self) -> u32 {
        match self {
            Self::Ticket => 1,
            Self::Hub => 3,
        }
    }

    /// Whether the agent registers after each outcome. The hub hands out waiting work only when the agent registers.
    pub(super) fn registers_after_outcome(self) -> bool {
        self == Self::Hub
    }

    /// Whether each failure ends the ticket for good. For the hub it does, even if the failure is retryable.
    pub(super) fn failures_are_final(self) -> bool {
        self == Self::Hub
    }

    /// Whether the backend may get an outcome twice. The hub may not: it would start a second QA job.
    pub(super) fn takes_outcomes_twice(self) -> bool {
        self == Self::Ticket
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Register(Register),
    Heartbeat(Heartbeat),
    /// The ticket, the attempt and the time of the claim.
    Claim(TicketId, u32, SystemTime),
    /// The ticket, the attempt, the number of the report and the report.
    Progress(TicketId, u32, u64, Progress),
    Outcome(TicketId, u32, Arc<Outcome>),
}

impl Message {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::Heartbeat(_) => "heartbeat",
            Self::Claim(..) => "claim",
            Self::Progress(..) => "progress",
            Self::Outcome(..) => "outcome",
        }
    }

    /// The ticket and the attempt that the message is about.
    pub fn ticket(&self) -> Option<(&TicketId, u32)> {
        match self {
            Self::Register(_) | Self::Heartbeat(_) => None,
            Self::Claim(id, attempt, _)
            | Self::Progress(id, attempt, ..)
            | Self::Outcome(id, attempt, _) => Some((id, *attempt)),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Register {
    pub roles: Vec<Role>,
    pub repos: Vec<Repo>,
    pub cli: CliState,
    pub capacity: Capacity,
    pub active: Vec<ActiveTicket>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    pub at: SystemTime,
    pub active: Vec<TicketId>,
    pub capacity: Capacity,
    pub status: Status,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CliState {
    /// The CLI's name in messages.
    pub name: String,
    pub version: Option<String>,
    /// Why the CLI cannot run. `None`: it can.
    pub unavailable: Option<Unavailable>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    NotFound,
    /// The quota of the CLI's subscription is used up.
    QuotaExceeded {
        /// When the quota is back, if the CLI said so.
        available_at: Option<SystemTime>,
    },
}

impl Unavailable {
    /// The reason's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::QuotaExceeded { .. } => "quota_exceeded",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub max: usize,
    pub free: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ready,
    Draining,
    /// No CLI can run.
    Degraded,
}

shown_by_name!(Status);

/// The daemon's state as people and service managers see it. No decision depends on the view.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub link: Link,
    pub dialect: Dialect,
    pub status: Status,
    pub cli: CliState,
    pub quota: Quota,
    pub capacity: Capacity,
    /// The running tickets, then the waiting ones.
    pub active: Vec<ActiveTicket>,
    /// The number of outcomes that the backend may not have yet.
    pub undelivered: usize,
}

/// The connection to the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub is_up: bool,
    /// When the connection was opened or lost.
    pub since: SystemTime,
    /// Why there is no connection. `None`: the first attempt to connect has not ended yet.
    pub why: Option<String>,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub level: Level,
    pub kind: NoticeKind,
    /// The ticket and the attempt that the line is about.
    pub ticket: Option<(TicketId, u32)>,
    /// The run, if the log should show its folder.
    pub run: Option<RunId>,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// What has happened. The log shows it as the field `event`; at a terminal, as a sign in front of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    Other,
    Connected,
    Disconnected,
    Claimed,
    Done,
    Failed,
    Refused,
}

shown_by_name!(NoticeKind);

impl Notice {
    pub(super) fn new(level: Level, kind: NoticeKind, text: impl Into<String>) -> Self {
        Self {
            level,
            kind,
            ticket: None,
            run: None,
            text: text.into(),
        }
    }

    pub(super) fn about(mut self, id: &TicketId, attempt: u32) -> Self {
        self.ticket = Some((id.clone(), attempt));
        self
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((id, attempt)) = &self.ticket {
            write!(f, "ticket {id} (attempt {attempt}): ")?;
        }
        f.write_str(&self.text)
    }
}
