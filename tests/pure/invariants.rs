//! Random events against a model of everything round the session: backend, connection, workers, time.
//!
//! The model does what the event loop and the workers may do, in any order and at any time, and checks after each
//! event what must hold always. What a table can say better stands in `session.rs`. Each world speaks one dialect.

use std::any::Any;
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use wf0_agent::domain::event::{
    Action, DaemonEnd, Effect, Event, Goodbye, JobEvent, Order, Setback,
};
use wf0_agent::domain::message::{CliState, Dialect, Message, Unavailable};
use wf0_agent::domain::repos::RepoRef;
use wf0_agent::domain::session::Session;
use wf0_agent::domain::ticket::{
    Changes, FailCode, Failure, Job, Outcome, Phase, Progress, RunId, StopReason, Ticket, TicketId,
};

use super::support::{
    Clock, Disk, ROLE_LIMIT, at_path, cli, done, failed, id, in_clones, on, policy, quota_exceeded,
    role, ticket,
};

/// Few enough to keep the test quick; each world takes about 1500.
const WORLDS: u64 = if cfg!(debug_assertions) { 250 } else { 1000 };
const STEPS: usize = 1500;
const REPOS: [&str; 5] = ["app", "web", "api", "docs", "ops"];
/// Each run there has a clone of its own.
const CLONED: [&str; 2] = ["web", "ops"];
/// docs/protocol.md sections 1, 2 and 7, with room for jitter; the grace is the policy's.
const DEAD_AFTER: Duration = Duration::from_secs(25);
const LONGEST_WAIT: Duration = Duration::from_secs(330);
const GIVEN_UP_AFTER: Duration = Duration::from_secs(5 + 10);
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// A stored outcome answers a repeated assignment until at least this number of later outcomes.
const REMEMBERED: usize = 1000;

/// Every rule of the session holds for random events in random order.
#[test]
fn hold_for_random_events() {
    let mut seen = Seen::default();
    for seed in 0..WORLDS {
        let world = AssertUnwindSafe(|| World::new(seed).live());
        match catch_unwind(world) {
            Ok(world) => seen.add(&world),
            Err(panic) => panic!("with seed {seed}: {}", message_of(&*panic)),
        }
    }
    seen.check();
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
}

/// How often each thing happened. Worlds in which too little happens prove nothing.
#[derive(Debug, Default)]
struct Seen {
    events: u64,
    runs: u64,
    refusals: u64,
    /// Beside another one of the same repository.
    together: u64,
    full: u64,
    claims_again: u64,
    outcomes_again: u64,
    delivered: u64,
    silences: u64,
    given_up: u64,
    withdrawn: u64,
    exits: u64,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.runs += other.runs;
        self.refusals += other.refusals;
        self.together += other.together;
        self.full += other.full;
        self.claims_again += other.claims_again;
        self.outcomes_again += other.outcomes_again;
        self.delivered += other.delivered;
        self.silences += other.silences;
        self.given_up += other.given_up;
        self.withdrawn += other.withdrawn;
        self.exits += other.exits;
    }

    fn check(&self) {
        let Self {
            events,
            runs,
            refusals,
            full,
            claims_again,
            outcomes_again,
            ..
        } = self;
        let Self {
            together,
            delivered,
            silences,
            given_up,
            withdrawn,
            exits,
            ..
        } = self;
        assert_eq!(*exits, WORLDS, "every world ends: {self:?}");
        assert!(*events >= WORLDS * 500, "{self:?}");
        let often = [runs, refusals, claims_again, outcomes_again, delivered];
        assert!(
            often.into_iter().all(|count| *count > WORLDS * 3),
            "something hardly ever happened: {self:?}"
        );
        let now_and_then = [together, full, silences, given_up, withdrawn];
        assert!(
            now_and_then.into_iter().all(|count| *count > WORLDS / 20),
            "something never happened: {self:?}"
        );
    }
}

/// One stay of a ticket with this agent, from its claim to its one end.
#[derive(Debug)]
struct Stay {
    attempt: u32,
    repo: PathBuf,
    limit: Option<Duration>,
    run: Option<RunId>,
    progress: u64,
    /// The backend has cancelled it, and it has not ended yet.
    cancelled: bool,
    end: Option<End>,
}

#[derive(Debug)]
struct End {
    code: Option<FailCode>,
    /// Unknown until it is sent, where the session made it itself.
    outcome: Option<Arc<Outcome>>,
    sent: bool,
    delivered: bool,
    /// The session knows that it was delivered.
    proven: bool,
    /// How many outcomes had been sent by then.
    sent_before: usize,
}

