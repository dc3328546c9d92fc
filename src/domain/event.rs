//! What the session hears and what it asks for: the only words between policy and the rest.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::dialect::Dialect;
use super::message::Message;
use super::notice::Notice;
use super::outbox::Entry;
use super::quota::Quota;
use super::ticket::{Job, Outcome, RunId, StopReason, Ticket, TicketId};
use super::view::View;

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A connection is open and authenticated.
    Connected(Dialect),
    /// An attempt to connect has failed, or the connection is gone.
    Disconnected(Setback),
    /// The peer shows life: bytes arrived, or it took some that were waiting.
    Heard,
    /// The answer to the Ping of that number.
    Pong(u64),
    Backend(Order),
    Job(RunId, JobEvent),
    /// What became of a [`Record::Ticket`].
    Kept(RunId, Result<(), String>),
    /// The answer to [`Action::Recall`]: what is on disk.
    Recalled(RunId, Option<Entry>),
    /// What is known of the CLI has changed.
    Cli(CliState),
    /// The operator wants the daemon to end.
    Stop,
    /// The deadline has passed.
    Tick,
}

/// What the backend wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    Assigned(Box<Ticket>),
    Cancel {
        id: TicketId,
        reason: String,
    },
    Ack {
        id: TicketId,
        attempt: Option<u32>,
    },
    ServerShutdown {
        reconnect_after: Duration,
    },
    /// An assignment that cannot be used, of a ticket that can be named.
    Unusable {
        id: TicketId,
        attempt: u32,
        why: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum JobEvent {
    Progress(Progress),
    /// Exactly one for each [`Action::Start`], and the last.
    Finished(Arc<Outcome>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub phase: Phase,
    pub elapsed: Duration,
    pub stdout_bytes: u64,
    pub lines: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Preparing,
    Running,
    Collecting,
}

impl Phase {
    /// As it is called on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Collecting => "collecting",
        }
    }
}

/// Why there is no connection, as far as it makes a difference (docs/protocol.md section 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setback {
    /// The network or the backend failed: try again.
    Failed(String),
    /// The backend said when to come back.
    Wait { why: String, at_least: Duration },
    /// The token was refused: no further try can help.
    TokenRejected(String),
    /// The backend does not speak this version of the protocol.
    VersionRefused(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CliState {
    /// The subscription's name on the wire.
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
        /// Where the CLI said so.
        available_at: Option<SystemTime>,
    },
}

impl Unavailable {
    /// As it is called on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::QuotaExceeded { .. } => "quota_exceeded",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Dial,
    Disconnect(Goodbye),
    Send(Message),
    Ping(u64),
    /// To be on disk before the next action is carried out.
    Keep(Record),
    Start {
        slot: usize,
        job: Box<Job>,
        /// The backend cannot be reached, which a CLI that needs the network may well share.
        offline: bool,
    },
    Stop {
        slot: usize,
        run: RunId,
        reason: StopReason,
    },
    /// To be answered by [`Event::Recalled`]: the outcome of that run is wanted once more.
    Recall(RunId),
    /// To be answered by [`Event::Cli`].
    LookForCli,
    Log(Notice),
    /// What can be seen from outside has changed. At most one for each event.
    Show(Box<View>),
    /// The last action there is.
    Exit(Exit),
}

/// What has to survive the daemon's own end.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Before its claim. Answered by [`Event::Kept`]: a ticket that cannot be kept is not claimed.
    Ticket {
        job: Box<Job>,
        claimed_at: SystemTime,
    },
    /// Before the claim under a newer attempt.
    Attempt {
        run: RunId,
        attempt: u32,
    },
    /// Before it is first sent. One that cannot be kept is sent all the same.
    Outcome(Entry),
    Delivered(RunId),
    Quota(Quota),
    /// What the backend speaks: the next start tries that first.
    Dialect(Dialect),
}

/// Why the daemon closes the connection by itself; the names of RFC 6455 section 7.4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// The daemon stops: 1001.
    GoingAway,
    /// The backend asked for it: 1000.
    Normal,
    /// The peer is silent; nothing is said to it.
    Dead,
}

/// How the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Asked,
    TokenRejected,
    VersionRefused,
}
