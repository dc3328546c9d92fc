//! What the daemon is doing, as a person or a service manager sees it. Nothing is decided by it.

use std::time::{Duration, SystemTime};

use super::dialect::Dialect;
use super::event::{CliState, Phase, Progress};
use super::message::{Capacity, Status};
use super::quota::Quota;
use super::text::one_line;
use super::ticket::{RunId, TicketId};

#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub link: Link,
    pub dialect: Dialect,
    pub status: Status,
    pub cli: CliState,
    pub quota: Quota,
    pub capacity: Capacity,
    /// Claimed and not ended, those that run first.
    pub active: Vec<Active>,
    /// Outcomes that the backend may not have yet.
    pub undelivered: usize,
}

/// The connection to the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    Up {
        since: SystemTime,
    },
    Down {
        since: SystemTime,
        /// `None`: the first attempt is under way.
        why: Option<String>,
    },
}

impl Link {
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }

    pub fn since(&self) -> SystemTime {
        match self {
            Self::Up { since } | Self::Down { since, .. } => *since,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    pub run: RunId,
    pub id: TicketId,
    pub attempt: u32,
    /// `None`: it waits for a slot or its work tree.
    pub started_at: Option<SystemTime>,
    /// As its latest report has it.
    pub doing: Option<Doing>,
}

/// A report in short: there may be many, and each line of one long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doing {
    pub phase: Phase,
    pub elapsed: Duration,
    pub stdout_bytes: u64,
    /// The last that it said.
    pub says: Option<String>,
}

impl Doing {
    /// What it said last stays where a report has nothing new.
    pub fn after(before: Option<&Self>, progress: &Progress) -> Self {
        const SAYS_MAX: usize = 200;
        let Progress {
            phase,
            elapsed,
            stdout_bytes,
            lines,
        } = progress;
        let said = lines.last().map(|line| one_line(line, SAYS_MAX));
        let says = said.or_else(|| before?.says.clone());
        Self {
            phase: *phase,
            elapsed: *elapsed,
            stdout_bytes: *stdout_bytes,
            says,
        }
    }

    /// In a few words.
    pub fn in_words(&self) -> &str {
        match (self.phase, &self.says) {
            (Phase::Preparing, _) => "preparing",
            (Phase::Running, Some(says)) => says,
            (Phase::Running, None) => "running",
            (Phase::Collecting, _) => "taking the diff",
        }
    }
}