/// What must come of an event, as far as the model can tell.
#[derive(Debug)]
enum Expected {
    /// Neither a claim nor a refusal nor a stop.
    Nothing,
    /// It is here already: claimed again, under that attempt.
    ClaimAgain(TicketId, u32),
    Claim(Offer),
    Refusal(TicketId, u32, &'static [FailCode]),
    /// Accepted, refused or answered from memory: the rules leave it open.
    AnyAnswer(Offer),
    Stop(RunId),
    StopAll,
}

#[derive(Debug)]
struct Offer {
    name: TicketId,
    attempt: u32,
    repo: PathBuf,
    limit: Option<Duration>,
}

/// What did come of it.
#[derive(Debug, Default)]
struct Answer {
    claims: usize,
    refusals: usize,
    stops: usize,
}

/// A frame on its way to the backend.
#[derive(Debug)]
enum Frame {
    Ping(u64),
    Outcome(TicketId, Arc<Outcome>, u32),
    Other,
}

#[derive(Debug, Default)]
struct Link {
    registered: bool,
    on_its_way: VecDeque<Frame>,
    /// Pings that the backend has seen, and outcomes that it has stored.
    pings: Vec<u64>,
    stored: Vec<(TicketId, u32)>,
    /// Outcomes that were sent on this connection, each with the last Ping before it.
    sent: Vec<(TicketId, u64)>,
}

/// Why the daemon ends in this world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// When all is done, and with every outcome delivered.
    AtLast,
    /// In the middle of it all.
    Stop,
    TokenRejected,
    VersionRefused,
}

