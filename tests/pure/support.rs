//! Invented times, tickets and policies that several of these tests need.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use wf0_agent::config::ApiUrl;
use wf0_agent::domain::Now;
use wf0_agent::domain::event::{Action, Effect, Event, Record};
use wf0_agent::domain::message::CliState;
use wf0_agent::domain::outbox::Entry;
use wf0_agent::domain::repos::{Repo, RepoRef, Repos, Workspace};
use wf0_agent::domain::session::{Policy, Session};
use wf0_agent::domain::text::Excerpt;
use wf0_agent::domain::ticket::{
    ActiveTicket, Brief, FailCode, Failure, Job, Outcome, Payload, Role, RunId, Ticket, TicketId,
};

pub const ROLE_LIMIT: Duration = Duration::from_secs(1800);

/// The time of a test: both clocks start together and move only when the test moves them.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    begin: Instant,
    elapsed: Duration,
    /// What only the wall clock has seen.
    asleep: Duration,
}

impl Clock {
    /// The one look at the real clock: an `Instant` cannot be had otherwise.
    pub fn new() -> Self {
        Self {
            begin: Instant::now(),
            elapsed: Duration::ZERO,
            asleep: Duration::ZERO,
        }
    }

    pub fn now(&self) -> Now {
        Now {
            mono: self.begin + self.elapsed,
            wall: SystemTime::UNIX_EPOCH + self.elapsed + self.asleep,
        }
    }

    pub fn advance(&mut self, by: Duration) {
        self.elapsed += by;
    }

    /// The machine sleeps: the clock for intervals stands still.
    pub fn sleep(&mut self, time: Duration) {
        self.asleep += time;
    }

    /// Moves on to that moment; it never moves back.
    pub fn advance_to(&mut self, moment: Instant) {
        self.elapsed = self
            .elapsed
            .max(moment.saturating_duration_since(self.begin));
    }
}

pub fn id(text: &str) -> TicketId {
    TicketId::parse(text).unwrap()
}

pub fn role(text: &str) -> Role {
    Role::parse(text).unwrap()
}

pub fn api(url: &str) -> ApiUrl {
    ApiUrl::parse(url, false).unwrap()
}

/// A repository `acme/<name>` at `/repos/<name>`.
pub fn repo(name: &str) -> Repo {
    let path = PathBuf::from(format!("/repos/{name}"));
    Repo {
        root: path.clone(),
        path,
        slug: Some(format!("acme/{name}")),
        workspace: Workspace::InPlace,
    }
}

pub fn cli() -> CliState {
    CliState {
        name: "claude-code".to_owned(),
        version: None,
        unavailable: None,
    }
}

/// A path as the backend wrote it, that leads where it says.
pub fn at_path(text: &str) -> RepoRef {
    RepoRef::Path {
        asked: text.to_owned(),
        resolved: PathBuf::from(text),
    }
}

/// The roles `dev` and `qa`, and the repositories of these names.
pub fn policy(slots: usize, repos: &[&str], seed: u64) -> Policy {
    Policy {
        repos: Repos::new(repos.iter().map(|name| repo(name)).collect()),
        roles: vec![(role("dev"), ROLE_LIMIT), (role("qa"), ROLE_LIMIT)],
        max_concurrent: slots,
        grace: Duration::from_secs(5),
        drain: Duration::ZERO,
        cli: cli(),
        seed,
    }
}

/// The same, with each run in these repositories in a clone of its own.
pub fn in_clones(mut policy: Policy, repos: &[&str]) -> Policy {
    let is_cloned = |own: &Repo| repos.iter().any(|name| repo(name).path == own.path);
    let workspace = |own: &Repo| {
        if is_cloned(own) {
            Workspace::Clone
        } else {
            Workspace::InPlace
        }
    };
    policy.repos = Repos::new(
        policy
            .repos
            .iter()
            .map(|own| Repo {
                workspace: workspace(own),
                ..own.clone()
            })
            .collect(),
    );
    policy
}

/// A good ticket for `dev` in `acme/app`.
pub fn ticket(name: &str, attempt: u32) -> Ticket {
    Ticket {
        id: id(name),
        attempt,
        role: role("dev"),
        repo: RepoRef::Slug("acme/app".to_owned()),
        brief: Brief {
            title: Some("Fix it".to_owned()),
            ..Brief::default()
        },
        payload: Payload::Inline,
        time_limit: None,
        branch: None,
    }
}

/// A claimed ticket that waits.
pub fn active(name: &str, attempt: u32, claimed_at: SystemTime) -> ActiveTicket {
    let job = Job {
        run: RunId(1),
        ticket: ticket(name, attempt),
        repo: repo("app"),
        time_limit: ROLE_LIMIT,
    };
    ActiveTicket::new(&job, claimed_at)
}

/// A run that went well and printed that.
pub fn done(stdout: &str) -> Arc<Outcome> {
    let stdout = Excerpt::from_bytes(stdout.as_bytes(), b"", stdout.len() as u64);
    Arc::new(Outcome {
        stdout,
        ..Outcome::default()
    })
}

pub fn failed(code: FailCode) -> Arc<Outcome> {
    Arc::new(Outcome::unstarted(Failure::new(code, "it failed")))
}

/// A run that found the quota used up, and when the CLI said that it is back.
pub fn quota_exceeded(available_at: Option<SystemTime>) -> Arc<Outcome> {
    let failure = Failure {
        available_at,
        ..Failure::new(FailCode::QuotaExceeded, "usage limit reached")
    };
    Arc::new(Outcome::unstarted(failure))
}

/// The outcomes on an invented disk.
pub type Disk = HashMap<RunId, Entry>;

/// Gives the session an event, plays a state folder that stores everything, and leaves out the actions for that folder.
pub fn on(session: &mut Session, disk: &mut Disk, now: Now, event: Event) -> Vec<Action> {
    let mut seen = Vec::new();
    for action in session.on(now, event) {
        match action {
            Action::Effect(Effect::Keep(Record::Ticket(job, _))) => {
                seen.extend(on(session, disk, now, Event::Kept(job.run, Ok(()))));
            }
            Action::Effect(Effect::Keep(Record::Outcome(entry))) => {
                disk.insert(entry.run, entry);
            }
            Action::Effect(Effect::Recall(run)) => {
                let entry = disk.get(&run).cloned();
                seen.extend(on(session, disk, now, Event::Recalled(run, entry)));
            }
            Action::Effect(Effect::Keep(Record::Delivered(_) | Record::Quota(_))) => {}
            other => seen.push(other),
        }
    }
    seen
}

/// What the session wants done, without what it only shows.
pub fn unseen(actions: Vec<Action>) -> Vec<Action> {
    actions
        .into_iter()
        .filter(|action| !matches!(action, Action::Effect(Effect::Show(_))))
        .collect()
}
