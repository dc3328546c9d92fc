//! The input of the session ([`Event`]) and its output ([`Action`]).

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
    /// The peer is alive: bytes arrived from it, or it took bytes that were waiting to be sent.
    Heard,
    /// The backend answered the Ping with this number.
    Pong(u64),
    Backend(Order),
    Job(RunId, JobEvent),
    /// The answer to [`Record::Ticket`]: it is on disk, or the error says why not.
    Kept(RunId, Result<(), String>),
    /// The answer to [`Effect::Recall`]: the outcome, if it is still on disk.
    Recalled(RunId, Option<Entry>),
    /// The state of the CLI. It may be the same as before.
    Cli(CliState),
    /// The operator wants the daemon to end.
    Stop,
    /// The session's deadline has passed.
    Tick,
}

/// A message of the backend.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    Assigned(Box<Ticket>),
    /// The text is the backend's reason.
    Cancel(TicketId, String),
    /// The backend has an outcome of this ticket: that of this attempt, or of any attempt if there is no number.
    Ack(TicketId, Option<u32>),
    /// The backend restarts. The daemon connects again after this time.
    ServerShutdown(Duration),
    /// An assignment that cannot be used, although its ticket and attempt are known. The text says why.
    Unusable(TicketId, u32, String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum JobEvent {
    Progress(Progress),
    /// The last event of a run. Each [`Effect::Start`] leads to exactly one.
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

/// An order to the event loop. It carries out all of them itself, except the effects: it passes these on.
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

/// An order that the event loop passes on: to a worker, to the state folder, or to those who watch the daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Start {
        slot: usize,
        job: Box<Job>,
        /// The daemon has no connection to the backend. Perhaps it has no network at all.
        offline: bool,
    },
    /// Stop this run in this slot.
    Stop(usize, RunId, StopReason),
    /// Write this to disk before the next action.
    Keep(Record),
    /// Read the outcome of this run from disk. The answer is [`Event::Recalled`].
    Recall(RunId),
    /// Check whether the CLI is installed. The answer is [`Event::Cli`].
    LookForCli,
    /// The view has changed. Each event causes at most one `Show`.
    Show(Box<View>),
}

/// What must survive the end of the process.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Stored before the claim, with the time of the claim. The answer is [`Event::Kept`]: the daemon does not claim a
    /// ticket that it cannot store.
    Ticket(Box<Job>, SystemTime),
    /// A newer attempt of a run. Stored before the claim under this attempt.
    Attempt(RunId, u32),
    /// Stored before the outcome is first sent. The daemon sends it even if it cannot store it.
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
    /// The backend asked the daemon to leave: 1000.
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
