//! Tables of events and invented times: each rule of the protocol that the session owns.
//!
//! A table is a list of steps, each with what the session asks for in answer. Log lines are left out.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use wf0_agent::domain::Now;
use wf0_agent::domain::event::{
    Action, DaemonEnd, Effect, Event, Goodbye, JobEvent, Order, Setback,
};
use wf0_agent::domain::message::{
    Capacity, CliState, Dialect, Heartbeat, Level, Message, Notice, Register, Status, Unavailable,
};
use wf0_agent::domain::repos::RepoRef;
use wf0_agent::domain::session::{Policy, Session};
use wf0_agent::domain::text::Excerpt;
use wf0_agent::domain::ticket::{
    Changes, FailCode, Job, Outcome, Phase, Progress, RunId, StopReason, Ticket,
};

use super::support::{
    Clock, Disk, ROLE_LIMIT, at_path, cli, done, failed, id, in_clones, on, policy, quota_exceeded,
    role, ticket,
};

const REPOS: [&str; 4] = ["app", "web", "api", "docs"];

/// A session, its time, and what a test has to remember of it.
struct Fixture {
    session: Session,
    disk: Disk,
    clock: Clock,
    /// The newest run of each ticket.
    runs: HashMap<String, RunId>,
    /// What the backend speaks.
    dialect: Dialect,
}

impl Fixture {
    fn new(policy: Policy) -> Self {
        let clock = Clock::new();
        let session = Session::new(policy, clock.now());
        Self {
            session,
            disk: Disk::default(),
            clock,
            runs: HashMap::new(),
            dialect: Dialect::Ticket,
        }
    }

    /// Connected and registered.
    fn online(slots: usize) -> Self {
        Self::online_with(Dialect::Ticket, slots)
    }

    fn online_with(dialect: Dialect, slots: usize) -> Self {
        let mut fixture = Self {
            dialect,
            ..Self::new(policy(slots, &REPOS, 1))
        };
        fixture.step("wait 0");
        fixture.step("connect");
        fixture
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        let now = self.now();
        let actions = on(&mut self.session, &mut self.disk, now, event);
        for action in &actions {
            if let Action::Effect(Effect::Start { job, .. }) = action {
                self.runs.insert(job.ticket.id.to_string(), job.run);
            }
        }
        actions
    }

    /// Lets time pass as the event loop does: a tick at each deadline on the way, and one at the end.
    fn wait(&mut self, time: Duration) -> Vec<Action> {
        let until = self.now().mono + time;
        let mut actions = Vec::new();
        for _ in 0..1000 {
            let Some(at) = self.session.deadline().filter(|at| *at < until) else {
                self.clock.advance_to(until);
                actions.extend(self.on(Event::Tick));
                return actions;
            };
            self.clock.advance_to(at);
            actions.extend(self.on(Event::Tick));
        }
        panic!("a deadline never passes");
    }

    /// How long the session wants to wait before it does anything.
    fn pause(&self) -> Duration {
        self.session.deadline().map_or(Duration::MAX, |at| {
            at.saturating_duration_since(self.now().mono)
        })
    }

