//! What has to be on disk before what, and what comes of it after a restart.

use std::time::{Duration, SystemTime};

use wf0_agent::domain::event::{Action, Effect, Event, JobEvent, Order, Record, Setback};
use wf0_agent::domain::message::{Dialect, Message};
use wf0_agent::domain::outbox::{Delivered, Entry};
use wf0_agent::domain::quota::Quota;
use wf0_agent::domain::session::{SavedState, Session};
use wf0_agent::domain::ticket::{FailCode, Job, RunId};

use super::support::{Clock, ROLE_LIMIT, done, failed, id, policy, repo, ticket, unseen};

fn online(clock: &Clock) -> Session {
    let mut session = Session::new(policy(1, &["app"], 1), clock.now());
    session.on(clock.now(), Event::Tick);
    session.on(clock.now(), Event::Connected(Dialect::Ticket));
    session
}

fn assign(session: &mut Session, clock: &Clock) -> RunId {
    let order = Order::Assigned(Box::new(ticket("A", 1)));
    let kept = session
        .on(clock.now(), Event::Backend(order))
        .into_iter()
        .find_map(|action| match action {
            Action::Effect(Effect::Keep(Record::Ticket(job, _))) => Some(job.run),
            Action::Send(message) => panic!("said before it is on disk: {message:?}"),
            _ => None,
        });
    kept.expect("the ticket is to be kept")
}

/// The claimed ticket C, which has not started, in that repository, as run 3.
fn waiting(name: &str) -> (Box<Job>, SystemTime) {
    let job = Job {
        run: RunId(3),
        ticket: ticket("C", 1),
        repo: repo(name),
        time_limit: ROLE_LIMIT,
    };
    (Box::new(job), SystemTime::UNIX_EPOCH)
}

fn position(actions: &[Action], wanted: impl Fn(&Action) -> bool) -> Option<usize> {
    actions.iter().position(wanted)
}

fn is_outcome(action: &Action, code: Option<FailCode>) -> bool {
    let Action::Send(Message::Outcome(_, _, outcome)) = action else {
        return false;
    };
    outcome.failure.as_ref().map(|failure| failure.code) == code
}

/// A ticket is claimed and started only once it is on disk.
#[test]
fn a_claim_waits_for_the_disk() {
    let clock = Clock::new();
    let mut session = online(&clock);
    let run = assign(&mut session, &clock);
    let actions = session.on(clock.now(), Event::Kept(run, Ok(())));
    let claim = position(&actions, |a| matches!(a, Action::Send(Message::Claim(..))));
    let start = position(&actions, |a| {
        matches!(a, Action::Effect(Effect::Start { .. }))
    });
    assert!(claim.is_some() && claim < start, "{actions:?}");
}

/// A ticket that cannot be kept is refused as `internal`, without a claim, and nothing is started.
#[test]
fn a_full_disk_refuses() {
    let clock = Clock::new();
    let mut session = online(&clock);
    let run = assign(&mut session, &clock);
    let actions = session.on(
        clock.now(),
        Event::Kept(run, Err("no space left".to_owned())),
    );
    assert!(
        position(&actions, |a| is_outcome(a, Some(FailCode::Internal))).is_some(),
        "{actions:?}"
    );
    let begun = |a: &Action| {
        matches!(
            a,
            Action::Effect(Effect::Start { .. }) | Action::Send(Message::Claim(..))
        )
    };
    assert!(position(&actions, begun).is_none(), "{actions:?}");
}

/// An outcome is on disk before it is sent, and its delivery is noted once it is proven.
#[test]
fn an_outcome_is_kept_before_it_is_sent() {
    let clock = Clock::new();
    let mut session = online(&clock);
    let run = assign(&mut session, &clock);
    session.on(clock.now(), Event::Kept(run, Ok(())));
    let actions = session.on(clock.now(), Event::Job(run, JobEvent::Finished(done("x"))));
    let keep = position(
        &actions,
        |a| matches!(a, Action::Effect(Effect::Keep(Record::Outcome(entry))) if entry.run == run),
    );
    let send = position(&actions, |a| is_outcome(a, None));
    assert!(keep.is_some() && keep < send, "{actions:?}");
    let Some(Action::Ping(fence)) = actions.iter().find(|a| matches!(a, Action::Ping(_))) else {
        panic!("no Ping")
    };
    let actions = session.on(clock.now(), Event::Pong(*fence));
    assert_eq!(
        unseen(actions),
        [Action::Effect(Effect::Keep(Record::Delivered(run)))]
    );
}

