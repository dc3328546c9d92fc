//! Wires the wings together: settings and state in, channels between, threads up, threads down.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use log::{info, warn};

use crate::config::Config;
use crate::domain::Now;
use crate::domain::event::{CliState, Event, Exit, Record, Unavailable};
use crate::domain::outbox::Entry;
use crate::domain::repos::{Repo, Repos};
use crate::domain::session::{Past, Policy, Session};
use crate::environment::Environment;
use crate::job::cli::version::Asker;
use crate::job::cli::{Cli, find};
use crate::job::{self, Context, Worker};
use crate::link::Dialer;
pub use crate::link::Mailbox;
use crate::link::event_loop::{Errand, EventLoop};
use crate::link::protocol::Identity;
use crate::link::protocol::ticket::Codec;
use crate::store::{Store, StoreError, journal};

/// The daemon's own failures. A ticket's are outcomes.
#[derive(Debug)]
pub enum DaemonError {
    Store(StoreError),
    Io(io::Error),
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(e) => e.fmt(f),
            Self::Io(e) => write!(f, "the system refuses what the daemon cannot do without: {e}"),
        }
    }
}

impl From<io::Error> for DaemonError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Runs until it is told to stop, or until going on makes no sense. `ready` gets the way to tell it.
pub fn run(config: Config, environment: Environment, ready: impl FnOnce(Stopper)) -> Result<Exit, DaemonError> {
    let store = Arc::new(Store::open(&config.state_dir).map_err(DaemonError::Store)?);
    let identity = Identity { agent_id: store.agent_id().to_owned(), name: config.agent_name.clone() };
    let dialer = Dialer { api: config.api.clone(), token: config.token.clone() };
    let keep_delivered = Duration::from_secs(config.keep_days * 24 * 3600);
    let event_loop = EventLoop::new(dialer, Codec::new(identity, config.api.clone()))?;
    let mailbox = event_loop.mailbox();
    ready(Stopper(mailbox.clone()));

    let cli = Cli::from_config(&config.cli);
    log_cli(&cli, &environment);
    let policy = Policy {
        repos: known_to_git(config.repos, &environment),
        roles: config.roles,
        max_concurrent: config.max_concurrent,
        grace: config.grace,
        drain: config.drain,
        cli: cli_state(&cli, &environment),
        seed: fastrand::u64(..),
    };
    info!("wf0-agent {} as {:?} for {}", env!("CARGO_PKG_VERSION"), config.agent_name, config.api.socket());
    let context = Arc::new(Context {
        cli,
        downloads: job::DownloadsFrom { api: config.api, token: config.token },
        environment,
        grace: config.grace,
        progress: config.progress,
        limits: config.limits,
        store,
    });
    let start = |slot| {
        let mailbox = mailbox.clone();
        Worker::start(slot, context.clone(), Box::new(move |run, event| mailbox.post(Event::Job(run, event))))
    };
    let workers = (0..config.max_concurrent).map(start).collect::<io::Result<Vec<_>>>()?;
    let (name, teller) = (context.cli.name.clone(), mailbox.clone());
    let tell = move |version| {
        let (name, version) = (name.clone(), Some(version));
        teller.post(Event::Cli(CliState { name, version, unavailable: None }));
    };
    let mut asker = Asker::new(context.clone(), Arc::new(tell));
    asker.ask()?;
    let mut past = Past { quota: context.store.quota(&context.cli.name), ..Past::default() };
    let mut cut_off = Vec::new();
    for found in context.store.past() {
        match found {
            journal::Past::Waiting { job, claimed_at } => past.waiting.push((job, claimed_at)),
            journal::Past::Ended(entry) => past.ended.push(entry),
            journal::Past::Delivered(entry) => past.delivered.push(entry),
            journal::Past::CutOff { job, started } => cut_off.push((job, started)),
        }
    }
    // After the outcomes that are there already: a run that had ended must not be reported as cut off.
    for (job, started) in cut_off {
        let is_allowed = policy.repos.at(&job.repo.path).is_some();
        let entry = job::recover(&job, &started, is_allowed, &context);
        // At once: should this process be ended too, the next one need not begin anew.
        keep_outcome(&context.store, &entry, &workers[0]);
        past.ended.push(entry);
    }
    let store = context.store.clone();
    let mut pruned = None;
    let session = Session::new(policy, now());
    let exit = event_loop.run(session, past, &mut |errand| match errand {
        Errand::Start { slot, job, offline } => {
            workers[slot].run(job, offline);
            None
        }
        Errand::Stop { slot, run, reason } => {
            workers[slot].stop(run, reason);
            None
        }
        Errand::Keep(record) => {
            prune_now_and_then(&store, keep_delivered, &mut pruned);
            keep(&store, record, &context.cli.name, &workers[0])
        }
        Errand::LookForCli => {
            let state = cli_state(&context.cli, &context.environment);
            if state.unavailable.is_none() {
                // Without a thread to spare its version stays unknown, and it can run all the same.
                asker.ask().unwrap_or_else(|e| warn!("the CLI cannot be asked for its version: {e}"));
            }
            Some(Event::Cli(state))
        }
    })?;
    asker.join();
    workers.into_iter().for_each(Worker::join);
    Ok(exit)
}