    /// Carries out one step, as written in a table, and says what came of it.
    fn step(&mut self, step: &str) -> String {
        let words: Vec<&str> = step.split(' ').collect();
        let actions = match words[..] {
            ["wait", seconds] => self.wait(seconds_of(seconds)),
            // Nothing was seen of the time between.
            ["sleep", seconds] => {
                self.clock.advance(seconds_of(seconds));
                self.on(Event::Tick)
            }
            // The machine slept: only the time of the day has gone on.
            ["suspend", seconds] => {
                self.clock.sleep(seconds_of(seconds));
                self.on(Event::Tick)
            }
            ["connect"] => self.on(Event::Connected(self.dialect)),
            ["lost"] => self.on(Event::Disconnected(Setback::Failed("reset".to_owned()))),
            ["retry-after", seconds] => {
                let at_least = seconds_of(seconds);
                self.on(Event::Disconnected(Setback::Wait {
                    why: "503".to_owned(),
                    at_least,
                }))
            }
            ["rejected"] => self.on(Event::Disconnected(Setback::TokenRejected(
                "401".to_owned(),
            ))),
            ["version"] => self.on(Event::Disconnected(Setback::VersionRefused(
                "426".to_owned(),
            ))),
            ["heard"] => self.on(Event::Heard),
            ["pong", number] => self.on(Event::Pong(number.parse().unwrap())),
            ["assign", name, ref details @ ..] => self.on(assigned(assignment(name, details))),
            ["unusable", name] => {
                let (name, attempt) = name_and_attempt(name);
                self.on(Event::Backend(Order::Unusable(
                    id(name),
                    attempt,
                    "no role".to_owned(),
                )))
            }
            ["cancel", name] => self.on(Event::Backend(Order::Cancel(
                id(name),
                "changed".to_owned(),
            ))),
            ["ack", name] => {
                let attempt = name.contains('#').then(|| name_and_attempt(name).1);
                self.on(Event::Backend(Order::Ack(
                    id(name_and_attempt(name).0),
                    attempt,
                )))
            }
            ["server.shutdown", seconds] => {
                self.on(Event::Backend(Order::ServerShutdown(seconds_of(seconds))))
            }
            ["progress", name] => self.progress(self.runs[name]),
            ["finish", name] => {
                self.on(Event::Job(self.runs[name], JobEvent::Finished(done(name))))
            }
            ["fail", name] => self.on(Event::Job(
                self.runs[name],
                JobEvent::Finished(failed(FailCode::CliExit)),
            )),
            ["quota", name] => self.quota_gone(name, None),
            // The CLI says in how many seconds the quota is back.
            ["quota", name, seconds] => self.quota_gone(name, Some(seconds_of(seconds))),
            ["cli", "gone"] => self.on(Event::Cli(CliState {
                unavailable: Some(Unavailable::NotFound),
                ..cli()
            })),
            ["cli", "back"] => self.on(Event::Cli(cli())),
            ["stop"] => self.on(Event::Stop),
            _ => panic!("no such step: {step}"),
        };
        actions
            .iter()
            .filter_map(|action| self.describe(action))
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// How long there are no roles after a run that does not say when the quota is back.
    fn minutes_without_quota(&mut self, name: &str) -> u64 {
        self.step(&format!("assign {name}"));
        self.step(&format!("quota {name}"));
        let since = self.now().mono;
        loop {
            self.step("heard");
            let pause = self.pause();
            if self
                .step(&format!("wait {}", pause.as_secs_f64()))
                .contains("register")
            {
                return (self.now().mono - since).as_secs() / 60;
            }
        }
    }

    fn progress(&mut self, run: RunId) -> Vec<Action> {
        let elapsed = Duration::from_secs(10);
        let progress = Progress {
            phase: Phase::Running,
            elapsed,
            stdout_bytes: 3,
            lines: vec!["ok".to_owned()],
        };
        self.on(Event::Job(run, JobEvent::Progress(progress)))
    }

    fn quota_gone(&mut self, name: &str, back_after: Option<Duration>) -> Vec<Action> {
        let outcome = quota_exceeded(back_after.map(|after| self.now().wall + after));
        self.on(Event::Job(self.runs[name], JobEvent::Finished(outcome)))
    }

    fn describe(&self, action: &Action) -> Option<String> {
        Some(match action {
            Action::Log(_)
            | Action::Effect(Effect::Show(_))
            | Action::Effect(Effect::Keep(_))
            | Action::Effect(Effect::Recall(_))
            | Action::Effect(Effect::LookForCli) => {
                return None;
            }
            Action::Dial => "dial".to_owned(),
            Action::Ping(number) => format!("ping {number}"),
            Action::Disconnect(Goodbye::Normal) => "close normal".to_owned(),
            Action::Disconnect(Goodbye::GoingAway) => "close away".to_owned(),
            Action::Disconnect(Goodbye::Dead) => "close dead".to_owned(),
            Action::Effect(Effect::Start { slot, job, offline }) => {
                let offline = if *offline { " offline" } else { "" };
                format!(
                    "start {slot} {}#{}{offline}",
                    job.ticket.id, job.ticket.attempt
                )
            }
            Action::Effect(Effect::Stop(slot, run, reason)) => {
                let name = self
                    .runs
                    .iter()
                    .find(|(_, own)| *own == run)
                    .map_or("?", |(name, _)| name);
                let reason = match reason {
                    StopReason::Cancelled => "cancelled",
                    StopReason::Shutdown => "shutdown",
                };
                format!("stop {slot} {name} {reason}")
            }
            Action::Exit(DaemonEnd::Asked) => "exit asked".to_owned(),
            Action::Exit(DaemonEnd::TokenRejected) => "exit token rejected".to_owned(),
            Action::Exit(DaemonEnd::VersionRefused) => "exit version refused".to_owned(),
            Action::Send(message) => describe_message(message),
        })
    }
}

fn describe_message(message: &Message) -> String {
    match message {
        Message::Register(register) => {
            let roles = if register.roles.is_empty() {
                " (no roles)"
            } else {
                ""
            };
            let active = register
                .active
                .iter()
                .map(|a| format!(" {}#{}", a.id, a.attempt))
                .collect::<String>();
            format!("register{roles}{active}")
        }
        Message::Heartbeat(Heartbeat { status, active, .. }) => {
            let status = match status {
                Status::Ready => "ready",
                Status::Draining => "draining",
                Status::Degraded => "degraded",
            };
            format!(
                "beat {status}{}",
                active.iter().map(|id| format!(" {id}")).collect::<String>()
            )
        }
        Message::Claim(id, attempt, _) => format!("claim {id}#{attempt}"),
        Message::Progress(id, attempt, seq, _) => format!("progress {id}#{attempt} {seq}"),
        Message::Outcome(id, attempt, outcome) => match &outcome.failure {
            None => format!("result {id}#{attempt}"),
            Some(failure) => format!("fail {id}#{attempt} {}", failure.code),
        },
    }
}

fn seconds_of(text: &str) -> Duration {
    Duration::from_secs_f64(text.parse().unwrap())
}

/// `A#2` is the second attempt of `A`; `A` is the first.
fn name_and_attempt(text: &str) -> (&str, u32) {
    text.split_once('#').map_or((text, 1), |(name, attempt)| {
        (name, attempt.parse().unwrap())
    })
}

/// `A#2 in web as qa limit 60`: everything but the name may be left out.
fn assignment(name: &str, details: &[&str]) -> Ticket {
    let (name, attempt) = name_and_attempt(name);
    let mut ticket = ticket(name, attempt);
    for detail in details.chunks(2) {
        match *detail {
            ["in", path] if path.starts_with('/') => ticket.repo = at_path(path),
            ["in", name] => ticket.repo = RepoRef::Slug(format!("acme/{name}")),
            ["as", name] => ticket.role = role(name),
            ["limit", seconds] => ticket.time_limit = Some(seconds_of(seconds)),
            _ => panic!("no such detail: {detail:?}"),
        }
    }
    ticket
}

fn assigned(ticket: Ticket) -> Event {
    Event::Backend(Order::Assigned(Box::new(ticket)))
}

type Rule<'a> = (&'a str, usize, &'a [(&'a str, &'a str)]);

/// Plays each rule on its own session, which is online and has that number of slots.
fn play(rules: &[Rule<'_>]) {
    play_with(Dialect::Ticket, rules);
}

fn play_with(dialect: Dialect, rules: &[Rule<'_>]) {
    for (label, slots, steps) in rules {
        let mut fixture = Fixture::online_with(dialect, *slots);
        for (at, (step, wanted)) in steps.iter().enumerate() {
            assert_eq!(
                fixture.step(step),
                *wanted,
                "{label}: step {}: {step}",
                at + 1
            );
        }
    }
}

fn within(time: Duration, bounds: RangeInclusive<f64>) -> bool {
    bounds.contains(&time.as_secs_f64())
}

fn starts(actions: &[Action]) -> Vec<&Job> {
    let jobs = actions.iter().map(|action| match action {
        Action::Effect(Effect::Start { job, .. }) => Some(&**job),
        _ => None,
    });
    jobs.flatten().collect()
}

fn registers(actions: Vec<Action>) -> Vec<Register> {
    let register = |action| match action {
        Action::Send(Message::Register(register)) => Some(register),
        _ => None,
    };
    actions.into_iter().filter_map(register).collect()
}

/// The daemon dials at once and says `agent.register` before anything else on every connection.
#[test]
fn register_comes_first() {
    let mut fixture = Fixture::new(policy(1, &REPOS, 1));
    let steps = [
        ("wait 0", "dial"),
        ("wait 5", ""),
        ("connect", "register"),
        ("assign A", "claim A#1; start 0 A#1"),
        ("lost", ""),
        ("wait 1", "dial"),
        ("connect", "register A#1"),
        ("assign B in web", "claim B#1"),
        ("finish A", "result A#1; ping 1; start 0 B#1"),
        ("lost", ""),
        ("wait 2", "dial"),
        ("connect", "register B#1; result A#1; ping 2"),
    ];
    for (step, wanted) in steps {
        let mut got: Vec<_> = fixture.step(step).split("; ").map(str::to_owned).collect();
        let mut wanted: Vec<_> = wanted.split("; ").collect();
        // Whether the freed slot is filled before the outcome is sent does not matter; the rest of the order does.
        if step.starts_with("finish") {
            got.sort();
            wanted.sort_unstable();
        }
        assert_eq!(got, wanted, "{step}");
    }
}

/// `agent.register` names the roles, the repositories, the CLI, the capacity, and the claimed tickets with the time
/// of their claim.
#[test]
fn register_says_all_there_is() {
    let mut fixture = Fixture::online(2);
    fixture.wait(Duration::from_secs(3));
    fixture.step("assign A");
    fixture.wait(Duration::from_secs(4));
    fixture.step("assign B#7");
    fixture.step("lost");
    let register = registers(fixture.on(Event::Connected(Dialect::Ticket))).remove(0);
    assert_eq!(register.roles, [role("dev"), role("qa")]);
    assert_eq!(register.repos, REPOS.map(super::support::repo));
    assert_eq!(register.cli, cli());
    assert_eq!(register.capacity, Capacity { max: 2, free: 1 });
    let active = register.active.iter().map(|ticket| {
        let claimed_at = ticket.claimed_at.duration_since(SystemTime::UNIX_EPOCH);
        (
            ticket.id.as_str(),
            ticket.attempt,
            claimed_at.unwrap().as_secs(),
        )
    });
    assert_eq!(active.collect::<Vec<_>>(), [("A", 1, 3), ("B", 7, 7)]);
}

/// Each time in a message is the wall clock's time of the event.
#[test]
fn moments_are_of_the_wall_clock() {
    let mut fixture = Fixture::online(1);
    fixture.clock.advance(Duration::from_millis(1234));
    let claim = fixture.on(assigned(ticket("A", 1)));
    let wall = fixture.now().wall;
    assert_eq!(wall, SystemTime::UNIX_EPOCH + Duration::from_millis(1234));
    let claimed = Action::Send(Message::Claim(id("A"), 1, wall));
    assert!(claim.contains(&claimed), "{claim:?}");
    fixture.clock.advance(Duration::from_secs(10));
    let wall = fixture.now().wall;
    let beats = fixture.on(Event::Tick);
    let beat = |action: &Action| matches!(action, Action::Send(Message::Heartbeat(beat)) if beat.at == wall);
    assert!(beats.iter().any(beat), "{beats:?}");
}

/// An accepted ticket is claimed before anything of it starts.
#[test]
fn accepted_tickets_are_claimed_first() {
    play(&[
        ("free slot", 1, &[("assign A", "claim A#1; start 0 A#1")]),
        ("attempt", 1, &[("assign A#3", "claim A#3; start 0 A#3")]),
        (
            "no free slot",
            1,
            &[
                ("assign A", "claim A#1; start 0 A#1"),
                ("assign B in web", "claim B#1"),
            ],
        ),
        (
            "by path",
            1,
            &[("assign A in /repos/web", "claim A#1; start 0 A#1")],
        ),
        (
            "other role",
            1,
            &[("assign A as qa", "claim A#1; start 0 A#1")],
        ),
        (
            "long form of a role",
            1,
            &[("assign A as dev_agent", "claim A#1; start 0 A#1")],
        ),
        (
            "two slots",
            2,
            &[
                ("assign A", "claim A#1; start 0 A#1"),
                ("assign B in web", "claim B#1; start 1 B#1"),
                ("wait 1", ""),
            ],
        ),
    ]);
}

/// A worker gets the ticket with the repository found for it, under a run id that no other run has.
#[test]
fn a_job_holds_what_was_accepted() {
    let mut fixture = Fixture::online(4);
    let mut runs = Vec::new();
    for (name, repo) in [("A", "app"), ("B", "web"), ("C", "api"), ("D", "docs")] {
        let wanted = assignment(name, &["in", repo, "as", "qa"]);
        let actions = fixture.on(assigned(wanted.clone()));
        let jobs = starts(&actions);
        assert_eq!(jobs.len(), 1, "{name}");
        assert_eq!(
            (&jobs[0].ticket, &jobs[0].repo),
            (&wanted, &super::support::repo(repo)),
            "{name}"
        );
        assert!(
            !runs.contains(&jobs[0].run),
            "{name}: the run id was used before"
        );
        runs.push(jobs[0].run);
    }
}

/// A ticket may shorten its role's time limit and never lengthen it.
#[test]
fn a_ticket_can_only_shorten_the_limit() {
    let rows = [
        ("none asked", None, ROLE_LIMIT),
        ("shorter", Some(60), Duration::from_secs(60)),
        ("the same", Some(1800), ROLE_LIMIT),
        ("longer", Some(1801), ROLE_LIMIT),
        ("absurd", Some(u64::MAX), ROLE_LIMIT),
    ];
    for (label, asked, wanted) in rows {
        let mut fixture = Fixture::online(1);
        let ticket = Ticket {
            time_limit: asked.map(Duration::from_secs),
            ..ticket("A", 1)
        };
        let actions = fixture.on(assigned(ticket));
        assert_eq!(starts(&actions)[0].time_limit, wanted, "{label}");
    }
}

/// A refusal is a `ticket.fail` without a claim, is not kept, and does not stand in the way of a better assignment.
#[test]
fn refusals_have_no_claim() {
    let good = ("assign A", "claim A#1; start 0 A#1");
    let none = ("wait 10", "beat ready; ping 1");
    play(&[
        (
            "role",
            1,
            &[("assign A as ops", "fail A#1 role_not_allowed"), none, good],
        ),
        (
            "slug",
            1,
            &[
                ("assign A in secret", "fail A#1 repo_not_allowed"),
                none,
                good,
            ],
        ),
        (
            "path",
            1,
            &[
                ("assign A in /repos/secret", "fail A#1 repo_not_allowed"),
                none,
                good,
            ],
        ),
        (
            "path within",
            1,
            &[
                ("assign A in /repos/app/src", "fail A#1 repo_not_allowed"),
                none,
                good,
            ],
        ),
        (
            "path above",
            1,
            &[
                ("assign A in /repos", "fail A#1 repo_not_allowed"),
                none,
                good,
            ],
        ),
        (
            "unusable",
            1,
            &[("unusable A", "fail A#1 invalid_ticket"), none, good],
        ),
        (
            "unusable attempt",
            1,
            &[("unusable A#4", "fail A#4 invalid_ticket")],
        ),
        (
            "the same again",
            1,
            &[
                ("unusable A", "fail A#1 invalid_ticket"),
                ("unusable A", "fail A#1 invalid_ticket"),
            ],
        ),
        (
            "not sent again after a reconnect",
            1,
            &[
                ("assign A as ops", "fail A#1 role_not_allowed"),
                ("lost", ""),
                ("wait 1", "dial"),
                ("connect", "register"),
            ],
        ),
        (
            "others go on",
            1,
            &[
                good,
                ("assign B as ops", "fail B#1 role_not_allowed"),
                ("finish A", "result A#1; ping 1"),
            ],
        ),
    ]);
}

/// An assignment that cannot be used takes nothing away from a ticket of that name that is here or has ended.
#[test]
fn unusable_assignments_do_not_touch_a_known_ticket() {
    play(&[
        (
            "running",
            1,
            &[
                ("assign A", "claim A#1; start 0 A#1"),
                ("unusable A#2", ""),
                ("finish A", "result A#1; ping 1"),
            ],
        ),
        (
            "waiting",
            1,
            &[
                ("assign A", "claim A#1; start 0 A#1"),
                ("assign B", "claim B#1"),
                ("unusable B", ""),
                ("cancel B", "fail B#1 cancelled; ping 1"),
            ],
        ),
        (
            "ended",
            1,
            &[
                ("assign A", "claim A#1; start 0 A#1"),
                ("finish A", "result A#1; ping 1"),
                ("pong 1", ""),
                ("unusable A", ""),
                ("unusable A#2", "fail A#2 invalid_ticket"),
            ],
        ),
    ]);
}

/// Beyond the slots sixteen tickets may wait; the next is refused until a place is free.
#[test]
fn the_waiting_line_holds_sixteen() {
    for slots in [1, 2, 3] {
        let mut fixture = Fixture::online(slots);
        for (n, repo) in REPOS.iter().take(slots).enumerate() {
            let got = fixture.step(&format!("assign R{n} in {repo}"));
            assert_eq!(
                got,
                format!("claim R{n}#1; start {n} R{n}#1"),
                "{slots} slots"
            );
        }
        for n in 0..16 {
            assert_eq!(
                fixture.step(&format!("assign W{n}")),
                format!("claim W{n}#1"),
                "{slots} slots, place {n}"
            );
        }
        assert_eq!(
            fixture.step("assign X"),
            "fail X#1 at_capacity",
            "{slots} slots"
        );
        assert_eq!(
            fixture.step("assign X#2 in docs"),
            "fail X#2 at_capacity",
            "{slots} slots"
        );
        assert_eq!(
            fixture.step("cancel W3"),
            "fail W3#1 cancelled; ping 1",
            "{slots} slots"
        );
        assert_eq!(
            fixture.step("assign X"),
            "claim X#1",
            "{slots} slots: one was withdrawn"
        );
        assert_eq!(
            fixture.step("assign Y"),
            "fail Y#1 at_capacity",
            "{slots} slots: full again"
        );
        assert_eq!(
            fixture.step("finish R0"),
            "start 0 W0#1; result R0#1; ping 2",
            "{slots} slots"
        );
        assert_eq!(
            fixture.step("assign Y"),
            "claim Y#1",
            "{slots} slots: one has started"
        );
    }
}

/// In one repository tickets run one after the other, in their order, and other repositories do not wait for that.
#[test]
fn one_run_at_a_time_in_one_repository() {
    let two_in_app: [(&str, &str); 2] = [
        ("assign A", "claim A#1; start 0 A#1"),
        ("assign B", "claim B#1"),
    ];
    play(&[
        (
            "the second waits though a slot is free",
            2,
            &[two_in_app[0], two_in_app[1], ("wait 1", "")],
        ),
        (
            "it starts when the first has ended",
            2,
            &[
                two_in_app[0],
                two_in_app[1],
                ("finish A", "start 0 B#1; result A#1; ping 1"),
            ],
        ),
        (
            "another repository overtakes",
            2,
            &[
                two_in_app[0],
                two_in_app[1],
                ("assign C in web", "claim C#1; start 1 C#1"),
                ("finish C", "result C#1; ping 1"),
                ("finish A", "start 0 B#1; result A#1; ping 2"),
            ],
        ),
        (
            "slug and path are the same repository",
            2,
            &[
                ("assign A in app", "claim A#1; start 0 A#1"),
                ("assign B in /repos/app", "claim B#1"),
            ],
        ),
        (
            "first come, first served",
            1,
            &[
                ("assign A", "claim A#1; start 0 A#1"),
                ("assign B in web", "claim B#1"),
                ("assign C", "claim C#1"),
                ("assign D in api", "claim D#1"),
                ("fail A", "start 0 B#1; fail A#1 cli_exit; ping 1"),
                ("finish B", "start 0 C#1; result B#1; ping 2"),
                ("finish C", "start 0 D#1; result C#1; ping 3"),
            ],
        ),
    ]);
}

/// If each run has a clone, several tickets of one repository run at once. In a checkout that runs share, they run
/// one after the other, also beside a clone of it.
#[test]
fn in_clones_they_run_at_once() {
    let mut fixture = Fixture::new(in_clones(
        policy(3, &["app", "app/sub", "web"], 1),
        &["app"],
    ));
    fixture.step("wait 0");
    fixture.step("connect");
    assert_eq!(fixture.step("assign A"), "claim A#1; start 0 A#1");
    assert_eq!(
        fixture.step("assign B in app/sub"),
        "claim B#1; start 1 B#1"
    );
    assert_eq!(
        fixture.step("assign C in app/sub"),
        "claim C#1",
        "one at a time where it is worked in"
    );
    assert_eq!(fixture.step("assign D"), "claim D#1; start 2 D#1");
    assert_eq!(
        fixture.step("assign E"),
        "claim E#1",
        "never more than slots"
    );
    assert_eq!(fixture.step("finish A"), "start 0 E#1; result A#1; ping 1");
    assert_eq!(fixture.step("finish B"), "start 1 C#1; result B#1; ping 2");
}

/// A full line does not keep out a ticket that has a slot and a clone.
#[test]
fn a_clone_needs_no_place_in_a_full_line() {
    let mut fixture = Fixture::new(in_clones(policy(2, &["app", "web"], 1), &["web"]));
    fixture.step("wait 0");
    fixture.step("connect");
    for n in 0..=16 {
        fixture.step(&format!("assign W{n}"));
    }
    assert_eq!(fixture.step("assign X"), "fail X#1 at_capacity");
    assert_eq!(fixture.step("assign Y in web"), "claim Y#1; start 1 Y#1");
    assert_eq!(fixture.step("assign Z in web"), "fail Z#1 at_capacity");
}

/// A repository within another one waits for it, and the other way round: each would see the other's changes.
#[test]
fn repositories_within_each_other_take_turns() {
    for (outer, inner, other) in [("mono", "mono/sub", "mono2"), ("mono", "mono/a/b/c", "mon")] {
        for (first, second) in [(outer, inner), (inner, outer)] {
            let mut fixture = Fixture::new(policy(3, &[outer, inner, other], 1));
            fixture.step("wait 0");
            fixture.step("connect");
            assert_eq!(
                fixture.step(&format!("assign A in {first}")),
                "claim A#1; start 0 A#1",
                "{first}"
            );
            assert_eq!(
                fixture.step(&format!("assign B in {second}")),
                "claim B#1",
                "{second} beside {first}"
            );
            assert_eq!(
                fixture.step(&format!("assign C in {other}")),
                "claim C#1; start 1 C#1",
                "{other}"
            );
            assert_eq!(
                fixture.step("finish A"),
                "start 0 B#1; result A#1; ping 1",
                "{second} after {first}"
            );
        }
    }
}

/// The same attempt of a ticket that is here is claimed again and not run again; an older one is a late frame.
#[test]
fn repeated_assignments_do_not_run_twice() {
    let running = ("assign A", "claim A#1; start 0 A#1");
    play(&[
        (
            "running",
            2,
            &[
                running,
                ("assign A", "claim A#1"),
                ("assign A in web", "claim A#1"),
                ("finish A", "result A#1; ping 1"),
            ],
        ),
        (
            "waiting",
            1,
            &[
                running,
                ("assign B in web", "claim B#1"),
                ("assign B in web", "claim B#1"),
                ("finish A", "start 0 B#1; result A#1; ping 1"),
                ("finish B", "result B#1; ping 2"),
            ],
        ),
        (
            "newer while it runs: one run answers for both",
            2,
            &[
                running,
                ("assign A#2", "claim A#2"),
                ("finish A", "result A#2; ping 1"),
            ],
        ),
        (
            "newer while it waits",
            1,
            &[
                running,
                ("assign B in web", "claim B#1"),
                ("assign B#5 in web", "claim B#5"),
                ("finish A", "start 0 B#5; result A#1; ping 1"),
                ("finish B", "result B#5; ping 2"),
            ],
        ),
        (
            "older than the one that runs",
            1,
            &[
                ("assign A#3", "claim A#3; start 0 A#3"),
                ("assign A#2", ""),
                ("finish A", "result A#3; ping 1"),
            ],
        ),
        (
            "not even where it could not be accepted",
            1,
            &[
                running,
                ("assign A as ops", "claim A#1"),
                ("finish A", "result A#1; ping 1"),
            ],
        ),
    ]);
}

/// The same attempt of a ticket that has ended gets the stored outcome; a newer attempt is a new run.
#[test]
fn repeated_assignments_of_an_ended_ticket() {
    let ran: [(&str, &str); 2] = [
        ("assign A", "claim A#1; start 0 A#1"),
        ("finish A", "result A#1; ping 1"),
    ];
    let again = ("assign A", "result A#1; ping 2");
    play(&[
        (
            "delivered by pong",
            1,
            &[ran[0], ran[1], ("pong 1", ""), again],
        ),
        (
            "delivered by ack",
            1,
            &[ran[0], ran[1], ("ack A#1", ""), again],
        ),
        (
            "as often as it is asked for",
            1,
            &[
                ran[0],
                ran[1],
                ("pong 1", ""),
                again,
                ("pong 2", ""),
                ("assign A", "result A#1; ping 3"),
            ],
        ),
        (
            "a failure too",
            1,
            &[
                ran[0],
                ("fail A", "fail A#1 cli_exit; ping 1"),
                ("pong 1", ""),
                ("assign A", "fail A#1 cli_exit; ping 2"),
            ],
        ),
        (
            "withdrawn before it ran",
            1,
            &[
                ran[0],
                ("assign B", "claim B#1"),
                ("cancel B", "fail B#1 cancelled; ping 1"),
                ("pong 1", ""),
                ("assign B", "fail B#1 cancelled; ping 2"),
            ],
        ),
        (
            "newer attempt",
            1,
            &[
                ran[0],
                ran[1],
                ("pong 1", ""),
                ("assign A#2", "claim A#2; start 0 A#2"),
            ],
        ),
        (
            "newer attempt before delivery",
            1,
            &[ran[0], ran[1], ("assign A#2", "claim A#2; start 0 A#2")],
        ),
        (
            "the newest of two",
            1,
            &[
                ran[0],
                ran[1],
                ("assign A#2", "claim A#2; start 0 A#2"),
                ("fail A", "fail A#2 cli_exit; ping 2"),
                ("pong 2", ""),
                ("assign A#2", "fail A#2 cli_exit; ping 3"),
            ],
        ),
    ]);
}

/// An attempt that has ended is not run again, though an earlier one is still to be confirmed.
#[test]
fn the_newest_outcome_answers_while_an_older_is_pending() {
    play(&[(
        "only the newer is acknowledged",
        1,
        &[
            ("assign A", "claim A#1; start 0 A#1"),
            ("finish A", "result A#1; ping 1"),
            ("assign A#2", "claim A#2; start 0 A#2"),
            ("finish A", "result A#2; ping 2"),
            ("ack A#2", ""),
            ("assign A#2", "result A#2; ping 3"),
        ],
    )]);
}

/// An outcome answers a repeated assignment however large it is.
#[test]
fn a_large_outcome_is_kept_too() {
    let mut fixture = Fixture::online(1);
    fixture.step("assign A");
    let run = fixture.runs["A"];
    // The most that the settings allow of each.
    let stdout = Excerpt::from_bytes(&vec![b'x'; 4 << 20], b"", 4 << 20);
    let changes = Changes {
        diff: Some("x".repeat(4 << 20)),
        ..Changes::default()
    };
    let outcome = Arc::new(Outcome {
        stdout,
        changes,
        ..Outcome::default()
    });
    fixture.on(Event::Job(run, JobEvent::Finished(outcome)));
    assert_eq!(fixture.step("pong 1"), "");
    assert_eq!(fixture.step("assign A"), "result A#1; ping 2");
}

/// A cancelled run is stopped and reported once it has ended; a waiting one never starts; an unknown one is ignored.
#[test]
fn cancelling() {
    let running = ("assign A", "claim A#1; start 0 A#1");
    play(&[
        ("unknown", 1, &[("cancel A", ""), running]),
        (
            "running",
            1,
            &[
                running,
                ("cancel A", "stop 0 A cancelled"),
                ("fail A", "fail A#1 cli_exit; ping 1"),
            ],
        ),
        (
            "in the second slot",
            2,
            &[
                running,
                ("assign B in web", "claim B#1; start 1 B#1"),
                ("cancel B", "stop 1 B cancelled"),
            ],
        ),
        (
            "the slot is taken until it has ended",
            1,
            &[
                running,
                ("assign B in web", "claim B#1"),
                ("cancel A", "stop 0 A cancelled"),
                ("wait 5", ""),
                ("fail A", "start 0 B#1; fail A#1 cli_exit; ping 1"),
            ],
        ),
        (
            "a newer attempt meanwhile is another run",
            1,
            &[
                running,
                ("cancel A", "stop 0 A cancelled"),
                ("assign A#2", "claim A#2"),
                ("assign A#2", "claim A#2"),
                ("fail A", "start 0 A#2; fail A#1 cli_exit; ping 1"),
                ("cancel A", "stop 0 A cancelled"),
            ],
        ),
        (
            "waiting",
            1,
            &[
                running,
                ("assign B in web", "claim B#1"),
                ("cancel B", "fail B#1 cancelled; ping 1"),
                ("finish A", "result A#1; ping 2"),
            ],
        ),
        (
            "waiting under a newer attempt",
            1,
            &[
                running,
                ("assign B", "claim B#1"),
                ("assign B#2", "claim B#2"),
                ("cancel B", "fail B#2 cancelled; ping 1"),
            ],
        ),
        (
            "ended",
            1,
            &[
                running,
                ("finish A", "result A#1; ping 1"),
                ("cancel A", ""),
                ("pong 1", ""),
                ("cancel A", ""),
            ],
        ),
        (
            "assigned again after it was withdrawn",
            1,
            &[
                running,
                ("assign B", "claim B#1"),
                ("cancel B", "fail B#1 cancelled; ping 1"),
                ("assign B#2 in web", "claim B#2"),
                ("finish A", "start 0 B#2; result A#1; ping 2"),
            ],
        ),
    ]);
}

/// Every 10 s a heartbeat and a Ping go out, never earlier, and late ones are not made up for.
#[test]
fn heartbeats() {
    play(&[
        (
            "not early",
            1,
            &[("wait 9.999", ""), ("wait 0.001", "beat ready; ping 1")],
        ),
        (
            "again and again",
            1,
            &[
                ("wait 10", "beat ready; ping 1"),
                ("heard", ""),
                ("wait 9.999", ""),
                ("wait 0.001", "beat ready; ping 2"),
            ],
        ),
        (
            "with what is here",
            1,
            &[
                ("assign A", "claim A#1; start 0 A#1"),
                ("assign B", "claim B#1"),
                ("wait 10", "beat ready A B; ping 1"),
            ],
        ),
        (
            "one for a long sleep",
            1,
            &[
                ("sleep 24", "beat ready; ping 1"),
                ("heard", ""),
                ("wait 9.999", ""),
            ],
        ),
        (
            "none while not connected",
            1,
            &[("lost", ""), ("wait 1", "dial"), ("wait 60", "")],
        ),
        (
            "counted anew on a new connection",
            1,
            &[
                ("wait 9", ""),
                ("lost", ""),
                ("wait 1", "dial"),
                ("connect", "register"),
                ("wait 9.999", ""),
                ("wait 0.001", "beat ready; ping 1"),
            ],
        ),
    ]);
}

/// The hub wants a heartbeat every 30 s; the Pings that tell whether the link is alive go on every 10 s.
#[test]
fn heartbeats_of_the_hub() {
    let beats = [
        ("wait 10", "beat ready; ping 1"),
        ("heard", ""),
        ("wait 10", "ping 2"),
        ("heard", ""),
        ("wait 10", "ping 3"),
        ("heard", ""),
        ("wait 10", "beat ready; ping 4"),
    ];
    let anew = [
        ("wait 10", "beat ready; ping 1"),
        ("lost", ""),
        ("wait 1", "dial"),
        ("connect", "register"),
        ("wait 10", "beat ready; ping 2"),
    ];
    // It may have been forgotten by then.
    let slept = [
        ("wait 10", "beat ready; ping 1"),
        ("heard", ""),
        ("suspend 100", "beat ready; ping 2"),
        ("heard", ""),
        ("wait 10", "ping 3"),
    ];
    play_with(
        Dialect::Hub,
        &[
            ("every third", 1, &beats),
            ("anew on a new connection", 1, &anew),
            ("at once after a sleep", 1, &slept),
        ],
    );
}

/// The hub hands out what waits only on register: one follows each outcome and each refusal.
#[test]
fn the_hub_hears_a_register_after_each_outcome() {
    let ran: [(&str, &str); 2] = [
        ("assign A", "claim A#1; start 0 A#1"),
        ("finish A", "result A#1; register; ping 1"),
    ];
    play_with(
        Dialect::Hub,
        &[
            ("a result", 1, &ran),
            (
                "a failure",
                1,
                &[ran[0], ("fail A", "fail A#1 cli_exit; register; ping 1")],
            ),
            (
                "a refusal",
                1,
                &[("assign A in nowhere", "fail A#1 repo_not_allowed; register")],
            ),
            (
                "what cannot be used",
                1,
                &[("unusable A", "fail A#1 invalid_ticket; register")],
            ),
            (
                "each that is sent again",
                2,
                &[
                    ran[0],
                    ran[1],
                    ("assign B", "claim B#1; start 0 B#1"),
                    ("fail B", "fail B#1 cli_exit; register; ping 2"),
                    ("lost", ""),
                    ("wait 1", "dial"),
                    (
                        "connect",
                        "register; result A#1; register; ping 3; fail B#1 cli_exit; register; ping 4",
                    ),
                ],
            ),
            (
                "none that would take more when the daemon ends",
                1,
                &[
                    ran[0],
                    ("stop", "stop 0 A shutdown"),
                    ("finish A", "result A#1; register (no roles); ping 1"),
                    ("ack A", "close away; exit asked"),
                ],
            ),
        ],
    );
}

/// The hub takes a failure for the end of a job. What would only have to wait is not failed: it waits, on disk over a
/// restart, or is left unanswered, and handed out again.
#[test]
fn the_hub_hears_no_failure_that_passes() {
    let two: [(&str, &str); 2] = [
        ("assign A", "claim A#1; start 0 A#1"),
        ("assign B", "claim B#1"),
    ];
    play_with(
        Dialect::Hub,
        &[
            (
                "a stop leaves what waits for the next start",
                1,
                &[
                    two[0],
                    two[1],
                    ("stop", "stop 0 A shutdown"),
                    ("assign C", ""),
                ],
            ),
            (
                "without a quota, what waits waits for it",
                1,
                &[
                    two[0],
                    two[1],
                    (
                        "quota A 5",
                        "register (no roles) B#1; fail A#1 quota_exceeded; register (no roles) B#1; ping 1",
                    ),
                    ("assign C", ""),
                    ("wait 5", "register B#1; start 0 B#1"),
                ],
            ),
        ],
    );
}

/// The hub takes a second result for a second job and an acknowledgement after a result for a new beginning: a job that
/// has ended is left alone, however it comes again, and its result is repeated only on a new connection, until proven.
#[test]
fn the_hub_hears_each_outcome_once() {
    let ran: [(&str, &str); 2] = [
        ("assign A", "claim A#1; start 0 A#1"),
        ("finish A", "result A#1; register; ping 1"),
    ];
    let again = ("assign A", "");
    let (lost, dial) = (("lost", ""), ("wait 1", "dial"));
    play_with(
        Dialect::Hub,
        &[
            ("unproven", 1, &[ran[0], ran[1], again, ("unusable A", "")]),
            (
                "proven by pong",
                1,
                &[ran[0], ran[1], ("pong 1", ""), again, ("unusable A", "")],
            ),
            (
                "proven by job_complete",
                1,
                &[ran[0], ran[1], ("ack A", ""), again],
            ),
            (
                "not repeated once proven by pong",
                1,
                &[
                    ran[0],
                    ran[1],
                    ("pong 1", ""),
                    lost,
                    dial,
                    ("connect", "register"),
                ],
            ),
            (
                "nor by job_complete",
                1,
                &[
                    ran[0],
                    ran[1],
                    ("ack A", ""),
                    again,
                    lost,
                    dial,
                    ("connect", "register"),
                ],
            ),
            (
                "repeated while unproven",
                1,
                &[
                    ran[0],
                    ran[1],
                    again,
                    lost,
                    dial,
                    ("connect", "register; result A#1; register; ping 2"),
                    again,
                ],
            ),
            (
                "while it runs",
                1,
                &[ran[0], ("assign A", "claim A#1"), ran[1]],
            ),
        ],
    );
}

/// The free capacity in a heartbeat is the number of idle slots: a ticket that waits for its repository leaves its slot to
/// others.
#[test]
fn free_capacity_is_the_number_of_idle_slots() {
    let mut fixture = Fixture::online(3);
    let free = |fixture: &mut Fixture| {
        fixture.on(Event::Heard);
        let actions = fixture.wait(Duration::from_secs(10));
        let capacity = actions.iter().find_map(|action| match action {
            Action::Send(Message::Heartbeat(beat)) => Some(beat.capacity),
            _ => None,
        });
        let Capacity { max, free } = capacity.unwrap();
        assert_eq!(max, 3);
        free
    };
    assert_eq!(free(&mut fixture), 3, "idle");
    fixture.step("assign A");
    assert_eq!(free(&mut fixture), 2, "one runs");
    fixture.step("assign B");
    assert_eq!(
        free(&mut fixture),
        2,
        "one waits for its repository, and its slot is free for others"
    );
    for n in 0..5 {
        fixture.step(&format!("assign W{n}"));
    }
    assert_eq!(free(&mut fixture), 2, "many wait for it");
    fixture.step("assign X in web");
    assert_eq!(free(&mut fixture), 1, "another runs elsewhere");
    fixture.step("stop");
    assert_eq!(
        registers(fixture.on(Event::Connected(Dialect::Ticket)))[0]
            .capacity
            .free,
        0,
        "stopping"
    );
}

/// A peer that is silent for 25 s is given up at once; any frame counts as life.
#[test]
fn silence_ends_a_connection() {
    play(&[
        (
            "never a frame",
            1,
            &[
                ("wait 24.999", "beat ready; ping 1; beat ready; ping 2"),
                ("wait 0.001", "close dead"),
                ("wait 1", "dial"),
            ],
        ),
        (
            "a frame at 20 s",
            1,
            &[
                ("wait 20", "beat ready; ping 1; beat ready; ping 2"),
                ("heard", ""),
                ("wait 24.999", "beat ready; ping 3; beat ready; ping 4"),
                ("wait 0.001", "close dead"),
            ],
        ),
        (
            "the machine slept: nothing more is said on it",
            1,
            &[("sleep 3600", "close dead"), ("wait 1", "dial")],
        ),
        (
            "runs go on",
            1,
            &[
                ("assign A", "claim A#1; start 0 A#1"),
                ("sleep 60", "close dead"),
                ("wait 1", "dial"),
                ("connect", "register A#1"),
            ],
        ),
        (
            "it is lost once only",
            1,
            &[("sleep 60", "close dead"), ("lost", ""), ("wait 1", "dial")],
        ),
        (
            "silence while dialing is the dialer's matter",
            1,
            &[("lost", ""), ("wait 1", "dial"), ("wait 600", "")],
        ),
    ]);
}

/// Without luck the waits double from 1 s to 30 s, each between half and the whole of it and not always the same.
#[test]
fn reconnects_with_backoff() {
    let mut seen = [const { Vec::new() }; 8];
    for seed in 0..100 {
        let mut fixture = Fixture::new(policy(1, &REPOS, seed));
        assert_eq!(fixture.step("wait 0"), "dial", "seed {seed}");
        for (step, whole) in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
            .into_iter()
            .enumerate()
        {
            assert_eq!(fixture.step("lost"), "", "seed {seed}");
            let pause = fixture.pause();
            assert!(
                within(pause, whole / 2.0..=whole),
                "seed {seed}, wait {step}: {pause:?}"
            );
            seen[step].push(pause);
            let just_before = pause - Duration::from_nanos(1);
            assert!(
                fixture.wait(just_before).is_empty(),
                "seed {seed}, wait {step}: early"
            );
            let actions = fixture.wait(Duration::from_nanos(1));
            assert_eq!(actions, [Action::Dial], "seed {seed}, wait {step}");
        }
    }
    for (step, waits) in seen.iter_mut().enumerate() {
        waits.sort();
        let spread = waits[99] - waits[0];
        assert!(
            spread > waits[99].mul_f64(0.4),
            "wait {step} is hardly drawn at all: {spread:?}"
        );
    }
}

/// The backoff starts again after a connection of 30 s, however it ended.
#[test]
fn backoff_begins_anew_after_a_good_connection() {
    let rows: &[(&str, f64, &str, bool)] = &[
        ("dropped at once", 0.0, "lost", false),
        ("not quite", 29.999, "lost", false),
        ("just enough", 30.0, "lost", true),
        ("an hour", 3600.0, "lost", true),
        ("the backend restarts soon", 5.0, "server.shutdown 1", false),
        (
            "the backend restarts later",
            3600.0,
            "server.shutdown 1",
            true,
        ),
    ];
    for (label, lasted, end, anew) in rows {
        let mut fixture = Fixture::new(policy(1, &REPOS, 3));
        fixture.step("wait 0");
        for _ in 0..8 {
            fixture.step("lost");
            fixture.wait(Duration::from_secs(31));
        }
        fixture.step("connect");
        let mut left = *lasted;
        while left > 0.0 {
            fixture.step("heard");
            fixture.wait(Duration::from_secs_f64(left.min(10.0)));
            left -= 10.0;
        }
        fixture.step(end);
        if end.starts_with("server") {
            fixture.wait(Duration::from_secs(10));
            fixture.step("lost");
        }
        let pause = fixture.pause();
        let bounds = if *anew { 0.5..=1.0 } else { 15.0..=30.0 };
        assert!(
            within(pause, bounds.clone()),
            "{label}: {pause:?} is not within {bounds:?}"
        );
    }
}

/// A backend that names a time is given it, up to five minutes, and never less than the backoff.
#[test]
fn retry_after_is_a_floor_with_a_cap() {
    let rows = [
        ("nothing", "0", 0.5..=1.0),
        ("less than the backoff", "0.1", 0.5..=1.0),
        ("a minute", "60", 60.0..=60.0 + 30.0),
        ("five minutes", "300", 300.0..=300.0 + 30.0),
        ("an hour", "3600", 300.0..=300.0 + 30.0),
        ("for ever", "10000000000", 300.0..=300.0 + 30.0),
    ];
    for (label, seconds, bounds) in rows {
        for connected in [false, true] {
            let mut fixture = Fixture::new(policy(1, &REPOS, 5));
            fixture.step("wait 0");
            if connected {
                fixture.step("connect");
            }
            fixture.step(&format!("retry-after {seconds}"));
            let pause = fixture.pause();
            assert!(
                within(pause, bounds.clone()),
                "{label}, connected {connected}: {pause:?}"
            );
            fixture.wait(pause);
            fixture.step("connect");
            assert_eq!(
                fixture.step("assign A"),
                "claim A#1; start 0 A#1",
                "{label}: it is back"
            );
        }
    }
}

/// `server.shutdown`: close, keep what runs, come back after that time and a little more.
#[test]
fn the_backend_may_restart() {
    let rows = [
        ("at once", 0.0, 1.0),
        ("soon", 5.0, 1.0),
        ("in a minute", 60.0, 6.0),
        ("in five minutes", 300.0, 30.0),
    ];
    let mut waits = Vec::new();
    for (label, seconds, jitter) in rows {
        for seed in 0..20 {
            let mut fixture = Fixture::new(policy(1, &REPOS, seed));
            fixture.step("wait 0");
            fixture.step("connect");
            fixture.step("assign A");
            assert_eq!(
                fixture.step(&format!("server.shutdown {seconds}")),
                "close normal",
                "{label}"
            );
            assert_eq!(
                fixture.step("lost"),
                "",
                "{label}: that it is gone is no news"
            );
            let pause = fixture.pause();
            assert!(
                within(pause, seconds..=seconds + jitter),
                "{label}, seed {seed}: {pause:?}"
            );
            waits.push(pause);
            assert_eq!(
                fixture.step("finish A"),
                "",
                "{label}: nothing is sent meanwhile"
            );
            assert_eq!(fixture.wait(pause), [Action::Dial], "{label}");
            assert_eq!(
                fixture.step("connect"),
                "register; result A#1; ping 1",
                "{label}"
            );
        }
    }
    waits.sort();
    waits.dedup();
    assert!(
        waits.len() > 70,
        "the time to come back is hardly drawn at all: {} different ones",
        waits.len()
    );
    let mut fixture = Fixture::online(1);
    fixture.on(Event::Backend(Order::ServerShutdown(Duration::MAX)));
    assert!(
        fixture.pause() < Duration::from_secs(2 * 3600),
        "a backend cannot keep agents away for ever"
    );
}

/// After a reconnect: register, then every unconfirmed outcome, oldest first, then anything new.
#[test]
fn outcomes_follow_register_oldest_first() {
    let two: [(&str, &str); 3] = [
        ("assign A", "claim A#1; start 0 A#1"),
        ("assign B in web", "claim B#1; start 1 B#1"),
        ("assign C in web", "claim C#1"),
    ];
    play(&[
        (
            "ended while not connected",
            2,
            &[
                two[0],
                two[1],
                two[2],
                ("lost", ""),
                ("finish B", "start 1 C#1 offline"),
                ("fail A", ""),
                ("finish C", ""),
                ("wait 1", "dial"),
                (
                    "connect",
                    "register; result B#1; ping 1; fail A#1 cli_exit; ping 2; result C#1; ping 3",
                ),
            ],
        ),
        (
            "sent and not confirmed",
            2,
            &[
                two[0],
                two[1],
                ("finish A", "result A#1; ping 1"),
                ("lost", ""),
                ("finish B", ""),
                ("wait 1", "dial"),
                (
                    "connect",
                    "register; result A#1; ping 2; result B#1; ping 3",
                ),
                ("pong 3", ""),
                ("lost", ""),
                ("wait 2", "dial"),
                ("connect", "register"),
            ],
        ),
    ]);
}

/// An outcome leaves the outbox with the Pong to a Ping that was sent after it on the same connection, not before.
#[test]
fn only_a_later_pong_proves_an_outcome() {
    let before: [(&str, &str); 4] = [
        ("assign A", "claim A#1; start 0 A#1"),
        ("wait 10", "beat ready A; ping 1"),
        ("heard", ""),
        ("finish A", "result A#1; ping 2"),
    ];
    let after = [("lost", ""), ("wait 1", "dial")];
    let open = ("connect", "register; result A#1; ping 3");
    let gone = ("connect", "register");
    let [a, b, c, d] = before;
    let [e, f] = after;
    play(&[
        ("no pong", 1, &[a, b, c, d, e, f, open]),
        (
            "pong to the ping before it",
            1,
            &[a, b, c, d, ("pong 1", ""), e, f, open],
        ),
        (
            "pong to the ping after it",
            1,
            &[a, b, c, d, ("pong 2", ""), e, f, gone],
        ),
        (
            "pong to an even later ping",
            1,
            &[
                a,
                b,
                c,
                d,
                ("wait 10", "beat ready; ping 3"),
                ("pong 3", ""),
                e,
                f,
                gone,
            ],
        ),
        (
            "late pong of the connection before",
            1,
            &[
                a,
                b,
                c,
                d,
                e,
                f,
                open,
                ("pong 2", ""),
                e,
                ("wait 2", "dial"),
                ("connect", "register; result A#1; ping 4"),
            ],
        ),
        (
            "pongs out of order",
            1,
            &[a, b, c, d, ("pong 2", ""), ("pong 1", ""), e, f, gone],
        ),
        (
            "one of two",
            2,
            &[
                a,
                ("assign B in web", "claim B#1; start 1 B#1"),
                ("finish A", "result A#1; ping 1"),
                ("finish B", "result B#1; ping 2"),
                ("pong 1", ""),
                e,
                f,
                ("connect", "register; result B#1; ping 3"),
            ],
        ),
    ]);
}

/// A Pong that answers no Ping of this daemon proves nothing: a peer may send one unasked.
#[test]
fn a_pong_to_no_ping_proves_nothing() {
    play(&[(
        "a number that was never used",
        1,
        &[
            ("assign A", "claim A#1; start 0 A#1"),
            ("finish A", "result A#1; ping 1"),
            ("pong 18446744073709551615", ""),
            ("lost", ""),
            ("wait 1", "dial"),
            ("connect", "register; result A#1; ping 2"),
        ],
    )]);
}

/// `ticket.ack` takes the outcome of that ticket and attempt out of the outbox, and no other.
#[test]
fn an_ack_settles_its_outcome() {
    let sent: [(&str, &str); 2] = [
        ("assign A#2", "claim A#2; start 0 A#2"),
        ("finish A", "result A#2; ping 1"),
    ];
    let [a, b] = sent;
    let [e, f] = [("lost", ""), ("wait 1", "dial")];
    let (open, gone) = (
        ("connect", "register; result A#2; ping 2"),
        ("connect", "register"),
    );
    play(&[
        ("of this attempt", 1, &[a, b, ("ack A#2", ""), e, f, gone]),
        ("without an attempt", 1, &[a, b, ("ack A", ""), e, f, gone]),
        (
            "of an older attempt",
            1,
            &[a, b, ("ack A#1", ""), e, f, open],
        ),
        (
            "of a newer attempt",
            1,
            &[a, b, ("ack A#3", ""), e, f, open],
        ),
        ("of another ticket", 1, &[a, b, ("ack B", ""), e, f, open]),
        (
            "twice",
            1,
            &[
                a,
                b,
                ("ack A#2", ""),
                ("ack A#2", ""),
                ("pong 1", ""),
                e,
                f,
                gone,
            ],
        ),
        (
            "before it has ended",
            1,
            &[a, ("ack A#2", ""), b, e, f, open],
        ),
    ]);
}

/// Large outcomes are sent in their order, as fast as the backend takes them, and each one is sent however large it is.
#[test]
fn large_outcomes_take_turns() {
    const MIB: usize = 1 << 20;
    let mut fixture = Fixture::online(4);
    for (name, repo) in [("A", "app"), ("B", "web"), ("C", "api"), ("D", "docs")] {
        fixture.step(&format!("assign {name} in {repo}"));
    }
    fixture.step("lost");
    let sizes = HashMap::from([("A", 3), ("B", 3), ("C", 12), ("D", 3)]);
    for name in ["A", "B", "C", "D"] {
        let changes = Changes {
            diff: Some("x".repeat(sizes[name] * MIB)),
            ..Changes::default()
        };
        let outcome = Arc::new(Outcome {
            changes,
            ..Outcome::default()
        });
        fixture.on(Event::Job(fixture.runs[name], JobEvent::Finished(outcome)));
    }
    fixture.step("wait 1");
    let mut came = fixture.step("connect");
    let mut sent: Vec<String> = Vec::new();
    for pong in 1..=4 {
        let before = sent.len();
        sent.extend(
            came.split("; ")
                .filter_map(|word| word.strip_prefix("result "))
                .map(|name| name[..1].to_owned()),
        );
        let unproven: usize = sent[pong - 1..]
            .iter()
            .map(|name| sizes[name.as_str()])
            .sum();
        assert!(
            sent.len() >= pong,
            "pong {pong}: nothing is under way, {sent:?}"
        );
        assert!(
            unproven <= 8 || sent.len() == pong,
            "pong {pong}: {unproven} MiB at once after {before}: {sent:?}"
        );
        came = fixture.step(&format!("pong {pong}"));
    }
    assert_eq!(
        (sent, came.as_str()),
        (["A", "B", "C", "D"].map(str::to_owned).to_vec(), "")
    );
}

/// On a stop, runs are stopped, waiting tickets are answered, new ones are refused, and the exit waits for the proof
/// of delivery.
#[test]
fn stopping() {
    let running = ("assign A", "claim A#1; start 0 A#1");
    play(&[
        ("idle", 1, &[("stop", "close away; exit asked")]),
        ("not connected", 1, &[("lost", ""), ("stop", "exit asked")]),
        (
            "dialing",
            1,
            &[("lost", ""), ("wait 1", "dial"), ("stop", "exit asked")],
        ),
        (
            "with a run",
            1,
            &[
                running,
                ("stop", "stop 0 A shutdown"),
                ("fail A", "fail A#1 cli_exit; ping 1"),
                ("pong 1", "close away; exit asked"),
            ],
        ),
        (
            "an ack is proof too",
            1,
            &[
                running,
                ("stop", "stop 0 A shutdown"),
                ("finish A", "result A#1; ping 1"),
                ("ack A#1", "close away; exit asked"),
            ],
        ),
        (
            "with one that waits",
            1,
            &[
                running,
                ("assign B#2", "claim B#2"),
                ("stop", "stop 0 A shutdown; fail B#2 agent_shutdown; ping 1"),
                ("pong 1", ""),
                ("finish A", "result A#1; ping 2"),
                ("pong 2", "close away; exit asked"),
            ],
        ),
        (
            "new tickets are refused",
            1,
            &[
                running,
                ("stop", "stop 0 A shutdown"),
                ("assign B", "fail B#1 agent_shutdown"),
            ],
        ),
        (
            "none starts in the freed slot",
            2,
            &[
                running,
                ("assign B", "claim B#1"),
                ("stop", "stop 0 A shutdown; fail B#1 agent_shutdown; ping 1"),
                ("finish A", "result A#1; ping 2"),
            ],
        ),
        (
            "told twice",
            1,
            &[running, ("stop", "stop 0 A shutdown"), ("stop", "")],
        ),
        (
            "heartbeats say so",
            1,
            &[
                running,
                ("stop", "stop 0 A shutdown"),
                ("wait 10", "beat draining A; ping 1"),
            ],
        ),
        (
            "what was unconfirmed before counts too",
            1,
            &[
                running,
                ("finish A", "result A#1; ping 1"),
                ("stop", ""),
                ("pong 1", "close away; exit asked"),
            ],
        ),
        (
            "the proof may take 5 s",
            1,
            &[
                running,
                ("stop", "stop 0 A shutdown"),
                ("wait 3", ""),
                ("finish A", "result A#1; ping 1"),
                ("wait 4.999", ""),
                ("wait 0.001", "close away; exit asked"),
            ],
        ),
        (
            "the connection is lost while the proof is awaited",
            1,
            &[
                running,
                ("stop", "stop 0 A shutdown"),
                ("finish A", "result A#1; ping 1"),
                ("lost", "exit asked"),
            ],
        ),
        (
            "a run that does not end is given up after the grace and 10 s",
            1,
            &[
                running,
                ("stop", "stop 0 A shutdown"),
                ("heard", ""),
                ("wait 14.999", "beat draining A; ping 1"),
                ("heard", ""),
                ("wait 0.001", "fail A#1 agent_shutdown; ping 2"),
                ("finish A", ""),
                ("pong 2", "close away; exit asked"),
            ],
        ),
        (
            "reconnects to report while a run is being ended",
            1,
            &[
                running,
                ("stop", "stop 0 A shutdown"),
                ("lost", ""),
                ("wait 1", "dial"),
                ("connect", "register (no roles) A#1"),
                ("finish A", "result A#1; ping 1"),
                ("pong 1", "close away; exit asked"),
            ],
        ),
    ]);
}

/// The exit is the end: the goodbye has been said, and nothing that comes later is answered.
#[test]
fn nothing_follows_the_exit() {
    for late in [
        "assign A",
        "assign A as ops",
        "unusable A",
        "cli gone",
        "sleep 10",
        "sleep 3600",
        "stop",
        "connect",
    ] {
        let mut fixture = Fixture::online(1);
        assert_eq!(fixture.step("stop"), "close away; exit asked");
        assert_eq!(fixture.step(late), "", "{late}");
    }
}

/// A rejected token or version ends the daemon with its own exit, after the runs, and with one line that helps.
#[test]
fn rejections_end_the_daemon() {
    let running = ("assign A", "claim A#1; start 0 A#1");
    for (step, exit, helps) in [
        ("rejected", "exit token rejected", ["token", "mint another"]),
        ("version", "exit version refused", ["version", "update"]),
    ] {
        play(&[
            ("connected", 1, &[(step, exit)]),
            (
                "dialing",
                1,
                &[("lost", ""), ("wait 1", "dial"), (step, exit)],
            ),
            (
                "with runs",
                1,
                &[
                    running,
                    ("assign B", "claim B#1"),
                    (step, "stop 0 A shutdown"),
                    ("wait 3", ""),
                    ("fail A", exit),
                ],
            ),
            (
                "with a run that does not end",
                1,
                &[
                    running,
                    (step, "stop 0 A shutdown"),
                    ("wait 14.999", ""),
                    ("wait 0.001", exit),
                ],
            ),
        ]);
        let mut fixture = Fixture::online(1);
        let setback = match step {
            "rejected" => Setback::TokenRejected("401 Unauthorized".to_owned()),
            _ => Setback::VersionRefused("426 Upgrade Required".to_owned()),
        };
        let actions = fixture.on(Event::Disconnected(setback));
        let errors: Vec<_> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Log(Notice {
                    level: Level::Error,
                    text,
                    ..
                }) => Some(text),
                _ => None,
            })
            .collect();
        assert_eq!(errors.len(), 1, "{step}: {errors:?}");
        assert!(
            helps.iter().all(|part| errors[0].contains(part)) && !errors[0].contains('\n'),
            "{step}: {errors:?}"
        );
        assert!(
            matches!(actions.last(), Some(Action::Exit(_))),
            "{step}: the exit is last: {actions:?}"
        );
    }
}

/// Progress is counted from 1 for each run and is sent only while there is a connection.
#[test]
fn progress_is_counted() {
    let running = ("assign A", "claim A#1; start 0 A#1");
    play(&[
        (
            "counted",
            1,
            &[
                running,
                ("progress A", "progress A#1 1"),
                ("progress A", "progress A#1 2"),
            ],
        ),
        (
            "for each ticket",
            2,
            &[
                running,
                ("assign B in web", "claim B#1; start 1 B#1"),
                ("progress B", "progress B#1 1"),
                ("progress A", "progress A#1 1"),
                ("progress B", "progress B#1 2"),
            ],
        ),
        (
            "none while not connected, and no gap after",
            1,
            &[
                running,
                ("progress A", "progress A#1 1"),
                ("lost", ""),
                ("progress A", ""),
                ("wait 1", "dial"),
                ("progress A", ""),
                ("connect", "register A#1"),
                ("progress A", "progress A#1 2"),
            ],
        ),
        (
            "under the newest attempt",
            1,
            &[
                running,
                ("progress A", "progress A#1 1"),
                ("assign A#2", "claim A#2"),
                ("progress A", "progress A#2 2"),
            ],
        ),
        (
            "none after the end",
            1,
            &[
                running,
                ("finish A", "result A#1; ping 1"),
                ("progress A", ""),
            ],
        ),
        (
            "a new run counts anew",
            1,
            &[
                running,
                ("progress A", "progress A#1 1"),
                ("finish A", "result A#1; ping 1"),
                ("assign A#2", "claim A#2; start 0 A#2"),
                ("progress A", "progress A#2 1"),
            ],
        ),
        (
            "while stopping",
            1,
            &[
                running,
                ("stop", "stop 0 A shutdown"),
                ("progress A", "progress A#1 1"),
            ],
        ),
    ]);
    let mut fixture = Fixture::online(1);
    assert!(
        fixture.progress(RunId(7)).is_empty(),
        "a run that nobody knows"
    );
    assert!(
        fixture
            .on(Event::Job(RunId(7), JobEvent::Finished(done("x"))))
            .is_empty(),
        "its end"
    );
}

/// A CLI that cannot run takes the roles back with a new register, and gives them again when it can.
#[test]
fn an_unavailable_cli_takes_the_roles_back() {
    play(&[
        (
            "gone and back",
            1,
            &[
                ("cli gone", "register (no roles)"),
                ("wait 10", "beat degraded; ping 1"),
                ("heard", ""),
                ("cli back", "register"),
                ("wait 10", "beat ready; ping 2"),
            ],
        ),
        (
            "no news, no register",
            1,
            &[
                ("cli back", ""),
                ("cli gone", "register (no roles)"),
                ("cli gone", ""),
            ],
        ),
        (
            "while not connected",
            1,
            &[
                ("lost", ""),
                ("cli gone", ""),
                ("wait 1", "dial"),
                ("connect", "register (no roles)"),
            ],
        ),
        (
            "what runs goes on",
            1,
            &[
                ("assign A", "claim A#1; start 0 A#1"),
                ("cli gone", "register (no roles) A#1"),
                ("finish A", "result A#1; ping 1"),
            ],
        ),
        (
            "stopping counts for more",
            1,
            &[
                ("assign A", "claim A#1; start 0 A#1"),
                ("cli gone", "register (no roles) A#1"),
                ("stop", "stop 0 A shutdown"),
                ("wait 10", "beat draining A; ping 1"),
            ],
        ),
    ]);
    let gone = CliState {
        unavailable: Some(Unavailable::NotFound),
        ..cli()
    };
    let mut fixture = Fixture::new(Policy {
        cli: gone.clone(),
        ..policy(1, &REPOS, 1)
    });
    fixture.step("wait 0");
    let register = registers(fixture.on(Event::Connected(Dialect::Ticket))).remove(0);
    assert_eq!(
        (register.roles.len(), &register.cli),
        (0, &gone),
        "from the start"
    );
    let newer = CliState {
        version: Some("2.0".to_owned()),
        ..cli()
    };
    let registers = registers(fixture.on(Event::Cli(newer.clone())));
    assert_eq!(
        registers.iter().map(|r| &r.cli).collect::<Vec<_>>(),
        [&newer],
        "a new version is news too"
    );
}

/// A run that used up the quota takes the roles away until the quota is back: when the CLI said, else after a wait
/// that begins with 15 min and doubles to 4 h. What waits is answered, and a run that went well means a new beginning.
#[test]
fn a_used_up_quota_takes_the_roles_away_for_a_while() {
    let running = ("assign A", "claim A#1; start 0 A#1");
    let gone = (
        "quota A",
        "register (no roles); fail A#1 quota_exceeded; ping 1",
    );
    play(&[
        (
            "until the CLI says",
            1,
            &[
                running,
                (
                    "quota A 25",
                    "register (no roles); fail A#1 quota_exceeded; ping 1",
                ),
                ("heard", ""),
                ("wait 10", "beat degraded; ping 2"),
                ("assign B", "fail B#1 quota_exceeded"),
                ("wait 10", "beat degraded; ping 3"),
                ("heard", ""),
                ("wait 4.9", ""),
                ("wait 0.1", "register"),
                ("assign B", "claim B#1; start 0 B#1"),
            ],
        ),
        (
            "what waits is answered, what runs goes on",
            2,
            &[
                running,
                ("assign B in web", "claim B#1; start 1 B#1"),
                ("assign C in docs", "claim C#1"),
                (
                    "quota A 25",
                    "register (no roles) B#1; fail A#1 quota_exceeded; ping 1; fail C#1 quota_exceeded; ping 2",
                ),
                ("finish B", "result B#1; ping 3"),
                ("assign D", "fail D#1 quota_exceeded"),
            ],
        ),
        (
            "two runs find out at the same time",
            2,
            &[
                running,
                ("assign B in web", "claim B#1; start 1 B#1"),
                (
                    "quota A",
                    "register (no roles) B#1; fail A#1 quota_exceeded; ping 1",
                ),
                ("quota B", "fail B#1 quota_exceeded; ping 2"),
            ],
        ),
        (
            "while not connected",
            1,
            &[
                running,
                ("lost", ""),
                ("quota A", ""),
                ("wait 1", "dial"),
                (
                    "connect",
                    "register (no roles); fail A#1 quota_exceeded; ping 1",
                ),
            ],
        ),
        (
            "the time has passed already",
            1,
            &[running, ("quota A 0", gone.1)],
        ),
    ]);
    let mut fixture = Fixture::online(1);
    for (name, minutes) in [
        ("A", 15),
        ("B", 30),
        ("C", 60),
        ("D", 120),
        ("E", 240),
        ("F", 240),
    ] {
        assert_eq!(fixture.minutes_without_quota(name), minutes, "{name}");
    }
    fixture.step("assign G");
    fixture.step("finish G");
    assert_eq!(
        fixture.minutes_without_quota("H"),
        15,
        "after a run that went well"
    );
}

/// What the register says of a used-up quota: the reason, and the time where the CLI named one.
#[test]
fn the_register_tells_when_the_quota_is_back() {
    for told in [None, Some(Duration::from_secs(3600))] {
        let mut fixture = Fixture::online(1);
        fixture.step("assign A");
        let available_at = told.map(|after| fixture.now().wall + after);
        let registers = registers(fixture.quota_gone("A", told));
        let wanted = CliState {
            unavailable: Some(Unavailable::QuotaExceeded { available_at }),
            ..cli()
        };
        assert_eq!(
            registers.iter().map(|r| &r.cli).collect::<Vec<_>>(),
            [&wanted]
        );
    }
}

/// A run that starts while the backend cannot be reached is started as offline. No run starts before the first
/// attempt to connect.
#[test]
fn a_run_knows_whether_the_backend_can_be_reached() {
    play(&[(
        "the second in line starts while the connection is gone",
        1,
        &[
            ("assign A", "claim A#1; start 0 A#1"),
            ("assign B", "claim B#1"),
            ("assign C", "claim C#1"),
            ("lost", ""),
            ("finish A", "start 0 B#1 offline"),
            ("wait 1", "dial"),
            ("connect", "register B#1 C#1; result A#1; ping 1"),
            ("finish B", "start 0 C#1; result B#1; ping 2"),
        ],
    )]);
}

/// The session never asks to be woken in the past, and always asks to be woken while it waits for something.
#[test]
fn the_deadline_is_ahead() {
    let steps = [
        "wait 0",
        "lost",
        "wait 1",
        "connect",
        "assign A",
        "heard",
        "wait 10",
        "server.shutdown 3",
        "wait 4",
        "connect",
        "finish A",
        "retry-after 60",
        "wait 61",
        "lost",
        "wait 30",
        "connect",
        "assign B",
        "stop",
        "heard",
        "wait 12",
        "heard",
        "wait 3.5",
    ];
    let mut fixture = Fixture::new(policy(1, &REPOS, 11));
    for (at, step) in steps.iter().enumerate() {
        let got = fixture.step(step);
        let now: Instant = fixture.now().mono;
        // While a connection is being made, the dialer has the word.
        let dialing = got.ends_with("dial");
        match fixture.session.deadline() {
            Some(deadline) => assert!(deadline > now, "step {at}: {step}: the deadline has passed"),
            None => assert!(
                dialing,
                "step {at}: {step}: nothing would ever happen again"
            ),
        }
    }
}
