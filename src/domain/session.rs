//! All policy: which tickets are claimed, refused, started and stopped, what is sent and sent again, when to connect
//! and when to end.
//!
//! A [`Session`] takes events and the time and returns actions. It outlives connections. It reads no clock and does no
//! I/O, so that each rule is tested with invented events and times. Its parts: `tickets` (from assignment to outcome),
//! `backend` (connection, messages, view), `ending` (from stop to exit).
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
//! A ticket that is assigned again while it waits or runs is claimed again and stays where it is. After a restart of
//! the daemon, what was waiting waits, what was in the outbox is in the outbox, and what was running has ended. With
//! the hub, a stop or a used-up quota leaves waiting tickets where they are.

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

/// A missing CLI may be installed or mounted at any time.
const LOOK_FOR_CLI_EVERY: Duration = Duration::from_secs(60);

/// The settings that policy needs.
#[derive(Debug, Clone)]
pub struct Policy {
    pub repos: Repos,
    /// Each role that may be claimed, with its time limit.
    pub roles: Vec<(Role, Duration)>,
    pub max_concurrent: usize,
    /// The time between TERM and KILL.
    pub grace: Duration,
    /// How long runs may go on after the daemon is told to stop.
    pub drain: Duration,
    pub cli: CliState,
    /// Makes run ids and jitter. Two daemons must not have the same.
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
    /// The number of the last Ping. It is never reset, so that a late Pong cannot answer a Ping of a newer connection.
    pings: u64,
    ending: Option<Ending>,
    quota: Quota,
    /// Delivered outcomes to send once more. They are read from disk one at a time to save memory.
    recalls: VecDeque<RunId>,
    /// The dialect of the last connection.
    dialect: Dialect,
    /// The number of Pings sent by [`beat`](Self::beat) on this connection.
    beats: u32,
    /// When to look for a missing CLI next.
    look_for_cli_at: Option<Instant>,
    /// The time of the latest event.
    now: Now,
    link: Link,
    /// The view that was shown last.
    shown: Option<Box<View>>,
    /// What the current event has brought about so far.
    actions: Vec<Action>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopStage {
    /// Runs may end by themselves.
    Draining,
    /// Runs were told to end.
    Stopping,
    /// All runs have ended; their outcomes are being sent.
    Flushing,
    Done,
}

/// The way from the order to stop to the exit.
#[derive(Debug)]
struct Ending {
    end: DaemonEnd,
    stage: StopStage,
    /// When the stage ends at the latest.
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

    /// Takes over what an earlier process left. To be called before the first event.
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

    /// Takes one event and returns what to do, in this order.
    pub fn on(&mut self, now: Now, event: Event) -> Vec<Action> {
        let ending = self.ending.as_ref();
        if ending.is_some_and(|ending| ending.stage == StopStage::Done) {
            return Vec::new();
        }
        let last = std::mem::replace(&mut self.now, now);
        if has_slept(last, now) {
            self.on_wake();
        }
        // Before the event, which may be a ticket. The register follows the event, which may be a lost connection.
        let quota_is_back = self.quota.end_wait(now.wall);
        match event {
            Event::Connected(dialect) => self.on_connected(dialect),
            Event::Disconnected(setback) => self.on_disconnected(setback),
            Event::Heard => self.liveness.note_heard(now.mono),
            Event::Tick => {}
            // A number that no Ping had yet proves nothing.
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

    /// When [`Event::Tick`] is due, unless another event comes first.
    pub fn deadline(&self) -> Option<Instant> {
        let ending = self.ending.as_ref().map(|ending| ending.until);
        // The end of the quota's wait is a time of day. Each event moves it on the other clock, in case the clock is set.
        let quota = self.quota.until.and_then(|until| {
            let left = until.duration_since(self.now.wall).unwrap_or_default();
            self.now.mono.checked_add(left)
        });
        let connection = self.liveness.deadline();
        let cli = self.look_for_cli_at;
        let deadlines = [connection, ending, cli, quota];
        deadlines.into_iter().flatten().min()
    }

    /// Does everything that follows from the state and the time, whatever the event was.
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
        // Whether the backend can be reached is unknown before the first attempt.
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

    /// The version arrives later than the news that the CLI is there, so a missing version changes nothing.
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

/// Whether the wall clock has moved further than the monotonic clock, which stops while the machine sleeps. A clock
/// that was set looks the same; then the connection is tested once for nothing.
fn has_slept(last: Now, now: Now) -> bool {
    const NOTICEABLE: Duration = Duration::from_secs(5);
    let wall = now.wall.duration_since(last.wall).unwrap_or_default();
    wall > now.mono.saturating_duration_since(last.mono) + NOTICEABLE
}
