//! What the session is told ([`Event`]) and what it wants done ([`Action`]).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::message::{CliState, Dialect, Message, Notice, View};
use super::outbox::Entry;
use super::quota::Quota;
use super::ticket::{Job, Outcome, Progress, RunId, StopReason, Ticket, TicketId};

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A connection is open and authenticated.
    Connected(Dialect),
    /// An attempt to connect has failed, or the connection is gone.
    Disconnected(Setback),
    /// The peer shows life: bytes arrived, or bytes that were waiting left.
    Heard,
    /// The answer to the Ping with that number.
    Pong(u64),
    Backend(Order),
    Job(RunId, JobEvent),
    /// Whether a [`Record::Ticket`] is on disk.
    Kept(RunId, Result<(), String>),
    /// The answer to [`Effect::Recall`]: the outcome, if it is still on disk.
    Recalled(RunId, Option<Entry>),
    /// The CLI's state, which may have changed.
    Cli(CliState),
    /// The operator wants the daemon to end.
    Stop,
    /// The deadline has passed.
    Tick,
}

/// A message of the backend.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    Assigned(Box<Ticket>),
    /// With the reason.
    Cancel(TicketId, String),
    /// Without an attempt, any attempt is meant.
    Ack(TicketId, Option<u32>),
    /// With the time after which to connect again.
    ServerShutdown(Duration),
    /// An assignment that names its ticket and attempt and cannot be used, and why.
    Unusable(TicketId, u32, String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum JobEvent {
    Progress(Progress),
    /// The last event of a run. Each [`Effect::Start`] brings exactly one.
    Finished(Arc<Outcome>),
}

/// Why there is no connection (docs/protocol.md section 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setback {
    /// The network or the backend failed: try again.
    Failed(String),
    /// The backend named a time to come back.
    Wait { why: String, at_least: Duration },
    /// The token was refused: further attempts are pointless.
    TokenRejected(String),
    /// The backend does not speak this version of the protocol.
    VersionRefused(String),
}

/// What the event loop does itself, and the effects that it passes on.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Dial,
    Disconnect(Goodbye),
    Send(Message),
    Ping(u64),
    Log(Notice),
    Effect(Effect),
    /// The last action.
    Exit(DaemonEnd),
}

/// Work for the workers, the state folder and those who watch the daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Start {
        slot: usize,
        job: Box<Job>,
        /// The backend cannot be reached; perhaps the whole network.
        offline: bool,
    },
    /// Stop that run in that slot.
    Stop(usize, RunId, StopReason),
    /// To be on disk before the next action is carried out.
    Keep(Record),
    /// Read that run's outcome from disk. The answer is [`Event::Recalled`].
    Recall(RunId),
    /// The answer is [`Event::Cli`].
    LookForCli,
    /// The view has changed. At most one for each event.
    Show(Box<View>),
}

/// What must survive the end of the process.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Before its claim. The answer is [`Event::Kept`]: a ticket that cannot be stored is not claimed.
    /// With the time of the claim.
    Ticket(Box<Job>, SystemTime),
    /// Before the claim under a newer attempt.
    Attempt(RunId, u32),
    /// Before it is first sent. An outcome that cannot be stored is sent all the same.
    Outcome(Entry),
    Delivered(RunId),
    Quota(Quota),
    /// The next start tries this dialect first.
    Dialect(Dialect),
}

/// Why the daemon closes the connection (RFC 6455 section 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// The daemon stops: 1001.
    GoingAway,
    /// The backend asked for it: 1000.
    Normal,
    /// The peer is silent, so no close frame is sent.
    Dead,
}

/// Why the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonEnd {
    Asked,
    TokenRejected,
    VersionRefused,
}
