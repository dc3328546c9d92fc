//! The session's side of the connection: connect, disconnect, what to send, and the view for `wf0-agent status`.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use super::Session;
use crate::domain::event::{Action, DaemonEnd, Effect, Goodbye, Record, Setback};
use crate::domain::message::{
    Capacity, CliState, Dialect, Heartbeat, Level, Message, Notice, NoticeKind, Register, Status,
    Unavailable, View,
};
use crate::domain::ticket::{Outcome, TicketId};

impl Session {
    /// After the machine slept, the connection may be dead without notice, and the wait for the next try may be over.
    pub(super) fn on_wake(&mut self) {
        self.info("the machine was asleep; testing the connection");
        self.liveness.wake(self.now.mono);
        // A heartbeat at once: the backend may have given up on a silent agent.
        self.beats = 0;
        self.beat();
    }

    pub(super) fn on_connected(&mut self, dialect: Dialect) {
        if dialect != std::mem::replace(&mut self.dialect, dialect) {
            self.keep(Record::Dialect(dialect));
        }
        self.beats = 0;
        self.liveness.connect(self.now.mono);
        self.set_link(None);
        self.outbox.rewind();
        self.send(Message::Register(self.register()));
        let line = "connected and registered";
        self.log(Notice::new(Level::Info, NoticeKind::Connected, line));
    }

    pub(super) fn on_disconnected(&mut self, setback: Setback) {
        let (why, at_least) = match setback {
            Setback::Failed(why) => (why, Duration::ZERO),
            Setback::Wait { why, at_least } => (why, at_least),
            Setback::TokenRejected(why) => {
                let line = format!(
                    "the backend rejected the token ({why}): mint another in Settings → Agents → Create token"
                );
                return self.give_up(DaemonEnd::TokenRejected, line, "the token was rejected");
            }
            Setback::VersionRefused(why) => {
                let line = format!(
                    "the backend does not support this protocol version ({why}): update wf0-agent"
                );
                let why = "the protocol version was refused";
                return self.give_up(DaemonEnd::VersionRefused, line, why);
            }
        };
        let jitter = self.rng.random();
        if let Some(wait) = self.liveness.lose(self.now.mono, at_least, jitter) {
            let seconds = wait.as_secs_f64();
            let line = format!("not connected ({why}); next try in {seconds:.1} s");
            self.log(Notice::new(Level::Warn, NoticeKind::Disconnected, line));
            self.set_link(Some(why));
        }
    }

    /// Ends the daemon, because no further attempt to connect can succeed.
    fn give_up(&mut self, end: DaemonEnd, line: String, why: &str) {
        self.log(Notice::new(Level::Error, NoticeKind::Disconnected, line));
        self.liveness.lose(self.now.mono, Duration::MAX, 1.0);
        self.set_link(Some(why.to_owned()));
        self.end(end);
    }

    /// Disconnects, because the backend restarts, and plans to connect again.
    pub(super) fn leave(&mut self, reconnect_after: Duration) {
        let jitter = self.rng.random();
        let wait = self.liveness.leave(self.now.mono, reconnect_after, jitter);
        self.actions.push(Action::Disconnect(Goodbye::Normal));
        let line = format!(
            "the backend restarts; next try in {:.1} s",
            wait.as_secs_f64()
        );
        self.log(Notice::new(Level::Info, NoticeKind::Disconnected, line));
        self.set_link(Some("the backend restarts".to_owned()));
    }

    /// `why`: the reason why the connection is down; `None`: it is up.
    fn set_link(&mut self, why: Option<String>) {
        let is_up = why.is_none();
        if is_up != self.link.is_up {
            self.link.since = self.now.wall;
        }
        self.link.is_up = is_up;
        self.link.why = why;
    }

    /// Sends a Ping, and a heartbeat if the dialect wants one with it.
    pub(super) fn beat(&mut self) {
        if !self.liveness.is_connected() {
            return;
        }
        let every = self.dialect.pings_per_heartbeat();
        if self.beats.is_multiple_of(every) {
            let active = self.queue.active().map(|active| active.id.clone());
            let heartbeat = Heartbeat {
                at: self.now.wall,
                active: active.collect(),
                capacity: self.capacity(),
                status: self.status(),
            };
            self.send(Message::Heartbeat(heartbeat));
        }
        self.beats = self.beats.wrapping_add(1);
        self.ping();
    }

    fn ping(&mut self) {
        self.pings += 1;
        self.actions.push(Action::Ping(self.pings));
    }

    /// Sends the outcomes that fit into the outbox's window. After each one it sends a Ping: the Pong proves that the
    /// outcome has arrived.
    pub(super) fn send_outcomes(&mut self) {
        while self.liveness.is_connected()
            && let Some(entry) = self.outbox.take_next(self.pings + 1)
        {
            self.send_outcome(entry.id, entry.attempt, entry.outcome);
            self.ping();
        }
    }

    pub(super) fn send_outcome(&mut self, id: TicketId, attempt: u32, outcome: Arc<Outcome>) {
        self.send(Message::Outcome(id, attempt, outcome));
        if self.dialect.registers_after_outcome() {
            self.register_again();
        }
    }

    /// Tells the backend that the agent's abilities have changed.
    pub(super) fn register_again(&mut self) {
        if self.liveness.is_connected() {
            self.send(Message::Register(self.register()));
        }
    }

    fn register(&self) -> Register {
        let cli = self.cli();
        let is_ready = cli.unavailable.is_none() && self.ending.is_none();
        let roles = self.policy.roles.iter().filter(|_| is_ready);
        Register {
            roles: roles.map(|(role, _)| role.clone()).collect(),
            repos: self.policy.repos.iter().cloned().collect(),
            cli,
            capacity: self.capacity(),
            active: self.queue.active().cloned().collect(),
        }
    }

    fn capacity(&self) -> Capacity {
        let free = match self.ending {
            Some(_) => 0,
            None => self.queue.free(),
        };
        let max = self.queue.max();
        Capacity { max, free }
    }

    /// Shows the view if it has changed.
    pub(super) fn show(&mut self) {
        let view = View {
            link: self.link.clone(),
            dialect: self.dialect,
            status: self.status(),
            cli: self.cli(),
            quota: self.quota,
            capacity: self.capacity(),
            active: self.queue.active().cloned().collect(),
            undelivered: self.outbox.len(),
        };
        if self.shown.as_deref() != Some(&view) {
            let view = Box::new(view);
            self.shown = Some(view.clone());
            self.effect(Effect::Show(view));
        }
    }

    fn status(&self) -> Status {
        match (&self.ending, self.cli().unavailable) {
            (Some(_), _) => Status::Draining,
            (None, Some(_)) => Status::Degraded,
            (None, None) => Status::Ready,
        }
    }

    /// The CLI's state. A CLI with a used-up quota is unavailable too.
    fn cli(&self) -> CliState {
        let mut cli = self.policy.cli.clone();
        if cli.unavailable.is_none() && self.quota.is_exceeded() {
            let available_at = self.quota.available_at();
            cli.unavailable = Some(Unavailable::QuotaExceeded { available_at });
        }
        cli
    }
}