/// At the first record, and then at most once an hour: a daemon runs for a year.
#[expect(clippy::disallowed_methods, reason = "how old a folder is, is a matter of the disk")]
fn prune_now_and_then(store: &Store, keep: Duration, last: &mut Option<SystemTime>) {
    let now = SystemTime::now();
    let is_due = last.is_none_or(|last| now.duration_since(last).map_or(true, |age| age > Duration::from_secs(3600)));
    if is_due {
        *last = Some(now);
        store.prune(keep, now);
    }
}

/// `tidier` is any worker; one that is busy tidies later.
fn keep(store: &Store, record: Record, cli: &str, tidier: &Worker) -> Option<Event> {
    match record {
        Record::Ticket { job, claimed_at } => {
            Some(Event::Kept(job.run, store.keep_ticket(&job, claimed_at).map_err(|e| e.to_string())))
        }
        Record::Attempt { run, attempt } => {
            if let Err(e) = store.keep_attempt(run, attempt) {
                warn!("run {run}: its attempt {attempt} cannot be noted: {e}");
            }
            None
        }
        Record::Outcome(entry) => {
            keep_outcome(store, &entry, tidier);
            None
        }
        Record::Quota(quota) => {
            if let Err(e) = store.keep_quota(cli, quota) {
                warn!("the state of the CLI's quota cannot be noted, and is forgotten with this process: {e}");
            }
            None
        }
        Record::Delivered(run) => {
            if let Err(e) = store.keep_delivery(run) {
                warn!("run {run}: its delivery cannot be noted, and it may be sent again: {e}");
            }
            None
        }
    }
}

/// Only what is on disk is tidied: else a crash would make a run of it that was cut off, with its diff still to take.
fn keep_outcome(store: &Store, entry: &Entry, tidier: &Worker) {
    match store.keep_outcome(entry) {
        Ok(()) => tidier.tidy(entry.run),
        Err(e) => warn!("ticket {}: its outcome cannot be written to disk, and is sent all the same: {e}", entry.id),
    }
}

/// Tells a running daemon to stop.
#[derive(Clone)]
pub struct Stopper(Mailbox);

impl Stopper {
    pub fn stop(&self) {
        self.0.post(Event::Stop);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the session's first moment; every later one comes from the event loop"
)]
fn now() -> Now {
    Now { mono: std::time::Instant::now(), wall: SystemTime::now() }
}

/// Fills in the slugs that the settings leave open, and which entries share a work tree.
fn known_to_git(repos: Vec<Repo>, environment: &Environment) -> Repos {
    let open: Vec<_> = repos.iter().filter(|repo| repo.slug.is_none()).map(|repo| repo.path.clone()).collect();
    let mut found = job::origin_slug(environment, &open).into_iter();
    let fill = |repo: Repo| match repo.slug {
        Some(_) => repo,
        None => Repo { slug: found.next().flatten(), ..repo },
    };
    let root = |repo: Repo| Repo { root: job::work_tree_of(&repo.path).unwrap_or(repo.root), ..repo };
    let repos = Repos::new(repos.into_iter().map(fill).map(root).collect());
    for repo in repos.iter() {
        info!("repository {} ({})", repo.path.display(), repo.slug.as_deref().unwrap_or("no slug: by path only"));
    }
    for slug in repos.shared_slugs() {
        warn!("several entries of REPO_PATHS are {slug}: its tickets go to the first; tell them apart as slug=path");
    }
    repos
}

fn cli_state(cli: &Cli, environment: &Environment) -> CliState {
    let found = find::program(&cli.command, environment.get("PATH"));
    let unavailable = if found.is_none() { Some(Unavailable::NotFound) } else { None };
    CliState { name: cli.name.clone(), version: None, unavailable }
}

fn log_cli(cli: &Cli, environment: &Environment) {
    let path_variable = environment.get("PATH");
    match find::program(&cli.command, path_variable) {
        Some(path) => info!("CLI {} ({})", path.display(), cli.name),
        None => {
            let searched = path_variable.unwrap_or_default().to_string_lossy();
            warn!(
                "{} was not found or is not executable (searched PATH: {searched}): no ticket can run",
                cli.command
            );
        }
    }
}
