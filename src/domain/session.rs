//! All policy: what to claim, refuse, start, cancel, send and resend, when to beat, when to reconnect, when to end.
//!
//! A [`Session`] is fed events and the time and gives back actions. It outlives connections. The parts of its
//! state that have rules of their own are files of their own: `queue`, `outbox`, `liveness`, `ending`, `quota`; what it tells of
//! itself is in `telling`.

mod telling;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Now;
use super::dialect::Dialect;
use super::ending::{Ending, Stage};
use super::event::{
    Action, CliState, Event, Exit, Goodbye, JobEvent, Order, Progress, Record, Setback, Unavailable,
};
use super::liveness::{Due, Liveness};
use super::message::Message;
use super::notice::{Kind, Notice};
use super::outbox::{Delivered, Ended, Entry, Outbox};
use super::queue::{Claimed, Queue};
use super::quota::Quota;
use super::repos::{Repo, Repos};
use super::text::one_line;
use super::ticket::{FailCode, Failure, Job, Outcome, Role, RunId, StopReason, Ticket, TicketId};
use super::view::{Doing, Link, View};

/// A CLI that is not there may be installed or mounted at any time.
const LOOK_FOR_CLI_EVERY: Duration = Duration::from_secs(60);

/// What the settings say, as far as policy needs it.
#[derive(Debug, Clone)]
pub struct Policy {
    pub repos: Repos,
    /// Each role that may be claimed, with its time limit.
    pub roles: Vec<(Role, Duration)>,
    pub max_concurrent: usize,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// How long runs may go on once the daemon is told to stop.
    pub drain: Duration,
    pub cli: CliState,
    /// Makes run ids and jitter; two daemons must not share one.
    pub seed: u64,
}

/// What an earlier process left.
#[derive(Debug, Default)]
pub struct Past {
    pub delivered: Vec<Delivered>,
    pub ended: Vec<Entry>,
    pub waiting: Vec<(Box<Job>, SystemTime)>,
    pub quota: Quota,
    pub dialect: Dialect,
}

#[derive(Debug)]
pub struct Session {
    policy: Policy,
    rng: fastrand::Rng,
    liveness: Liveness,
    queue: Queue,
    outbox: Outbox,
    /// Accepted, and on the way to the disk.
    accepting: Vec<Job>,
    /// The number of the last Ping. It goes on across connections, so that a Pong never names the wrong one.
    pings: u64,
    ending: Option<Ending>,
    quota: Quota,
    /// Delivered outcomes that are wanted once more; each takes memory, so they come one after the other.
    recalls: VecDeque<RunId>,
    /// What the backend spoke last.
    dialect: Dialect,
    /// Pings with which a heartbeat may go on this connection so far.
    beats: u32,
    /// When a missing CLI is looked for next.
    look_at: Option<Instant>,
    /// The time of the last event.
    last: Option<Now>,
    link: Link,
    /// What was shown last.
    shown: Option<Box<View>>,
}

type Actions = Vec<Action>;

