//! What the daemon is doing, as a person or a service manager sees it. Nothing is decided by it.

use std::time::SystemTime;

use super::dialect::Dialect;
use super::event::{CliState, Progress};
use super::message::{Capacity, Status};
use super::quota::Quota;
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
    /// The latest report.
    pub progress: Option<Progress>,
}
