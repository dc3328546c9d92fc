//! All policy: which tickets to claim, refuse, start and stop, what to send and to send again, when to connect and when
//! to end.
//!
//! A [`Session`] takes an event and the time, and returns actions. One session serves all connections, one after the
//! other. It reads no clock and does no I/O, so a test can invent events and times. Its parts are `tickets` (from
//! assignment to outcome), `backend` (connection, messages, view) and `ending` (from stop to exit).
//!
//! # A ticket's life
//!
//! ```text
//!  ticket.assigned
//!        │ check ──────────────────────► refused: ticket.fail, nothing is stored
//!        ▼                                  ▲
//!    accepting ─── cannot be stored ────────┘
//!        │ stored on disk; ticket.claim
//!        ▼
//!     waiting ──── cancel, stop, quota used up ─────┐
//!        │ a slot and the work tree are free        │
//!        ▼                                          │
//!     running ──── the run ended ──────────────────►┤
//!        │ cancel, stop                             │
//!        ▼                                          ▼
//!    stopping ──── ended, or given up ──────────► ended: the outcome is stored on disk
//!                                                   ▼
//!        ┌──── assigned again ──────────────────► outbox: ticket.result or ticket.fail, then a Ping
//!        │                                          │ Pong or ticket.ack
//!    delivered ◄────────────────────────────────────┘
//! ```
//!
//! If the backend assigns a ticket again while it waits or runs, the session claims it again, and the ticket keeps its
//! state. After a restart of the daemon, waiting tickets still wait, outcomes in the outbox are still there, and
//! tickets that were running have ended. With the hub, a stop or a used-up quota does not end waiting tickets.

mod backend;
mod ending;
mod tickets;

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::Now;
use super::event::{Action, DaemonEnd, Effect, Event, Goodbye, JobEvent, Record, Setback};
use super::liveness::{DEAD_AFTER, Due, Liveness};
use super::message::{
    CliState, Dialect, Level, Link, Message, Notice, NoticeKind, Unavailable, View,
};
use super::outbox::{Delivered, Entry, Outbox};
use super::queue::Queue;
use super::quota::Quota;
use super::repos::Repos;
use super::ticket::{Job, Role, RunId};

/// The time between two searches for a missing CLI. Someone may install or mount it at any time.
const LOOK_FOR_CLI_EVERY: Duration = Duration::from_secs(60);

/// The settings that policy needs.
#[derive(Debug, Clone)]
pub struct Policy {
    pub repos: Repos,
    /// The roles that this agent takes, each with its time limit.
    pub roles: Vec<(Role, Duration)>,
    pub max_concurrent: usize,
    /// The time between SIGTERM and SIGKILL when a run is stopped.
    pub grace: Duration,
    /// How long runs may go on after the order to stop the daemon.
    pub drain: Duration,
    pub cli: CliState,
    /// Run ids and jitter come from this seed. Two daemons must not have the same seed.
    pub seed: u64,
}

/// The state that an earlier process left on disk.
#[derive(Debug, Default)]
pub struct SavedState {
    pub delivered: Vec<Delivered>,
    pub ended: Vec<Entry>,
    pub waiting: Vec<(Box<Job>, SystemTime)>,
    pub quota: Quota,
    pub dialect: Dialect,
}