impl Session {
    pub fn new(policy: Policy, now: Now) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(policy.seed),
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
            look_at: None,
            last: None,
            link: Link::Down {
                since: now.wall,
                why: None,
            },
            shown: None,
            policy,
        }
    }

    /// Takes over what an earlier process left, before anything else: outcomes that may not have arrived, tickets that
    /// had not started, and the delivered outcomes by which a repeated assignment is answered.
    pub fn take_over(&mut self, past: Past, now: Now) -> Vec<Action> {
        let mut out = Actions::new();
        self.last = Some(now);
        self.quota = past.quota;
        self.dialect = past.dialect;
        if self.quota.is_over(now.wall) {
            self.quota_back(&mut out);
        }
        past.delivered
            .into_iter()
            .for_each(|delivered| self.outbox.remember(delivered));
        past.ended
            .into_iter()
            .for_each(|entry| self.outbox.push(entry));
        for (job, claimed_at) in past.waiting {
            let line = Notice::info("claimed before the restart, still to be run");
            out.push(Action::Log(line.of(&job.ticket.id, job.ticket.attempt)));
            // What was allowed then may not be allowed now.
            if let Some(repo) = self.policy.repos.at(&job.repo.path) {
                let repo = repo.for_branch(job.ticket.branch.as_ref());
                self.queue.push(Box::new(Job { repo, ..*job }), claimed_at);
            } else {
                let Job {
                    run,
                    ticket: Ticket { id, attempt, .. },
                    ..
                } = *job;
                let failure = Failure::new(
                    FailCode::RepoNotAllowed,
                    "no longer among this agent's REPO_PATHS",
                );
                let entry = Entry {
                    run,
                    id,
                    attempt,
                    outcome: Outcome::unstarted(failure).into(),
                };
                out.push(Action::Keep(Record::Outcome(entry.clone())));
                self.outbox.push(entry);
            }
        }
        self.go_on(now, &mut out);
        out
    }

    /// Takes one event and says what is to be done, in this order.
    pub fn on(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut out = Actions::new();
        if self
            .ending
            .as_ref()
            .is_some_and(|ending| ending.stage() == Stage::Done)
        {
            return out;
        }
        if self
            .last
            .replace(now)
            .is_some_and(|last| has_slept(last, now))
        {
            self.woken(now, &mut out);
        }
        // Before the event, which may be a ticket; the register comes after it, should it be the loss of the connection.
        let quota_is_back = self.quota.is_over(now.wall);
        match event {
            Event::Connected(dialect) => self.connected(now, dialect, &mut out),
            Event::Disconnected(setback) => self.disconnected(now, setback, &mut out),
            Event::Heard => self.liveness.heard(now.mono),
            Event::Tick => {}
            // A number that no Ping had yet proves nothing.
            Event::Pong(fence) if fence <= self.pings => {
                let delivered = self.outbox.passed(fence);
                keep_delivered(delivered, &mut out);
            }
            Event::Pong(_) => {}
            Event::Backend(order) => self.order(now, order, &mut out),
            Event::Job(run, JobEvent::Progress(progress)) => self.progress(run, progress, &mut out),
            Event::Job(run, JobEvent::Finished(outcome)) => {
                self.finished(now, run, outcome, &mut out)
            }
            Event::Kept(run, kept) => self.kept(now, run, kept, &mut out),
            Event::Recalled(run, entry) => self.recalled(run, entry, &mut out),
            Event::Cli(state) => self.cli_changed(state, &mut out),
            Event::Stop => self.end(now, Exit::Asked, &mut out),
        }
        if quota_is_back {
            self.quota_back(&mut out);
        }
        self.go_on(now, &mut out);
        out
    }

    /// When [`Event::Tick`] is due, if nothing else happens before.
    pub fn deadline(&self) -> Option<Instant> {
        let ending = self.ending.as_ref().and_then(Ending::deadline);
        // What the CLI said is a time of the day: told anew from the last event on, should the clock be set.
        let quota = self.last.zip(self.quota.until).and_then(|(last, until)| {
            last.mono
                .checked_add(until.duration_since(last.wall).unwrap_or_default())
        });
        [self.liveness.deadline(), ending, self.look_at, quota]
            .into_iter()
            .flatten()
            .min()
    }

    /// Everything that follows from the state and the time, whatever the event was.
    fn go_on(&mut self, now: Now, out: &mut Actions) {
        while let Some(due) = self.liveness.due(now.mono) {
            match due {
                Due::Dial => out.push(Action::Dial),
                Due::Heartbeat => self.beat(now, out),
                Due::Dead => {
                    out.push(Action::Disconnect(Goodbye::Dead));
                    self.disconnected(now, Setback::Failed("no frame for 25 s".to_owned()), out);
                }
            }
        }
        self.withdraw_for_quota(out);
        // Whether the backend can be reached is not known before the first attempt.
        if self.ending.is_none() && self.liveness.is_tried() && !self.quota.is_exceeded() {
            let offline = !self.liveness.is_connected();
            while let Some((slot, job)) = self.queue.start_next(now.wall) {
                out.push(Action::Start { slot, job, offline });
            }
        }
        self.look_for_cli(now, out);
        self.send_outcomes(out);
        if self.outbox.has_room() {
            out.extend(self.recalls.pop_front().map(Action::Recall));
        }
        self.show(out);
        self.go_on_ending(now, out);
    }

    /// The machine has slept: the connection may be gone without a word, and a wait may have been slept through.
    fn woken(&mut self, now: Now, out: &mut Actions) {
        out.push(Action::Log(Notice::info(
            "the machine has slept; trying the connection",
        )));
        self.liveness.woken(now.mono);
        // Whoever was not heard of for so long may have been forgotten.
        self.beats = 0;
        self.beat(now, out);
    }

    fn connected(&mut self, now: Now, dialect: Dialect, out: &mut Actions) {
        if dialect != std::mem::replace(&mut self.dialect, dialect) {
            out.push(Action::Keep(Record::Dialect(dialect)));
        }
        self.beats = 0;
        self.liveness.connected(now.mono);
        self.link = Link::Up { since: now.wall };
        self.outbox.rewind();
        out.push(Action::Send(Message::Register(self.register())));
        out.push(Action::Log(
            Notice::info("connected and registered").kind(Kind::Connected),
        ));
    }

    fn disconnected(&mut self, now: Now, setback: Setback, out: &mut Actions) {
        let (why, at_least) = match setback {
            Setback::Failed(why) => (why, Duration::ZERO),
            Setback::Wait { why, at_least } => (why, at_least),
            Setback::TokenRejected(why) => {
                let line = format!(
                    "the backend rejected the token ({why}): mint another in Settings → Agents → Create token"
                );
                out.push(Action::Log(Notice::error(line).kind(Kind::Disconnected)));
                self.liveness.lost(now.mono, Duration::MAX, 1.0);
                self.is_down(now, "the token was rejected".to_owned());
                return self.end(now, Exit::TokenRejected, out);
            }
            Setback::VersionRefused(why) => {
                let line = format!(
                    "the backend does not support this protocol version ({why}): update wf0-agent"
                );
                out.push(Action::Log(Notice::error(line).kind(Kind::Disconnected)));
                self.liveness.lost(now.mono, Duration::MAX, 1.0);
                self.is_down(now, "the protocol version was refused".to_owned());
                return self.end(now, Exit::VersionRefused, out);
            }
        };
        let jitter = self.rng.f64();
        if let Some(wait) = self.liveness.lost(now.mono, at_least, jitter) {
            let line = format!(
                "not connected ({why}); next try in {:.1} s",
                wait.as_secs_f64()
            );
            out.push(Action::Log(Notice::warn(line).kind(Kind::Disconnected)));
            self.is_down(now, why);
        }
    }

    fn is_down(&mut self, now: Now, why: String) {
        let since = if self.link.is_up() {
            now.wall
        } else {
            self.link.since()
        };
        self.link = Link::Down {
            since,
            why: Some(why),
        };
    }

    fn order(&mut self, now: Now, order: Order, out: &mut Actions) {
        match order {
            Order::Assigned(ticket) => self.assigned(now, *ticket, out),
            Order::Cancel { id, reason } => self.cancel(&id, &reason, out),
            Order::Ack { id, attempt } => keep_delivered(self.outbox.acked(&id, attempt), out),
            Order::ServerShutdown { reconnect_after } => {
                let jitter = self.rng.f64();
                let wait = self.liveness.come_back(now.mono, reconnect_after, jitter);
                out.push(Action::Disconnect(Goodbye::Normal));
                let line = format!("the backend restarts; back in {:.1} s", wait.as_secs_f64());
                out.push(Action::Log(Notice::info(line).kind(Kind::Disconnected)));
                self.is_down(now, "the backend restarts".to_owned());
            }
            Order::Unusable { id, attempt, why } => {
                // A ticket that is already here, or ended under this attempt, has its one answer.
                let known = self.queue.find(&id).is_some();
                if !known
                    && self
                        .outbox
                        .find(&id)
                        .is_none_or(|ended| ended.attempt() < attempt)
                {
                    self.refuse(
                        &id,
                        attempt,
                        Failure::new(FailCode::InvalidTicket, why),
                        out,
                    );
                } else {
                    let line = Notice::warn(format!("unusable assignment ignored: {why}"));
                    out.push(Action::Log(line.of(&id, attempt)));
                }
            }
        }
    }

    fn assigned(&mut self, now: Now, ticket: Ticket, out: &mut Actions) {
        if self.answer_repeated(now, &ticket, out) {
            return;
        }
        let (repo, time_limit) = match self.check(&ticket) {
            Ok(accepted) => accepted,
            Err(failure) => return self.refuse(&ticket.id, ticket.attempt, failure, out),
        };
        let run = RunId(self.rng.u128(..));
        let job = Box::new(Job {
            run,
            ticket,
            repo,
            time_limit,
        });
        self.accepting.push((*job).clone());
        out.push(Action::Keep(Record::Ticket {
            job,
            claimed_at: now.wall,
        }));
    }

    /// An accepted ticket is on disk, or cannot be: only now is it claimed, or refused.
    fn kept(&mut self, now: Now, run: RunId, kept: Result<(), String>, out: &mut Actions) {
        let Some(at) = self.accepting.iter().position(|job| job.run == run) else {
            return;
        };
        let job = self.accepting.remove(at);
        let Ticket {
            id, attempt, role, ..
        } = &job.ticket;
        if let Err(why) = kept {
            let failure = Failure::new(
                FailCode::Internal,
                format!("the agent cannot keep the ticket: {why}"),
            );
            return self.refuse(id, *attempt, failure, out);
        }
        let line = Notice::info(format!("claimed: {role} in {}", job.repo.path.display()));
        out.push(Action::Log(
            line.kind(Kind::Claimed).of(id, *attempt).run(run),
        ));
        out.push(claim(now, id, *attempt));
        self.queue.push(Box::new(job), now.wall);
    }

    /// The same ticket again (docs/protocol.md section 4). Says whether that was all there is to it.
    fn answer_repeated(&mut self, now: Now, ticket: &Ticket, out: &mut Actions) -> bool {
        if let Some(claimed) = self.queue.find(&ticket.id) {
            if claimed.stopping && ticket.attempt > claimed.attempt {
                return false;
            }
            // One run answers for every attempt, under the newest. An older one is a late frame.
            if ticket.attempt >= claimed.attempt {
                if ticket.attempt > claimed.attempt {
                    claimed.attempt = ticket.attempt;
                    out.push(Action::Keep(Record::Attempt {
                        run: claimed.run,
                        attempt: ticket.attempt,
                    }));
                }
                out.push(claim(now, &ticket.id, ticket.attempt));
            }
            return true;
        }
        match self.outbox.find(&ticket.id) {
            Some(ended) if ticket.attempt <= ended.attempt() => {
                match ended {
                    _ if !self.dialect.takes_outcomes_twice() => {}
                    Ended::Pending(entry) => {
                        let again = entry.clone();
                        self.outbox.repeat(again);
                    }
                    Ended::Delivered(delivered) if self.recalls.contains(&delivered.run) => {}
                    Ended::Delivered(delivered) => self.recalls.push_back(delivered.run),
                }
                true
            }
            _ => false,
        }
    }

    /// A delivered outcome is wanted once more.
    fn recalled(&mut self, run: RunId, entry: Option<Entry>, out: &mut Actions) {
        if let Some(entry) = entry {
            return self.outbox.repeat(entry);
        }
        if let Some(Delivered { id, attempt, .. }) = self.outbox.delivered(run).cloned() {
            let failure = Failure::new(
                FailCode::Internal,
                "it has ended before, and its outcome is no longer on disk",
            );
            self.refuse(&id, attempt, failure, out);
        }
    }

    fn check(&self, ticket: &Ticket) -> Result<(Repo, Duration), Failure> {
        if self.ending.is_some() {
            return Err(StopReason::Shutdown.failure());
        }
        if self.quota.is_exceeded() {
            return Err(no_quota());
        }
        let role = self
            .policy
            .roles
            .iter()
            .find(|(role, _)| *role == ticket.role);
        let Some((_, limit)) = role else {
            let error = format!(
                "this agent does not take the role {:?}",
                ticket.role.as_str()
            );
            return Err(Failure::new(FailCode::RoleNotAllowed, error));
        };
        let Some(repo) = self.policy.repos.find(&ticket.repo) else {
            let error = format!(
                "{} is not among this agent's REPO_PATHS",
                ticket.repo.describe()
            );
            return Err(Failure::new(FailCode::RepoNotAllowed, error));
        };
        let repo = repo.for_branch(ticket.branch.as_ref());
        if !self.queue.has_room_for(&repo) {
            return Err(Failure::new(
                FailCode::AtCapacity,
                "no slot is free and the waiting line is full",
            ));
        }
        Ok((
            repo,
            ticket.time_limit.map_or(*limit, |asked| asked.min(*limit)),
        ))
    }

    /// A refusal goes out without a claim and is not kept: a backend that missed it assigns again.
    fn refuse(&mut self, id: &TicketId, attempt: u32, failure: Failure, out: &mut Actions) {
        let line = Notice::warn(format!(
            "refused: {}: {}",
            failure.code.as_str(),
            failure.error
        ));
        out.push(Action::Log(line.kind(Kind::Refused).of(id, attempt)));
        // Unanswered, it is handed out again.
        if self.dialect.failures_are_final() && failure.code.passes() {
            return;
        }
        let outcome = Arc::new(Outcome::unstarted(failure));
        self.send_outcome(id.clone(), attempt, outcome, out);
    }

    fn send_outcome(&self, id: TicketId, attempt: u32, outcome: Arc<Outcome>, out: &mut Actions) {
        out.push(Action::Send(Message::Outcome {
            id,
            attempt,
            outcome,
        }));
        if self.dialect.registers_after_outcome() {
            self.register_again(out);
        }
    }

    fn cancel(&mut self, id: &TicketId, reason: &str, out: &mut Actions) {
        if let Some(claimed) = self.queue.withdraw(id) {
            self.conclude(
                claimed,
                Outcome::unstarted(StopReason::Cancelled.failure()).into(),
                out,
            );
        } else if let Some((slot, run)) = self.queue.slot_of(id) {
            let attempt = self.queue.find_run(run).map_or(0, |claimed| {
                claimed.stopping = true;
                claimed.attempt
            });
            let line = Notice::info(format!(
                "cancelled by the backend: {}",
                one_line(reason, 200)
            ));
            out.push(Action::Log(line.of(id, attempt)));
            out.push(Action::Stop {
                slot,
                run,
                reason: StopReason::Cancelled,
            });
        }
    }

    fn progress(&mut self, run: RunId, progress: Progress, out: &mut Actions) {
        let is_connected = self.liveness.is_connected();
        if let Some(claimed) = self.queue.find_run(run) {
            claimed.doing = Some(Doing::after(claimed.doing.as_ref(), &progress));
            if !is_connected {
                return;
            }
            claimed.seq += 1;
            let (id, attempt, seq) = (claimed.id.clone(), claimed.attempt, claimed.seq);
            out.push(Action::Send(Message::Progress {
                id,
                attempt,
                seq,
                progress,
            }));
        }
    }

    fn finished(&mut self, now: Now, run: RunId, outcome: Arc<Outcome>, out: &mut Actions) {
        // A run that was given up has been answered already.
        let Some(claimed) = self.queue.finish(run) else {
            return;
        };
        let end = outcome
            .failure
            .as_ref()
            .map(|failure| (failure.code, failure.available_at));
        self.conclude(claimed, outcome, out);
        match end {
            None if self.quota.worked() => out.push(Action::Keep(Record::Quota(self.quota))),
            Some((FailCode::CliNotFound, _)) => {
                let unavailable = Some(Unavailable::NotFound);
                self.cli_changed(
                    CliState {
                        unavailable,
                        ..self.policy.cli.clone()
                    },
                    out,
                );
            }
            Some((FailCode::QuotaExceeded, until)) => self.quota_exceeded(now, until, out),
            _ => {}
        }
    }

    /// No roles until the quota is back.
    fn quota_exceeded(&mut self, now: Now, until: Option<SystemTime>, out: &mut Actions) {
        let before = self.quota;
        self.quota.exceeded(now.wall, until);
        if self.quota == before {
            return;
        }
        out.push(Action::Keep(Record::Quota(self.quota)));
        let wait = self
            .quota
            .until
            .and_then(|until| until.duration_since(now.wall).ok())
            .unwrap_or_default();
        let line = format!(
            "the CLI's quota is used up: no roles for {} min",
            wait.as_secs().div_ceil(60)
        );
        out.push(Action::Log(Notice::warn(line)));
        self.withdraw_for_quota(out);
        self.register_again(out);
    }

    fn quota_back(&self, out: &mut Actions) {
        out.push(Action::Keep(Record::Quota(self.quota)));
        out.push(Action::Log(Notice::info("the CLI's quota should be back")));
        self.register_again(out);
    }

    /// Without a quota, what waits would only find out the same: another agent may do better.
    fn withdraw_for_quota(&mut self, out: &mut Actions) {
        if self.quota.is_exceeded() && !self.dialect.failures_are_final() {
            for claimed in self.queue.withdraw_all() {
                self.conclude(claimed, Outcome::unstarted(no_quota()).into(), out);
            }
        }
    }

    /// The one end that every claimed ticket has.
    fn conclude(&mut self, claimed: Claimed, outcome: Arc<Outcome>, out: &mut Actions) {
        let Claimed {
            id, attempt, run, ..
        } = claimed;
        let kind = if outcome.failure.is_some() {
            Kind::Failed
        } else {
            Kind::Done
        };
        let line = Notice::info(describe(&outcome)).kind(kind).of(&id, attempt);
        let entry = Entry {
            run,
            id,
            attempt,
            outcome,
        };
        out.push(Action::Keep(Record::Outcome(entry.clone())));
        out.push(Action::Log(line));
        self.outbox.push(entry);
    }

    /// Who looks whether it is there does not know the version, which comes later.
    fn cli_changed(&mut self, mut state: CliState, out: &mut Actions) {
        state.version = state.version.or_else(|| self.policy.cli.version.clone());
        if self.policy.cli != state {
            let line = match (
                state.unavailable,
                self.policy.cli.unavailable,
                &state.version,
            ) {
                (Some(_), _, _) => Some(Notice::warn("the CLI is not there: no roles until it is")),
                (None, Some(_), _) => Some(Notice::warn("the CLI is there again")),
                (None, None, Some(version)) => {
                    Some(Notice::info(format!("the CLI's version is {version}")))
                }
                (None, None, None) => None,
            };
            out.extend(line.map(Action::Log));
            self.policy.cli = state;
            self.register_again(out);
        }
    }

    /// What the agent can do has changed.
    fn register_again(&self, out: &mut Actions) {
        if self.liveness.is_connected() {
            out.push(Action::Send(Message::Register(self.register())));
        }
    }

    fn send_outcomes(&mut self, out: &mut Actions) {
        while self.liveness.is_connected() {
            let Some(entry) = self.outbox.next_to_send(self.pings + 1) else {
                return;
            };
            let Entry {
                id,
                attempt,
                outcome,
                ..
            } = entry;
            self.send_outcome(id, attempt, outcome, out);
            let ping = self.next_ping();
            out.push(Action::Ping(ping));
        }
    }

    /// Told to stop: the first time runs may go on to their own end for a while, the second time they are ended.
    fn end(&mut self, now: Now, exit: Exit, out: &mut Actions) {
        let drain = match &self.ending {
            None => exit == Exit::Asked && !self.policy.drain.is_zero(),
            Some(ending) if ending.stage() == Stage::Draining => false,
            Some(_) => return,
        };
        for claimed in self.queue.withdraw_all() {
            // What is on disk as claimed runs at the next start.
            if !self.dialect.failures_are_final() {
                self.conclude(
                    claimed,
                    Outcome::unstarted(StopReason::Shutdown.failure()).into(),
                    out,
                );
            }
        }
        let running = self.queue.running().count();
        if drain && running > 0 {
            let line = format!(
                "stopping once {running} running tickets have ended, at most {:?} from now",
                self.policy.drain
            );
            out.push(Action::Log(Notice::info(line)));
            self.ending = Some(Ending::drain(now.mono, exit, self.policy.drain));
            self.register_again(out);
            self.beat(now, out);
        } else {
            out.push(Action::Log(Notice::info(format!(
                "stopping; {running} running"
            ))));
            self.stop_runs(now, exit, out);
        }
    }

    fn stop_runs(&mut self, now: Now, exit: Exit, out: &mut Actions) {
        self.ending = Some(Ending::stop(now.mono, exit, self.policy.grace));
        let running: Vec<_> = self
            .queue
            .running()
            .map(|(slot, claimed)| (slot, claimed.run))
            .collect();
        for (slot, run) in running {
            out.push(Action::Stop {
                slot,
                run,
                reason: StopReason::Shutdown,
            });
        }
    }

    /// Takes the ending as far as it can go now.
    fn go_on_ending(&mut self, now: Now, out: &mut Actions) {
        let Some(ending) = &self.ending else { return };
        match (ending.stage(), ending.is_overdue(now.mono)) {
            (Stage::Draining, true) if !self.queue.is_empty() => {
                self.stop_runs(now, ending.exit, out)
            }
            (Stage::Stopping, true) => self.abandon_runs(out),
            _ => {}
        }
        let Some(ending) = &mut self.ending else {
            return;
        };
        if !self.queue.is_empty() {
            return;
        }
        ending.flush(now.mono);
        let connected = self.liveness.is_connected();
        if self.outbox.is_empty() || !connected || ending.is_overdue(now.mono) {
            ending.done();
            if !self.outbox.is_empty() {
                let line = "not every outcome is confirmed; the rest goes out at the next start";
                out.push(Action::Log(Notice::warn(line)));
            }
            if connected {
                out.push(Action::Disconnect(Goodbye::GoingAway));
            }
            out.push(Action::Exit(ending.exit));
        }
    }

    fn abandon_runs(&mut self, out: &mut Actions) {
        for claimed in self.queue.abandon_all() {
            let failure = Failure::new(
                FailCode::AgentShutdown,
                "the run could not be ended before the agent stopped",
            );
            self.conclude(claimed, Outcome::unstarted(failure).into(), out);
        }
        self.send_outcomes(out);
    }

    fn beat(&mut self, now: Now, out: &mut Actions) {
        if self.liveness.is_connected() {
            if self.beats % self.dialect.pings_per_heartbeat() == 0 {
                out.push(Action::Send(Message::Heartbeat(self.heartbeat(now))));
            }
            self.beats = self.beats.wrapping_add(1);
            let ping = self.next_ping();
            out.push(Action::Ping(ping));
        }
    }

    /// Looks for a CLI that is not there; what is found comes back as an event.
    fn look_for_cli(&mut self, now: Now, out: &mut Actions) {
        let missing = self.policy.cli.unavailable == Some(Unavailable::NotFound);
        match self.look_at {
            Some(at) if missing && at <= now.mono => {
                self.look_at = Some(now.mono + LOOK_FOR_CLI_EVERY);
                out.push(Action::LookForCli);
            }
            None if missing => self.look_at = Some(now.mono + LOOK_FOR_CLI_EVERY),
            Some(_) if !missing => self.look_at = None,
            _ => {}
        }
    }

    fn next_ping(&mut self) -> u64 {
        self.pings += 1;
        self.pings
    }
}