/// After a restart: register, the old outcomes, those of runs cut off, and what had not started runs.
#[test]
fn what_was_left_is_taken_over() {
    let clock = Clock::new();
    let entry = |run, name: &str, outcome| Entry {
        run: RunId(run),
        id: id(name),
        attempt: 1,
        outcome,
    };
    let past = SavedState {
        delivered: vec![Delivered {
            run: RunId(4),
            id: id("D"),
            attempt: 1,
        }],
        ended: vec![
            entry(1, "A", done("a")),
            entry(2, "B", failed(FailCode::AgentRestarted)),
        ],
        waiting: vec![waiting("app")],
        ..SavedState::default()
    };
    let mut session = Session::new(policy(1, &["app"], 1), clock.now());
    let starts = |a: &Action| matches!(a, Action::Effect(Effect::Start { job, offline: false, .. }) if job.run == RunId(3));
    let actions = session.restore(past, clock.now());
    assert!(
        position(&actions, starts).is_none(),
        "whether the backend can be reached is not known: {actions:?}"
    );
    let sent = session.on(clock.now(), Event::Connected(Dialect::Ticket));
    assert!(position(&sent, starts).is_some(), "{sent:?}");
    let sent: Vec<_> = sent
        .iter()
        .filter_map(|action| match action {
            Action::Send(Message::Register(register)) => {
                Some(format!("register with {}", register.active[0].id))
            }
            Action::Send(Message::Outcome(id, ..)) => Some(id.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(sent, ["register with C", "A", "B"]);
    let again = Order::Assigned(Box::new(ticket("D", 1)));
    let actions = session.on(clock.now(), Event::Backend(again.clone()));
    assert_eq!(
        actions,
        [Action::Effect(Effect::Recall(RunId(4)))],
        "a delivered one is answered from disk"
    );
    let actions = session.on(
        clock.now(),
        Event::Recalled(RunId(4), Some(entry(4, "D", done("d")))),
    );
    assert!(
        position(&actions, |a| is_outcome(a, None)).is_some(),
        "{actions:?}"
    );
    let actions = session.on(clock.now(), Event::Backend(again));
    assert!(
        position(&actions, |a| matches!(a, Action::Effect(Effect::Recall(_)))).is_none(),
        "it is under way already: {actions:?}"
    );
}

/// A repeated ticket whose outcome is no longer on disk is answered with a failure and not run again.
#[test]
fn a_lost_outcome_is_said() {
    let clock = Clock::new();
    let past = SavedState {
        delivered: vec![Delivered {
            run: RunId(4),
            id: id("D"),
            attempt: 1,
        }],
        ..SavedState::default()
    };
    let mut session = Session::new(policy(1, &["app"], 1), clock.now());
    session.restore(past, clock.now());
    session.on(clock.now(), Event::Connected(Dialect::Ticket));
    let again = |attempt| Event::Backend(Order::Assigned(Box::new(ticket("D", attempt))));
    assert_eq!(
        session.on(clock.now(), again(1)),
        [Action::Effect(Effect::Recall(RunId(4)))]
    );
    let actions = session.on(clock.now(), Event::Recalled(RunId(4), None));
    assert!(
        position(&actions, |a| is_outcome(a, Some(FailCode::Internal))).is_some(),
        "{actions:?}"
    );
    let actions = session.on(clock.now(), again(2));
    let kept = |a: &Action| matches!(a, Action::Effect(Effect::Keep(Record::Ticket(..))));
    assert!(
        position(&actions, kept).is_some(),
        "a newer attempt is a run of its own: {actions:?}"
    );
}

/// What had not started before a restart runs too if the backend cannot be reached, and knows it.
#[test]
fn what_was_left_runs_without_a_backend() {
    let clock = Clock::new();
    let past = SavedState {
        waiting: vec![waiting("app")],
        ..SavedState::default()
    };
    let mut session = Session::new(policy(1, &["app"], 1), clock.now());
    session.restore(past, clock.now());
    let actions = session.on(
        clock.now(),
        Event::Disconnected(Setback::Failed("refused".to_owned())),
    );
    assert!(
        position(&actions, |a| matches!(
            a,
            Action::Effect(Effect::Start { offline: true, .. })
        ))
        .is_some(),
        "{actions:?}"
    );
}

/// A quota that was used up before a restart still is, until its time; what was claimed is answered.
#[test]
fn a_used_up_quota_survives() {
    let mut clock = Clock::new();
    let until = clock.now().wall + Duration::from_secs(5);
    let past = SavedState {
        waiting: vec![waiting("app")],
        quota: Quota {
            until: Some(until),
            is_told: true,
            guesses: 0,
        },
        ..SavedState::default()
    };
    let mut session = Session::new(policy(1, &["app"], 1), clock.now());
    session.restore(past, clock.now());
    let actions = session.on(clock.now(), Event::Connected(Dialect::Ticket));
    let register = |roles: usize| move |a: &Action| matches!(a, Action::Send(Message::Register(register)) if register.roles.len() == roles);
    assert!(position(&actions, register(0)).is_some(), "{actions:?}");
    assert!(
        position(&actions, |a| is_outcome(a, Some(FailCode::QuotaExceeded))).is_some(),
        "{actions:?}"
    );
    clock.advance(Duration::from_secs(5));
    assert_eq!(session.deadline(), Some(clock.now().mono));
    let actions = session.on(clock.now(), Event::Tick);
    assert!(position(&actions, register(2)).is_some(), "{actions:?}");
    let kept = |a: &Action| matches!(a, Action::Effect(Effect::Keep(Record::Quota(quota))) if !quota.is_exceeded());
    assert!(position(&actions, kept).is_some(), "{actions:?}");
}

/// A waiting ticket whose repository is not allowed after the restart is answered and not run.
#[test]
fn what_is_no_longer_allowed_is_answered() {
    let clock = Clock::new();
    let past = SavedState {
        waiting: vec![waiting("web")],
        ..SavedState::default()
    };
    let mut session = Session::new(policy(1, &["app"], 1), clock.now());
    let actions = session.restore(past, clock.now());
    assert!(
        position(&actions, |a| matches!(
            a,
            Action::Effect(Effect::Start { .. })
        ))
        .is_none(),
        "{actions:?}"
    );
    let actions = session.on(clock.now(), Event::Connected(Dialect::Ticket));
    assert!(
        position(&actions, |a| is_outcome(a, Some(FailCode::RepoNotAllowed))).is_some(),
        "{actions:?}"
    );
}