#[derive(Debug)]
pub struct Session {
    policy: Policy,
    rng: SmallRng,
    liveness: Liveness,
    queue: Queue,
    outbox: Outbox,
    /// Accepted tickets that are being stored on disk.
    accepting: Vec<Job>,
    /// The number of the last Ping. It is never reset, so a late Pong cannot answer a Ping of a newer connection.
    pings: u64,
    ending: Option<Ending>,
    quota: Quota,
    /// The runs whose delivered outcomes must be sent again. To save memory, one at a time is read from disk.
    recalls: VecDeque<RunId>,
    /// The dialect of the last connection.
    dialect: Dialect,
    /// The number of Pings sent by [`beat`](Self::beat) on this connection.
    beats: u32,
    /// When to look for the CLI again. `None`: it is not missing.
    look_for_cli_at: Option<Instant>,
    /// The time of the latest event.
    now: Now,
    link: Link,
    /// The view in the last [`Effect::Show`].
    shown: Option<Box<View>>,
    /// The actions that follow from the current event, as far as they are known.
    actions: Vec<Action>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopStage {
    /// Runs may end by themselves.
    Draining,
    /// The runs have the order to end.
    Stopping,
    /// All runs have ended. The daemon waits until their outcomes are confirmed.
    Flushing,
    Done,
}

/// How far the daemon is between the order to stop and its exit.
#[derive(Debug)]
struct Ending {
    end: DaemonEnd,
    stage: StopStage,
    /// The latest time at which the stage ends.
    until: Instant,
}

impl Session {
    pub fn new(policy: Policy, now: Now) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(policy.seed),
            liveness: Liveness::new(now.mono),
            queue: Queue::new(policy.max_concurrent),
            outbox: Outbox::default(),
            accepting: Vec::new(),
            pings: 0,
            ending: None,
            quota: Quota::default(),
            recalls: VecDeque::new(),
            dialect: Dialect::default(),
            beats: 0,
            look_for_cli_at: None,
            now,
            link: Link {
                is_up: false,
                since: now.wall,
                why: None,
            },
            shown: None,
            actions: Vec::new(),
            policy,
        }
    }

    /// Takes over the state that an earlier process left. Call this before the first event.
    pub fn restore(&mut self, saved: SavedState, now: Now) -> Vec<Action> {
        self.now = now;
        self.quota = saved.quota;
        self.dialect = saved.dialect;
        if self.quota.end_wait(now.wall) {
            self.on_quota_back();
        }
        for delivered in saved.delivered {
            self.outbox.remember(delivered);
        }
        for entry in saved.ended {
            self.outbox.push(entry);
        }
        for (job, claimed_at) in saved.waiting {
            self.restore_waiting(job, claimed_at);
        }
        self.advance();
        std::mem::take(&mut self.actions)
    }

    /// Takes one event. Returns the actions that follow from it, in the order in which to carry them out.
    pub fn on(&mut self, now: Now, event: Event) -> Vec<Action> {
        let ending = self.ending.as_ref();
        if ending.is_some_and(|ending| ending.stage == StopStage::Done) {
            return Vec::new();
        }
        let last = std::mem::replace(&mut self.now, now);
        if has_slept(last, now) {
            self.on_wake();
        }
        // The wait must end before the event: the event may be a ticket. The agent registers again after the event: the
        // event may be the loss of the connection.
        let quota_is_back = self.quota.end_wait(now.wall);
        match event {
            Event::Connected(dialect) => self.on_connected(dialect),
            Event::Disconnected(setback) => self.on_disconnected(setback),
            Event::Heard => self.liveness.note_heard(now.mono),
            Event::Tick => {}
            // The Pong proves nothing if no Ping had its number yet.
            Event::Pong(fence) if fence <= self.pings => {
                let delivered = self.outbox.confirm_up_to(fence);
                self.keep_delivered(delivered);
            }
            Event::Pong(_) => {}
            Event::Backend(order) => self.on_order(order),
            Event::Job(run, JobEvent::Progress(progress)) => self.on_progress(run, progress),
            Event::Job(run, JobEvent::Finished(outcome)) => self.on_finished(run, outcome),
            Event::Kept(run, kept) => self.on_kept(run, kept),
            Event::Recalled(run, entry) => self.on_recalled(run, entry),
            Event::Cli(state) => self.on_cli(state),
            Event::Stop => self.end(DaemonEnd::Asked),
        }
        if quota_is_back {
            self.on_quota_back();
        }
        self.advance();
        std::mem::take(&mut self.actions)
    }

    /// When the session needs an [`Event::Tick`], unless another event comes first.
    pub fn deadline(&self) -> Option<Instant> {
        let ending = self.ending.as_ref().map(|ending| ending.until);
        // The quota is back at a time of day, but the deadline is on the monotonic clock. Each event converts the time
        // again, because someone may set the time of day.
        let quota = self.quota.until.and_then(|until| {
            let left = until.duration_since(self.now.wall).unwrap_or_default();
            self.now.mono.checked_add(left)
        });
        let connection = self.liveness.deadline();
        let cli = self.look_for_cli_at;
        let deadlines = [connection, ending, cli, quota];
        deadlines.into_iter().flatten().min()
    }

    /// Does what follows from the state and the time. It is the same for every event.
    fn advance(&mut self) {
        while let Some(due) = self.liveness.take_due(self.now.mono) {
            match due {
                Due::Dial => self.actions.push(Action::Dial),
                Due::Heartbeat => self.beat(),
                Due::Dead => {
                    self.actions.push(Action::Disconnect(Goodbye::Dead));
                    let why = format!("no frame for {} s", DEAD_AFTER.as_secs());
                    self.on_disconnected(Setback::Failed(why));
                }
            }
        }
        self.withdraw_for_quota();
        // No run starts before the first attempt to connect: until then the daemon does not know if it is offline.
        if self.ending.is_none() && self.liveness.is_tried && !self.quota.is_exceeded() {
            let offline = !self.liveness.is_connected();
            while let Some((slot, job)) = self.queue.start_next(self.now.wall) {
                self.effect(Effect::Start { slot, job, offline });
            }
        }
        self.look_for_cli();
        self.send_outcomes();
        if self.outbox.has_room()
            && let Some(run) = self.recalls.pop_front()
        {
            self.effect(Effect::Recall(run));
        }
        self.show();
        self.advance_ending();
    }

    /// Notes the CLI's state. If `state` has no version, the known version stays: the daemon learns it later than the
    /// fact that the CLI is there.
    fn on_cli(&mut self, mut state: CliState) {
        let before = &self.policy.cli;
        state.version = state.version.or_else(|| before.version.clone());
        if *before == state {
            return;
        }
        match (state.unavailable, before.unavailable, &state.version) {
            (Some(_), ..) => self.warn("CLI not found: no tickets are taken until it is installed"),
            (None, Some(_), _) => self.warn("the CLI was found again"),
            (None, None, Some(version)) => self.info(format!("the CLI's version is {version}")),
            (None, None, None) => {}
        }
        self.policy.cli = state;
        self.register_again();
    }

    /// Looks for a missing CLI every minute. The answer is [`Event::Cli`].
    fn look_for_cli(&mut self) {
        if self.policy.cli.unavailable != Some(Unavailable::NotFound) {
            self.look_for_cli_at = None;
            return;
        }
        let is_due = self.look_for_cli_at.is_some_and(|at| at <= self.now.mono);
        if is_due || self.look_for_cli_at.is_none() {
            self.look_for_cli_at = Some(self.now.mono + LOOK_FOR_CLI_EVERY);
        }
        if is_due {
            self.effect(Effect::LookForCli);
        }
    }

    fn on_quota_back(&mut self) {
        self.keep(Record::Quota(self.quota));
        self.info("the CLI's quota should be back");
        self.register_again();
    }

    fn keep_delivered(&mut self, runs: Vec<RunId>) {
        for run in runs {
            self.keep(Record::Delivered(run));
        }
    }

    fn effect(&mut self, effect: Effect) {
        self.actions.push(Action::Effect(effect));
    }

    fn keep(&mut self, record: Record) {
        self.effect(Effect::Keep(record));
    }

    fn send(&mut self, message: Message) {
        self.actions.push(Action::Send(message));
    }

    fn log(&mut self, notice: Notice) {
        self.actions.push(Action::Log(notice));
    }

    fn info(&mut self, text: impl Into<String>) {
        self.log(Notice::new(Level::Info, NoticeKind::Other, text));
    }

    fn warn(&mut self, text: impl Into<String>) {
        self.log(Notice::new(Level::Warn, NoticeKind::Other, text));
    }
}

/// Whether the machine has slept. Only the wall clock moves during sleep, so it has moved further than the monotonic
/// clock. A wall clock that was set forward looks the same: then the daemon tests the connection once for nothing.
fn has_slept(last: Now, now: Now) -> bool {
    const NOTICEABLE: Duration = Duration::from_secs(5);
    let wall = now.wall.duration_since(last.wall).unwrap_or_default();
    wall > now.mono.saturating_duration_since(last.mono) + NOTICEABLE
}