/// Whether the wall clock has gone further than the other, which stands still while a machine sleeps. Somebody who
/// sets the clock looks the same, and then trying the connection does no harm.
fn has_slept(last: Now, now: Now) -> bool {
    const NOTICEABLE: Duration = Duration::from_secs(5);
    let wall = now.wall.duration_since(last.wall).unwrap_or_default();
    wall > now.mono.saturating_duration_since(last.mono) + NOTICEABLE
}

fn no_quota() -> Failure {
    Failure::new(
        FailCode::QuotaExceeded,
        "an earlier run has used up the CLI's quota",
    )
}

fn keep_delivered(runs: Vec<RunId>, out: &mut Actions) {
    out.extend(
        runs.into_iter()
            .map(|run| Action::Keep(Record::Delivered(run))),
    );
}

fn claim(now: Now, id: &TicketId, attempt: u32) -> Action {
    Action::Send(Message::Claim {
        id: id.clone(),
        attempt,
        at: now.wall,
    })
}

fn describe(outcome: &Outcome) -> String {
    let took = outcome.span.map_or(String::new(), |span| {
        format!(" after {:.1} s", span.duration.as_secs_f64())
    });
    match (&outcome.failure, outcome.changes.stat) {
        (Some(failure), _) => format!("failed{took}: {}: {}", failure.code.as_str(), failure.error),
        (None, Some(stat)) => format!("done{took}: {stat}"),
        (None, None) => format!("done{took}"),
    }
}