struct World {
    rng: fastrand::Rng,
    dialect: Dialect,
    /// The hub hands out nothing more before the next register.
    owes_register: bool,
    clock: Clock,
    session: Session,
    disk: Disk,
    slots: Vec<Option<(TicketId, RunId)>>,
    stays: HashMap<TicketId, Vec<Stay>>,
    /// Claimed and not ended, oldest first.
    open: Vec<TicketId>,
    runs: HashSet<RunId>,
    link: Option<Link>,
    dialing: bool,
    cli: CliState,
    repos: Vec<PathBuf>,
    /// Runs take long, so that others wait, and do not end when they are told to.
    slow: bool,
    said_goodbye: bool,
    last_ping: u64,
    outcomes_sent: usize,
    /// Until when the quota is used up, and how often in a row that had to be guessed.
    quota: (Option<SystemTime>, u32),
    ending: Ending,
    stopped_at: Option<Instant>,
    exit: Option<DaemonEnd>,
    /// Large outcomes fill the send window.
    large: bool,
    seen: Seen,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let slots = rng.usize(1..=4);
        let repos = rng.usize(1..=REPOS.len());
        let clock = Clock::new();
        let endings = [
            Ending::AtLast,
            Ending::AtLast,
            Ending::Stop,
            Ending::TokenRejected,
            Ending::VersionRefused,
        ];
        Self {
            session: Session::new(
                in_clones(policy(slots, &REPOS[..repos], seed), &CLONED),
                clock.now(),
            ),
            disk: Disk::default(),
            clock,
            slots: vec![None; slots],
            stays: HashMap::new(),
            open: Vec::new(),
            runs: HashSet::new(),
            link: None,
            dialing: false,
            cli: cli(),
            repos: REPOS[..repos]
                .iter()
                .map(|name| PathBuf::from(format!("/repos/{name}")))
                .collect(),
            dialect: if rng.bool() {
                Dialect::Ticket
            } else {
                Dialect::Hub
            },
            owes_register: false,
            slow: rng.u8(..3) == 0,
            said_goodbye: false,
            last_ping: 0,
            outcomes_sent: 0,
            quota: (None, 0),
            ending: endings[rng.usize(..endings.len())],
            stopped_at: None,
            exit: None,
            large: rng.u8(..8) == 0,
            seen: Seen::default(),
            rng,
        }
    }

    fn live(mut self) -> Seen {
        self.feed(Event::Tick);
        let end_at = match self.ending {
            Ending::AtLast => STEPS,
            _ => self.rng.usize(STEPS / 3..STEPS),
        };
        for _ in 0..end_at {
            self.let_time_pass();
            self.anything();
        }
        if self.ending == Ending::AtLast {
            self.come_to_rest()
        } else {
            self.end_in_the_middle()
        }
        self.check_ends();
        self.seen.exits += 1;
        self.seen
    }

    /// No more faults: every outcome must arrive, and the daemon must then stop at once.
    fn come_to_rest(&mut self) {
        for _ in 0..20_000 {
            if self.open.is_empty() && self.undelivered() == 0 {
                break;
            }
            self.go_with_the_deadline();
            if self.dialing {
                self.feed(Event::Connected(self.dialect));
            }
            if let Some(slot) = self.slots.iter().flatten().next().cloned() {
                self.finish(slot.1);
            }
            self.backend_reads(usize::MAX);
            self.pong();
        }
        assert_eq!(
            (self.open.len(), self.undelivered()),
            (0, 0),
            "tickets open, and outcomes that never arrived"
        );
        assert!(self.slots.iter().all(Option::is_none), "a run has no end");
        // Outcomes that were sent again for a repeated assignment still have to be confirmed.
        let mut more = true;
        while more {
            self.backend_reads(usize::MAX);
            self.feed(Event::Pong(self.last_ping));
            more = self
                .link
                .as_ref()
                .is_some_and(|link| !link.on_its_way.is_empty());
        }
        self.stop(Event::Stop);
        assert_eq!(
            self.exit,
            Some(DaemonEnd::Asked),
            "nothing is left to wait for"
        );
    }

    /// The end comes in the middle of things, and in time.
    fn end_in_the_middle(&mut self) {
        let rejected =
            |setback: fn(String) -> Setback| Event::Disconnected(setback("no".to_owned()));
        let (event, wanted) = match self.ending {
            Ending::TokenRejected => (rejected(Setback::TokenRejected), DaemonEnd::TokenRejected),
            Ending::VersionRefused => {
                (rejected(Setback::VersionRefused), DaemonEnd::VersionRefused)
            }
            Ending::Stop | Ending::AtLast => (Event::Stop, DaemonEnd::Asked),
        };
        // A rejection is the answer to an attempt to connect, or the end of a connection.
        while event != Event::Stop && self.link.is_none() && !self.dialing {
            self.go_with_the_deadline();
        }
        if event != Event::Stop {
            self.link = None;
            self.dialing = false;
        }
        self.stop(event);
        let limit = self.clock.now().mono + GIVEN_UP_AFTER + FLUSH_LIMIT;
        for _ in 0..20_000 {
            if self.exit.is_some() {
                break;
            }
            // Time passes by deadlines at the latest, so that a late end is the session's own.
            let step = self.clock.now().mono + Duration::from_millis(self.rng.u64(..2000));
            let next = self
                .session
                .deadline()
                .map_or(step, |deadline| deadline.min(step));
            self.clock.advance_to(next);
            self.feed(Event::Tick);
            if self.exit.is_none() {
                self.anything();
            }
            assert!(
                self.exit.is_some() || self.clock.now().mono <= limit,
                "it does not end"
            );
        }
        assert_eq!(self.exit, Some(wanted));
    }

    fn let_time_pass(&mut self) {
        let millis = match self.rng.u8(..16) {
            0..=5 => 0,
            6..=10 => self.rng.u64(..100),
            11..=13 => self.rng.u64(..2_000),
            14 => return self.go_with_the_deadline(),
            // Now and then for longer than a connection lives in silence.
            _ if self.rng.u8(..8) == 0 => self.rng.u64(..100_000),
            _ => self.rng.u64(..12_000),
        };
        self.clock.advance(Duration::from_millis(millis));
    }

    fn go_with_the_deadline(&mut self) {
        if let Some(deadline) = self.session.deadline() {
            self.clock.advance_to(deadline);
        }
        self.feed(Event::Tick);
    }

    /// One thing that may happen now.
    fn anything(&mut self) {
        match self.rng.u8(..32) {
            0..=10 => self.order(),
            11..=15 => self.run_ends(),
            16..=18 => self.run_progresses(),
            19..=22 => {
                let frames = self.rng.usize(..8);
                self.backend_reads(frames);
                self.pong();
            }
            23..=25 => self.pong(),
            26..=28 => self.connection_changes(),
            29 => self.cli_changes(),
            _ => self.feed(Event::Tick),
        }
    }

    fn order(&mut self) {
        if self.link.is_none() {
            return;
        }
        self.feed(Event::Heard);
        if self.link.is_none() {
            return;
        }
        // The hub counts no attempts, so that its names are soon used up.
        let first = if self.is_hub() {
            self.seen.events / 32
        } else {
            0
        };
        let name = id(&format!("T{}", first + self.rng.u64(..30)));
        let last = self
            .stays
            .get(&name)
            .and_then(|stays| stays.last())
            .map_or(1, |stay| stay.attempt);
        let attempt = match self.rng.u8(..8) {
            _ if self.is_hub() => 1,
            0..=2 => last,
            3 => last.saturating_sub(1).max(1),
            _ => last + 1,
        };
        // A newer attempt of a run that is being ended is a second stay of the same ticket: a table has that case.
        let attempt = match self.open_stay(&name) {
            Some(stay) if stay.cancelled => attempt.min(stay.attempt),
            _ => attempt,
        };
        let order = match self.rng.u8(..32) {
            0..=24 => Order::Assigned(Box::new(self.assignment(&name, attempt))),
            25..=27 if !self.is_hub() => Order::Cancel(name, String::new()),
            25..=29 => self.ack(),
            30 => Order::Unusable(name, attempt, "no role".to_owned()),
            _ => Order::ServerShutdown(Duration::from_secs(self.rng.u64(..20))),
        };
        self.feed(Event::Backend(order));
    }

    fn assignment(&mut self, name: &TicketId, attempt: u32) -> Ticket {
        let roles = ["dev", "dev", "dev", "qa", "qa", "qa", "qa", "boss"];
        // Some of these are beyond what the policy allows.
        let repo = REPOS[self.rng.usize(..REPOS.len())];
        let repo = match self.rng.u8(..8) {
            0 => at_path("/repos/secret"),
            1 | 2 => at_path(&format!("/repos/{repo}")),
            _ => RepoRef::Slug(format!("acme/{repo}")),
        };
        let time_limit = (self.rng.bool()).then(|| Duration::from_secs(self.rng.u64(1..4000)));
        Ticket {
            role: role(roles[self.rng.usize(..roles.len())]),
            repo,
            time_limit,
            ..ticket(name.as_str(), attempt)
        }
    }

    /// Acknowledges an outcome that the backend has stored, never one that it lacks: a late ack for a refusal would
    /// be taken for the run of the same attempt.
    fn ack(&mut self) -> Order {
        let stored = self
            .link
            .as_ref()
            .map(|link| link.stored.as_slice())
            .unwrap_or_default();
        let lacks = |stay: &Stay| stay.end.as_ref().is_some_and(|end| !end.delivered);
        let has = |(id, attempt): &&(TicketId, u32)| {
            let stays = self.stays.get(id).into_iter().flatten();
            !stays
                .into_iter()
                .any(|stay| stay.attempt == *attempt && lacks(stay))
        };
        let stored: Vec<_> = stored.iter().filter(has).collect();
        let chosen = (!stored.is_empty()).then(|| self.rng.usize(..stored.len()));
        match chosen.map(|at| stored[at].clone()) {
            Some((id, attempt)) => Order::Ack(id, (!self.is_hub()).then_some(attempt)),
            None => Order::Ack(id("nobody"), None),
        }
    }

    fn run_ends(&mut self) {
        if self.slow && (self.stopped_at.is_some() || self.rng.u8(..12) > 0) {
            return;
        }
        let at = self.rng.usize(..self.slots.len());
        if let Some((_, run)) = self.slots[at].clone() {
            self.finish(run);
        }
    }

    fn finish(&mut self, run: RunId) {
        let outcome = match self.rng.u8(..4) {
            _ if self.rng.u8(..64) == 0 => {
                let told = self.clock.now().wall + Duration::from_secs(self.rng.u64(..120));
                quota_exceeded((self.rng.u8(..4) > 0).then_some(told))
            }
            0 => failed(FailCode::CliExit),
            1 if self.large => {
                let changes = Changes {
                    diff: Some("x".repeat(3 << 20)),
                    ..Changes::default()
                };
                Arc::new(Outcome {
                    changes,
                    ..Outcome::default()
                })
            }
            _ => done("done"),
        };
        self.feed(Event::Job(run, JobEvent::Finished(outcome)));
    }

    fn run_progresses(&mut self) {
        let at = self.rng.usize(..self.slots.len());
        // Now and then this is a run that the session does not know.
        let run = self.slots[at]
            .as_ref()
            .map_or(RunId(at as u128), |(_, run)| *run);
        let progress = Progress {
            phase: Phase::Running,
            elapsed: Duration::from_secs(10),
            stdout_bytes: 1,
            lines: Vec::new(),
        };
        self.feed(Event::Job(run, JobEvent::Progress(progress)));
    }

    fn backend_reads(&mut self, frames: usize) {
        let Some(link) = &mut self.link else { return };
        for _ in 0..frames.min(link.on_its_way.len()) {
            match link.on_its_way.pop_front() {
                Some(Frame::Ping(number)) => link.pings.push(number),
                Some(Frame::Outcome(id, outcome, attempt)) => {
                    let stays = self.stays.get_mut(&id).into_iter().flatten();
                    let ends = stays.filter_map(|stay| stay.end.as_mut());
                    let is_it = |end: &&mut End| {
                        end.outcome
                            .as_ref()
                            .is_some_and(|own| Arc::ptr_eq(own, &outcome))
                    };
                    if let Some(end) = ends.into_iter().find(is_it) {
                        self.seen.delivered += u64::from(!end.delivered);
                        end.delivered = true;
                    }
                    link.stored.push((id, attempt));
                }
                Some(Frame::Other) | None => {}
            }
        }
    }

    /// The answer to any Ping that the backend has seen, late ones and the same again included.
    fn pong(&mut self) {
        let pings = self
            .link
            .as_ref()
            .map(|link| link.pings.as_slice())
            .unwrap_or_default();
        let Some(last) = pings.len().checked_sub(1) else {
            return;
        };
        let number = if self.rng.bool() {
            pings[last]
        } else {
            pings[self.rng.usize(..=last)]
        };
        self.feed(Event::Heard);
        if self.link.is_some() {
            self.feed(Event::Pong(number));
        }
    }

    fn connection_changes(&mut self) {
        if self.dialing && self.rng.u8(..4) > 0 {
            return self.feed(Event::Connected(self.dialect));
        }
        let worth_losing = self.dialing || self.rng.u8(..4) == 0;
        if !worth_losing && self.link.is_some() {
            return;
        }
        // The same loss may be reported twice: by a write that failed and by the read after it.
        let setback = match self.rng.u8(..4) {
            0 => Setback::Wait {
                why: "503".to_owned(),
                at_least: Duration::from_secs(self.rng.u64(..1000)),
            },
            _ => Setback::Failed("reset".to_owned()),
        };
        self.link = None;
        self.dialing = false;
        self.feed(Event::Disconnected(setback));
    }

    fn cli_changes(&mut self) {
        let unavailable = self.rng.bool().then_some(Unavailable::NotFound);
        self.cli = CliState {
            unavailable,
            ..cli()
        };
        self.feed(Event::Cli(self.cli.clone()));
    }

    fn stop(&mut self, event: Event) {
        self.stopped_at = Some(self.clock.now().mono);
        for name in self.open.clone() {
            if self.open_stay(&name).is_none_or(|stay| stay.run.is_some()) {
                continue;
            }
            if self.is_hub() {
                // It runs at the next start.
                self.open.retain(|open| *open != name);
                self.stays.get_mut(&name).and_then(Vec::pop);
            } else {
                self.end_stay(&name, Some(FailCode::AgentShutdown), None);
            }
        }
        self.feed(event);
    }

    fn open_stay(&mut self, name: &TicketId) -> Option<&mut Stay> {
        self.stays
            .get_mut(name)?
            .last_mut()
            .filter(|stay| stay.end.is_none())
    }

    fn end_stay(&mut self, name: &TicketId, code: Option<FailCode>, outcome: Option<Arc<Outcome>>) {
        let sent_before = self.outcomes_sent;
        let stay = self
            .open_stay(name)
            .unwrap_or_else(|| panic!("{name} ends though it is not here"));
        stay.end = Some(End {
            code,
            outcome,
            sent: false,
            delivered: false,
            proven: false,
            sent_before,
        });
        self.open.retain(|open| open != name);
    }

    fn is_hub(&self) -> bool {
        self.dialect == Dialect::Hub
    }

    /// What the session learns from a Pong, or from an acknowledgement.
    fn prove(&mut self, which: impl Fn(&TicketId, u64) -> bool) {
        let sent = self
            .link
            .as_ref()
            .map(|link| link.sent.clone())
            .unwrap_or_default();
        for (name, _) in sent.into_iter().filter(|(name, ping)| which(name, *ping)) {
            let ends = self
                .stays
                .get_mut(&name)
                .into_iter()
                .flatten()
                .filter_map(|stay| stay.end.as_mut());
            ends.filter(|end| end.sent)
                .for_each(|end| end.proven = true);
        }
    }

    fn undelivered(&self) -> usize {
        self.stays
            .values()
            .flatten()
            .filter(|stay| !stay.end.as_ref().is_some_and(|end| end.delivered))
            .count()
    }

    /// Gives the session an event, after the model knows what must come of it, and checks everything.
    fn feed(&mut self, event: Event) {
        if self.exit.is_some() {
            return;
        }
        self.seen.events += 1;
        self.quota.0 = self.quota.0.filter(|until| *until > self.clock.now().wall);
        let expected = self.expect(&event);
        self.give_up_if_due();
        let actions = on(&mut self.session, &mut self.disk, self.clock.now(), event);
        let mut answer = Answer::default();
        for action in actions {
            assert!(self.exit.is_none(), "after the exit: {action:?}");
            let registers = matches!(action, Action::Send(Message::Register(_)) | Action::Log(..));
            assert!(
                registers || !self.owes_register,
                "the outcome is not followed by a register but by {action:?}"
            );
            self.take(action, &expected, &mut answer);
        }
        assert!(
            !self.owes_register,
            "the outcome is not followed by a register"
        );
        self.check_answer(&expected, &answer);
        if self.exit.is_none() {
            self.check_state();
        }
    }

    fn expect(&mut self, event: &Event) -> Expected {
        match event {
            Event::Connected(_) => {
                self.dialing = false;
                self.link = Some(Link::default());
                Expected::Nothing
            }
            Event::Backend(Order::Assigned(ticket)) => self.expect_of_assignment(ticket),
            Event::Pong(number) => {
                self.prove(|_, ping| ping < *number);
                Expected::Nothing
            }
            Event::Backend(Order::Ack(id, _)) if self.is_hub() => {
                self.prove(|name, _| name == id);
                Expected::Nothing
            }
            Event::Backend(Order::Unusable(id, attempt, _)) => {
                self.expect_of_unusable(id, *attempt)
            }
            Event::Backend(Order::Cancel(id, _)) => match self.open_stay(id).map(|stay| stay.run) {
                Some(Some(run)) => {
                    self.open_stay(id)
                        .into_iter()
                        .for_each(|stay| stay.cancelled = true);
                    Expected::Stop(run)
                }
                Some(None) => {
                    self.end_stay(id, Some(FailCode::Cancelled), None);
                    Expected::Nothing
                }
                None => Expected::Nothing,
            },
            Event::Job(run, JobEvent::Finished(outcome)) => {
                let slot = self
                    .slots
                    .iter_mut()
                    .find(|slot| slot.as_ref().is_some_and(|(_, own)| own == run));
                if let Some((name, _)) = slot.and_then(Option::take) {
                    let code = outcome.failure.as_ref().map(|failure| failure.code);
                    self.end_stay(&name, code, Some(outcome.clone()));
                    self.expect_of_quota(outcome);
                }
                Expected::Nothing
            }
            Event::Stop
            | Event::Disconnected(Setback::TokenRejected(_) | Setback::VersionRefused(_)) => {
                Expected::StopAll
            }
            _ => Expected::Nothing,
        }
    }

    /// Without a quota nothing starts, and what waits ends.
    fn expect_of_quota(&mut self, outcome: &Outcome) {
        let now = self.clock.now().wall;
        match &outcome.failure {
            None => self.quota.1 = 0,
            Some(Failure {
                code: FailCode::QuotaExceeded,
                available_at,
                ..
            }) => {
                match available_at.filter(|at| *at > now) {
                    Some(told) => self.quota.0 = Some(told),
                    None if self.quota.0.is_none() => {
                        let minutes = (15 << self.quota.1).min(240);
                        self.quota = (
                            Some(now + Duration::from_secs(60 * minutes)),
                            self.quota.1 + 1,
                        );
                    }
                    None => {}
                }
                for name in self.open.clone() {
                    // The hub would take that for the end, so they wait.
                    if !self.is_hub()
                        && self.open_stay(&name).is_some_and(|stay| stay.run.is_none())
                    {
                        self.end_stay(&name, Some(FailCode::QuotaExceeded), None);
                        self.seen.withdrawn += 1;
                    }
                }
            }
            Some(_) => {}
        }
    }

    fn expect_of_assignment(&mut self, ticket: &Ticket) -> Expected {
        let (name, attempt) = (ticket.id.clone(), ticket.attempt);
        if let Some(stay) = self.open_stay(&name) {
            if attempt < stay.attempt {
                return Expected::Nothing;
            }
            stay.attempt = attempt;
            return Expected::ClaimAgain(name, attempt);
        }
        let repo = match &ticket.repo {
            RepoRef::Path { resolved, .. } => resolved.clone(),
            RepoRef::Slug(slug) => PathBuf::from(slug.replace("acme/", "/repos/")),
        };
        let (known_role, known_repo) = (
            ["dev", "qa"].contains(&ticket.role.as_str()),
            self.repos.contains(&repo),
        );
        let offer = Offer {
            name: name.clone(),
            attempt,
            repo,
            limit: ticket.time_limit,
        };
        match self.remembers(&name, attempt) {
            Some(true) => return Expected::Nothing,
            None => return Expected::AnyAnswer(offer),
            Some(false) => {}
        }
        let running = self.slots.iter().flatten().count();
        let line_is_full = self.open.len() - running >= 16;
        let is_no_time = self.stopped_at.is_some() || self.quota.0.is_some();
        let is_full =
            line_is_full && running == self.slots.len() && (known_role, known_repo) == (true, true);
        if self.is_hub() && (is_no_time || is_full) {
            return Expected::Nothing;
        }
        match (known_role, known_repo) {
            _ if self.stopped_at.is_some() => {
                Expected::Refusal(name, attempt, &[FailCode::AgentShutdown])
            }
            _ if self.quota.0.is_some() => {
                Expected::Refusal(name, attempt, &[FailCode::QuotaExceeded])
            }
            (false, true) => Expected::Refusal(name, attempt, &[FailCode::RoleNotAllowed]),
            (true, false) => Expected::Refusal(name, attempt, &[FailCode::RepoNotAllowed]),
            (false, false) => Expected::Refusal(
                name,
                attempt,
                &[FailCode::RoleNotAllowed, FailCode::RepoNotAllowed],
            ),
            (true, true) if !line_is_full => Expected::Claim(offer),
            (true, true) if running == self.slots.len() => {
                Expected::Refusal(name, attempt, &[FailCode::AtCapacity])
            }
            // A slot is free, though sixteen wait for a repository.
            (true, true) => Expected::AnyAnswer(offer),
        }
    }

    fn expect_of_unusable(&mut self, name: &TicketId, attempt: u32) -> Expected {
        const INVALID: &[FailCode] = &[FailCode::InvalidTicket];
        if self.open_stay(name).is_some() {
            return Expected::Nothing;
        }
        match self.remembers(name, attempt) {
            Some(true) => Expected::Nothing,
            Some(false) => Expected::Refusal(name.clone(), attempt, INVALID),
            None => Expected::AnyAnswer(Offer {
                name: name.clone(),
                attempt,
                repo: PathBuf::new(),
                limit: None,
            }),
        }
    }

    /// Whether this attempt has ended here; `None` where the outcome may have been forgotten behind many others.
    fn remembers(&self, name: &TicketId, attempt: u32) -> Option<bool> {
        let mut covering = self
            .stays
            .get(name)
            .into_iter()
            .flatten()
            .filter(|stay| attempt <= stay.attempt)
            .peekable();
        if covering.peek().is_none() {
            return Some(false);
        }
        let kept = |stay: &Stay| {
            stay.end
                .as_ref()
                .is_some_and(|end| end.sent_before + REMEMBERED > self.outcomes_sent)
        };
        covering.any(kept).then_some(true)
    }

    /// Runs that did not end in time are answered without them.
    fn give_up_if_due(&mut self) {
        if self
            .stopped_at
            .is_none_or(|at| at + GIVEN_UP_AFTER > self.clock.now().mono)
        {
            return;
        }
        for slot in 0..self.slots.len() {
            if let Some((name, _)) = self.slots[slot].take() {
                self.end_stay(&name, Some(FailCode::AgentShutdown), None);
                self.seen.given_up += 1;
            }
        }
    }

    fn take(&mut self, action: Action, expected: &Expected, answer: &mut Answer) {
        match action {
            Action::Log(_)
            | Action::Effect(Effect::Show(_))
            | Action::Effect(Effect::Keep(_))
            | Action::Effect(Effect::Recall(_))
            | Action::Effect(Effect::LookForCli) => {}
            Action::Dial => {
                assert!(self.link.is_none() && !self.dialing, "dialed twice");
                self.dialing = true;
            }
            Action::Disconnect(goodbye) => {
                assert!(
                    self.link.take().is_some(),
                    "disconnected from nothing: {goodbye:?}"
                );
                self.seen.silences += u64::from(goodbye == Goodbye::Dead);
                self.said_goodbye |= goodbye == Goodbye::GoingAway;
            }
            Action::Ping(number) => {
                assert!(
                    number > self.last_ping,
                    "ping {number} after {}",
                    self.last_ping
                );
                self.last_ping = number;
                self.send(Frame::Ping(number), false);
            }
            Action::Send(message) => self.message(message, expected, answer),
            Action::Effect(Effect::Start { slot, job, offline }) => {
                assert_eq!(
                    offline,
                    self.link.is_none(),
                    "{} starts offline",
                    job.ticket.id
                );
                assert!(
                    self.quota.0.is_none(),
                    "{} starts without a quota",
                    job.ticket.id
                );
                let Job {
                    run,
                    ticket,
                    repo,
                    time_limit,
                } = *job;
                assert!(
                    self.stopped_at.is_none(),
                    "{} starts though the daemon stops",
                    ticket.id
                );
                assert!(
                    self.slots[slot].is_none(),
                    "{} starts in a slot that is taken",
                    ticket.id
                );
                assert!(self.runs.insert(run), "a run id for the second time");
                assert!(
                    !self.busy(&repo.path),
                    "a second run in {}",
                    repo.path.display()
                );
                self.seen.together += u64::from(self.runs_in(&repo.path) > 0);
                let stay = self
                    .open_stay(&ticket.id)
                    .unwrap_or_else(|| panic!("{} starts without a claim", ticket.id));
                assert_eq!(
                    (stay.run, stay.attempt, &stay.repo),
                    (None, ticket.attempt, &repo.path),
                    "{}",
                    ticket.id
                );
                let limit = stay.limit.map_or(ROLE_LIMIT, |asked| asked.min(ROLE_LIMIT));
                assert_eq!(time_limit, limit, "{}", ticket.id);
                stay.run = Some(run);
                self.slots[slot] = Some((ticket.id, run));
                self.seen.runs += 1;
            }
            Action::Effect(Effect::Stop(slot, run, reason)) => {
                let running = self.slots[slot].as_ref().map(|(_, run)| *run);
                assert_eq!(
                    running,
                    Some(run),
                    "slot {slot} is told to stop another run"
                );
                match expected {
                    Expected::Stop(own) => assert_eq!((run, reason), (*own, StopReason::Cancelled)),
                    Expected::StopAll => assert_eq!(reason, StopReason::Shutdown),
                    other => panic!("a run is stopped, though {other:?}"),
                }
                answer.stops += 1;
            }
            Action::Exit(exit) => {
                self.check_exit();
                self.exit = Some(exit);
            }
        }
    }

    /// Whether a run is under way that another one in that repository has to wait for.
    fn busy(&self, repo: &Path) -> bool {
        !CLONED.iter().any(|name| repo.ends_with(name)) && self.runs_in(repo) > 0
    }

    fn runs_in(&self, repo: &Path) -> usize {
        let running = self
            .slots
            .iter()
            .flatten()
            .filter_map(|(name, _)| self.stays[name].last());
        running.filter(|stay| stay.repo == repo).count()
    }

    fn send(&mut self, frame: Frame, registers: bool) {
        let link = self
            .link
            .as_mut()
            .unwrap_or_else(|| panic!("sent while not connected: {frame:?}"));
        assert!(
            link.registered || registers,
            "sent before register: {frame:?}"
        );
        link.registered = true;
        link.on_its_way.push_back(frame);
    }

    fn message(&mut self, message: Message, expected: &Expected, answer: &mut Answer) {
        match message {
            Message::Register(register) => {
                let mut active: Vec<_> = register
                    .active
                    .into_iter()
                    .map(|a| (a.id, a.attempt))
                    .collect();
                let open = self
                    .open
                    .iter()
                    .map(|name| (name.clone(), self.stays[name].last().unwrap().attempt));
                let mut open: Vec<_> = open.collect();
                active.sort();
                open.sort();
                assert_eq!(active, open, "register: active tickets");
                let no_cli = self.cli.unavailable.is_some() || self.quota.0.is_some();
                let takes_none = no_cli || self.stopped_at.is_some();
                assert_eq!(register.roles.is_empty(), takes_none, "register: roles");
                assert!(
                    register.capacity.free <= register.capacity.max,
                    "register: capacity"
                );
                self.owes_register = false;
                self.send(Frame::Other, true);
            }
            Message::Heartbeat(beat) => {
                let (mut active, mut open) = (beat.active, self.open.clone());
                active.sort();
                open.sort();
                assert_eq!(active, open, "heartbeat: active tickets");
                self.send(Frame::Other, false);
            }
            Message::Claim(id, attempt, _) => {
                self.send(Frame::Other, false);
                answer.claims += 1;
                match expected {
                    Expected::ClaimAgain(name, wanted) => {
                        assert_eq!((&id, attempt), (name, *wanted));
                        self.seen.claims_again += 1;
                    }
                    Expected::Claim(offer) | Expected::AnyAnswer(offer) => {
                        assert_eq!((&id, attempt), (&offer.name, offer.attempt));
                        let (repo, limit) = (offer.repo.clone(), offer.limit);
                        let stay = Stay {
                            attempt,
                            repo,
                            limit,
                            run: None,
                            progress: 0,
                            cancelled: false,
                            end: None,
                        };
                        self.stays.entry(id.clone()).or_default().push(stay);
                        self.open.push(id);
                    }
                    other => panic!("{id} (attempt {attempt}) is claimed, though {other:?}"),
                }
            }
            Message::Progress(id, attempt, seq, _) => {
                self.send(Frame::Other, false);
                let stay = self
                    .open_stay(&id)
                    .unwrap_or_else(|| panic!("progress of {id}, which is not here"));
                stay.progress += 1;
                assert_eq!(
                    (attempt, seq),
                    (stay.attempt, stay.progress),
                    "progress of {id}"
                );
                assert!(
                    stay.run.is_some(),
                    "progress of {id}, which has not started"
                );
            }
            Message::Outcome(id, attempt, outcome) => {
                self.send(Frame::Outcome(id.clone(), outcome.clone(), attempt), false);
                self.outcome(&id, attempt, &outcome, expected, answer);
            }
        }
    }

    /// Each outcome is the one end of one stay, or else the refusal that was expected.
    fn outcome(
        &mut self,
        id: &TicketId,
        attempt: u32,
        outcome: &Arc<Outcome>,
        expected: &Expected,
        answer: &mut Answer,
    ) {
        self.outcomes_sent += 1;
        self.owes_register = self.is_hub();
        let code = outcome.failure.as_ref().map(|failure| failure.code);
        let ended = self.stays.get_mut(id).into_iter().flatten();
        let mut ended: Vec<_> = ended
            .filter_map(|stay| Some((stay.attempt, stay.end.as_mut()?)))
            .collect();
        let known = ended.iter().position(|(_, end)| {
            end.outcome
                .as_ref()
                .is_some_and(|own| Arc::ptr_eq(own, outcome))
        });
        let owed = || {
            ended
                .iter()
                .position(|(own, end)| end.outcome.is_none() && (*own, end.code) == (attempt, code))
        };
        if let Some(at) = known.or_else(owed) {
            let (own, end) = &mut ended[at];
            assert_eq!(
                (*own, end.code),
                (attempt, code),
                "{id}: another outcome than its own"
            );
            if let (Dialect::Hub, Some(link)) = (self.dialect, &mut self.link) {
                assert!(!end.proven, "{id}: sent again, though it has arrived");
                assert!(
                    link.sent.iter().all(|(name, _)| name != id),
                    "{id}: sent twice on one connection"
                );
                link.sent.push((id.clone(), self.last_ping));
            }
            end.outcome = Some(outcome.clone());
            self.seen.outcomes_again += u64::from(end.sent);
            end.sent = true;
            return;
        }
        let refused = match expected {
            Expected::Refusal(name, wanted, codes) => {
                id == name && attempt == *wanted && code.is_some_and(|code| codes.contains(&code))
            }
            Expected::AnyAnswer(offer) => {
                id == &offer.name && attempt == offer.attempt && code.is_some()
            }
            _ => false,
        };
        assert!(
            refused,
            "{id} (attempt {attempt}) ends with {code:?}, though {expected:?}"
        );
        answer.refusals += 1;
        self.seen.refusals += 1;
        self.seen.full += u64::from(code == Some(FailCode::AtCapacity));
    }

    fn check_answer(&self, expected: &Expected, answer: &Answer) {
        let right = match expected {
            Expected::Nothing => (answer.claims, answer.refusals, answer.stops) == (0, 0, 0),
            Expected::ClaimAgain(..) | Expected::Claim(_) => {
                (answer.claims, answer.refusals) == (1, 0)
            }
            Expected::Refusal(..) => (answer.claims, answer.refusals) == (0, 1),
            Expected::AnyAnswer(_) => answer.claims + answer.refusals <= 1,
            Expected::Stop(_) => answer.stops == 1,
            Expected::StopAll => answer.stops == self.slots.iter().flatten().count(),
        };
        assert!(right, "{expected:?} was to come, and {answer:?} came");
    }

    fn check_state(&self) {
        let now = self.clock.now().mono;
        let running = self.slots.iter().flatten().count();
        assert!(
            self.open.len() - running <= 16,
            "{} tickets wait",
            self.open.len() - running
        );
        if self.stopped_at.is_none() && self.quota.0.is_none() && running < self.slots.len() {
            for name in &self.open {
                let stay = self.stays[name].last().unwrap();
                assert!(
                    stay.run.is_some() || self.busy(&stay.repo),
                    "{name} could run and does not"
                );
            }
        }
        let deadline = self.session.deadline();
        assert!(
            deadline.is_none_or(|at| at > now),
            "the deadline has passed, and a tick did not change it"
        );
        let latest = match (&self.link, self.dialing, self.stopped_at) {
            (_, _, Some(at)) => Some(at + GIVEN_UP_AFTER + FLUSH_LIMIT),
            (Some(_), _, None) => Some(now + DEAD_AFTER),
            (None, false, None) => Some(now + LONGEST_WAIT),
            (None, true, None) => None,
        };
        let in_time = |latest| deadline.is_some_and(|at| at <= latest);
        assert!(
            latest.is_none_or(in_time),
            "it would sleep through what it waits for: {deadline:?}"
        );
    }

    /// A daemon that exits while connected has sent every outcome, and has waited for the proof as long as it may.
    fn check_exit(&self) {
        let Some(stopped_at) = self.stopped_at else {
            panic!("nobody asked for the exit")
        };
        assert!(
            self.link.is_none(),
            "the connection is left without a goodbye"
        );
        if self.said_goodbye && !self.large {
            let mut ends = self
                .stays
                .values()
                .flatten()
                .filter_map(|stay| stay.end.as_ref());
            assert!(ends.all(|end| end.sent), "an outcome was never sent");
            let waited = self.clock.now().mono >= stopped_at + FLUSH_LIMIT;
            assert!(
                waited || self.undelivered() == 0,
                "an outcome was not waited for"
            );
        }
    }

    fn check_ends(&self) {
        assert!(
            self.slots.iter().all(Option::is_none),
            "a run is left behind"
        );
        assert!(
            self.open.is_empty(),
            "tickets without an end: {:?}",
            self.open
        );
    }
}
