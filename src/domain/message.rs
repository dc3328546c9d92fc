//! What the daemon says to the backend, before any dialect puts it into a frame (docs/protocol.md section 3).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::event::{CliState, Progress};
use super::repos::Repo;
use super::ticket::{Outcome, Role, TicketId};

#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Register(Register),
    Heartbeat(Heartbeat),
    Claim {
        id: TicketId,
        attempt: u32,
        at: SystemTime,
    },
    Progress {
        id: TicketId,
        attempt: u32,
        seq: u64,
        progress: Progress,
    },
    Outcome {
        id: TicketId,
        attempt: u32,
        outcome: Arc<Outcome>,
    },
}

impl Message {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::Heartbeat(_) => "heartbeat",
            Self::Claim { .. } => "claim",
            Self::Progress { .. } => "progress",
            Self::Outcome { .. } => "outcome",
        }
    }

    /// The ticket that it is about, and under which attempt.
    pub fn ticket(&self) -> Option<(&TicketId, u32)> {
        match self {
            Self::Register(_) | Self::Heartbeat(_) => None,
            Self::Claim { id, attempt, .. }
            | Self::Progress { id, attempt, .. }
            | Self::Outcome { id, attempt, .. } => Some((id, *attempt)),
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

impl Register {
    pub fn repo_paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.repos.iter().map(|repo| &repo.path)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    pub at: SystemTime,
    pub active: Vec<TicketId>,
    pub capacity: Capacity,
    pub status: Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    pub max: usize,
    pub free: usize,
}

/// Claimed and not yet finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveTicket {
    pub id: TicketId,
    pub attempt: u32,
    pub started_at: SystemTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ready,
    Draining,
    /// Connected, but there is no CLI that could run.
    Degraded,
}

impl Status {
    /// As it is called on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Degraded => "degraded",
        }
    }
}
