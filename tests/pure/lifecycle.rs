//! Draining, sleeping, and a CLI that goes and comes.

use std::time::Duration;

use wf0_agent::domain::event::{Action, DaemonEnd, Effect, Event, Goodbye, JobEvent, Order};
use wf0_agent::domain::message::{CliState, Dialect, Message, Status, Unavailable};
use wf0_agent::domain::session::{Policy, Session};
use wf0_agent::domain::ticket::{FailCode, RunId, StopReason};

use super::support::{Clock, Disk, cli, done, failed, on, policy, ticket, unseen};

const DRAIN: Duration = Duration::from_secs(60);

struct Life {
    session: Session,
    clock: Clock,
}

impl Life {
    /// Connected, with that time to drain.
    fn new(drain: Duration) -> Self {
        let clock = Clock::new();
        let policy = Policy {
            drain,
            ..policy(1, &["app"], 1)
        };
        let mut life = Self {
            session: Session::new(policy, clock.now()),
            clock,
        };
        life.on(Event::Tick);
        life.on(Event::Connected(Dialect::Ticket));
        life
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        on(
            &mut self.session,
            &mut Disk::default(),
            self.clock.now(),
            event,
        )
    }

    /// Assigns a ticket; its run, where it starts at once.
    fn assign(&mut self, name: &str) -> Option<RunId> {
        let actions = self.on(Event::Backend(Order::Assigned(Box::new(ticket(name, 1)))));
        actions.into_iter().find_map(|action| match action {
            Action::Effect(Effect::Start { job, .. }) => Some(job.run),
            _ => None,
        })
    }
}

fn codes(actions: &[Action]) -> Vec<Option<FailCode>> {
    let code = |action: &Action| match action {
        Action::Send(Message::Outcome(_, _, outcome)) => {
            Some(outcome.failure.as_ref().map(|failure| failure.code))
        }
        _ => None,
    };
    actions.iter().filter_map(code).collect()
}

fn status(actions: &[Action]) -> Option<Status> {
    actions.iter().find_map(|action| match action {
        Action::Send(Message::Heartbeat(beat)) => Some(beat.status),
        _ => None,
    })
}

fn is_stop(action: &Action) -> bool {
    matches!(
        action,
        Action::Effect(Effect::Stop(_, _, StopReason::Shutdown))
    )
}

/// The first signal lets a run go on to its end; new tickets are refused as retryable, waiting ones answered.
#[test]
fn a_drain_lets_runs_end() {
    let mut life = Life::new(DRAIN);
    let run = life.assign("A").unwrap();
    life.assign("B");
    let actions = life.on(Event::Stop);
    assert!(!actions.iter().any(is_stop), "{actions:?}");
    assert_eq!(
        status(&actions),
        Some(Status::Draining),
        "the backend hears of it at once"
    );
    assert_eq!(
        codes(&actions),
        [Some(FailCode::AgentShutdown)],
        "what waits is answered"
    );
    let refused = life.on(Event::Backend(Order::Assigned(Box::new(ticket("C", 1)))));
    assert_eq!(codes(&refused), [Some(FailCode::AgentShutdown)]);
    let actions = life.on(Event::Job(run, JobEvent::Finished(done("x"))));
    assert_eq!(codes(&actions), [None], "the run's own result");
    let ping = actions.iter().rev().find_map(|action| {
        if let Action::Ping(n) = action {
            Some(*n)
        } else {
            None
        }
    });
    let actions = life.on(Event::Pong(ping.unwrap()));
    assert_eq!(
        unseen(actions),
        [
            Action::Disconnect(Goodbye::GoingAway),
            Action::Exit(DaemonEnd::Asked)
        ]
    );
}

/// A run that goes on beyond the drain is ended; so it is by a second signal.
#[test]
fn a_drain_ends() {
    for second_signal in [false, true] {
        let mut life = Life::new(DRAIN);
        life.assign("A");
        life.on(Event::Stop);
        let actions = if second_signal {
            life.on(Event::Stop)
        } else {
            life.clock.advance(DRAIN - Duration::from_millis(1));
            let early = life.on(Event::Heard);
            assert!(!early.iter().any(is_stop), "too early: {early:?}");
            life.clock.advance(Duration::from_millis(1));
            life.on(Event::Tick)
        };
        assert!(
            actions.iter().any(is_stop),
            "second signal: {second_signal}: {actions:?}"
        );
    }
}

/// Nothing runs: nothing is waited for.
#[test]
fn an_idle_daemon_drains_at_once() {
    let mut life = Life::new(DRAIN);
    assert!(
        life.on(Event::Stop)
            .contains(&Action::Exit(DaemonEnd::Asked))
    );
}

/// After a sleep the connection has to show itself within 5 s, and a wait to reconnect is over.
#[test]
fn waking_up_tries_the_connection() {
    let mut life = Life::new(DRAIN);
    life.clock.sleep(Duration::from_secs(3600));
    let actions = life.on(Event::Tick);
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Ping(_))),
        "{actions:?}"
    );
    life.clock.advance(Duration::from_millis(4999));
    assert!(
        !life
            .on(Event::Tick)
            .contains(&Action::Disconnect(Goodbye::Dead))
    );
    life.clock.advance(Duration::from_millis(1));
    assert!(
        life.on(Event::Tick)
            .contains(&Action::Disconnect(Goodbye::Dead))
    );
    life.clock.sleep(Duration::from_secs(3600));
    assert!(life.on(Event::Tick).contains(&Action::Dial));
}

/// A connection that answers after a sleep stays. A small step of the clock does not count as a sleep.
#[test]
fn a_living_link_survives_a_sleep() {
    let mut life = Life::new(DRAIN);
    life.clock.sleep(Duration::from_secs(4));
    assert!(life.on(Event::Tick).is_empty());
    life.clock.sleep(Duration::from_secs(3600));
    life.on(Event::Tick);
    life.clock.advance(Duration::from_secs(1));
    life.on(Event::Heard);
    life.clock.advance(Duration::from_secs(8));
    assert!(
        !life
            .on(Event::Tick)
            .contains(&Action::Disconnect(Goodbye::Dead))
    );
}

/// A CLI that turns out to be missing takes the roles away; it is looked for every minute until it is there.
#[test]
fn a_missing_cli_is_looked_for() {
    let mut life = Life::new(DRAIN);
    let run = life.assign("A").unwrap();
    let actions = life.on(Event::Job(
        run,
        JobEvent::Finished(failed(FailCode::CliNotFound)),
    ));
    let roles = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::Send(Message::Register(register)) => Some(register.roles.len()),
            _ => None,
        })
    };
    assert_eq!(roles(&actions), Some(0), "{actions:?}");
    let mut looks = Vec::new();
    for second in 1..=150 {
        life.clock.advance(Duration::from_secs(1));
        if life
            .on(Event::Heard)
            .contains(&Action::Effect(Effect::LookForCli))
        {
            looks.push(second);
        }
    }
    assert_eq!(looks, [60, 120]);
    let gone = CliState {
        unavailable: Some(Unavailable::NotFound),
        ..cli()
    };
    assert_eq!(roles(&life.on(Event::Cli(gone))), None, "no news");
    assert_eq!(roles(&life.on(Event::Cli(cli()))), Some(2));
}
