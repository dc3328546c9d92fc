//! What the daemon tells others: messages for the backend, before a dialect encodes them (docs/protocol.md section 3),
//! notices for the log, and a view of its state for people and service managers.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::quota::Quota;
use super::repos::Repo;
use super::text::shown_by_name;
use super::ticket::{ActiveTicket, Outcome, Progress, Role, RunId, TicketId};

/// The dialects of the protocol, and the differences that policy must know (docs/protocol.md section 8).
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

    /// The number of Pings for each heartbeat: the hub wants a heartbeat every 30 s only.
    pub(super) fn pings_per_heartbeat(self) -> u32 {
        match self {
            Self::Ticket => 1,
            Self::Hub => 3,
        }
    }

    /// The hub hands out waiting work only when the agent registers.
    pub(super) fn registers_after_outcome(self) -> bool {
        self == Self::Hub
    }

    /// For the hub a failure ends a ticket, even a retryable one.
    pub(super) fn failures_are_final(self) -> bool {
        self == Self::Hub
    }

    /// The hub starts a second QA job for an outcome that it gets twice.
    pub(super) fn takes_outcomes_twice(self) -> bool {
        self == Self::Ticket
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Register(Register),
    Heartbeat(Heartbeat),
    /// With the time of the claim.
    Claim(TicketId, u32, SystemTime),
    /// With the number of the report.
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
    /// Its name on the wire.
    pub name: String,
    pub version: Option<String>,
    /// `None`: it can run.
    pub unavailable: Option<Unavailable>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    NotFound,
    /// The subscription is used up.
    QuotaExceeded {
        /// The time that the CLI named, if it named one.
        available_at: Option<SystemTime>,
    },
}

impl Unavailable {
    /// Its name on the wire.
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

/// The state of the daemon as a person or a service manager sees it. Policy does not depend on it.
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
    /// Since when it is up or down.
    pub since: SystemTime,
    /// Why it is down. `None`: the first attempt is under way.
    pub why: Option<String>,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub level: Level,
    pub kind: NoticeKind,
    /// The ticket and the attempt that it is about.
    pub ticket: Option<(TicketId, u32)>,
    /// The run, if its folder is of interest.
    pub run: Option<RunId>,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// What has happened: the log's field `event`, and the sign in front of the line at a terminal.
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
