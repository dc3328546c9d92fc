//! Puts the parts together: settings and state in, threads and channels between them, and an orderly end.

mod persister;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};

use crate::checks;
use crate::config::Config;
use crate::domain::event::{DaemonEnd, Effect, Event};
use crate::domain::message::{CliState, Dialect, Unavailable, View};
use crate::domain::repos::Repos;
use crate::domain::session::{Policy, SavedState, Session};
use crate::environment::Environment;
use crate::job::cli::{Cli, VersionProbe};
use crate::job::{self, Approval, Chores, Context, Downloads, Halt, Worker, tool};
use crate::link::Dialer;
pub use crate::link::Mailbox;
use crate::link::event_loop::{EventLoop, now};
use crate::link::protocol::{Codecs, Identity, hub, ticket};
use crate::net::Route;
use crate::store::journal::CutOff;
use crate::store::{Store, StoreError, status};
use crate::times::{self, Rfc3339};
use persister::{Persister, Unwritten};

/// The daemon's own failures. A ticket's are outcomes.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot wait for the network: {0}")]
    Poll(#[source] io::Error),
    #[error("cannot start a thread for {0}: {1}")]
    Thread(&'static str, #[source] io::Error),
}

/// Runs until it is told to stop, or until going on makes no sense. `ready` gets the way to stop it; `watch` sees each new
/// view of what it does.
pub fn run(
    config: Config,
    environment: Environment,
    ready: impl FnOnce(Stopper),
    mut watch: impl FnMut(&View),
) -> Result<DaemonEnd, DaemonError> {
    let store = Arc::new(Store::open(&config.state_dir)?);
    let first_child = job::set_up_waiting(environment.for_cli());
    let only = config.dialect.or_else(|| config.api.dialect());
    let dialect = only.unwrap_or_else(|| store.dialect());
    let event_loop = event_loop(&config, dialect, &store, &environment)?;
    ready(Stopper(event_loop.mailbox()));

    let cli = Cli::from_config(&config.cli);
    let policy = Policy {
        repos: checks::known_to_git(config.repos.clone(), config.workspace, &environment),
        roles: config.roles.clone(),
        max_concurrent: config.max_concurrent,
        grace: config.grace,
        drain: config.drain,
        cli: cli_state(&cli, &environment),
        seed: rand::random(),
    };
    log_start(&config, dialect);
    let found = checks::repositories(&policy.repos, config.workspace);
    for finding in [checks::git(&environment), checks::cli(&cli, &environment)]
        .iter()
        .chain(&found)
    {
        finding.log();
    }

    let mailbox = event_loop.mailbox();
    let mut daemon = Daemon::start(config, cli, environment, store, &mailbox)?;
    let saved = daemon.take_over(&policy.repos, dialect);
    match first_child {
        Ok(child) => drop(child.finish(&Halt::never())),
        Err(e) => warn!("this program cannot start itself, so perhaps no other either: {e}"),
    }
    let session = Session::new(policy, now());
    let end = event_loop.run(session, saved, &mut |effect| {
        if let Effect::Show(view) = &effect {
            watch(view);
        }
        daemon.carry_out(effect)
    });
    let end = end.map_err(DaemonError::Poll)?;
    daemon.join();
    Ok(end)
}

fn event_loop(
    config: &Config,
    dialect: Dialect,
    store: &Arc<Store>,
    environment: &Environment,
) -> Result<EventLoop, DaemonError> {
    let identity = Identity {
        agent_id: store.agent_id().to_owned(),
        name: config.agent_name.clone(),
    };
    let codecs = Codecs::new(
        dialect,
        ticket::Codec::new(identity, config.api.clone()),
        hub::Codec::new(tools_on_path(&config.cli.command, environment)),
    );
    EventLoop::new(dialer(config, Some(store.clone())), codecs, store.clone())
        .map_err(DaemonError::Poll)
}

/// `store`: its audit log records each use of the token. `doctor` has no state folder.
pub(crate) fn dialer(config: &Config, store: Option<Arc<Store>>) -> Dialer {
    Dialer {
        route: route(config),
        token: config.token.clone(),
        only: config.dialect.or_else(|| config.api.dialect()),
        store,
    }
}

fn route(config: &Config) -> Route {
    Route {
        api: config.api.clone(),
        proxy: config.proxy.clone(),
        roots: config.roots.clone(),
    }
}

/// The threads beside the event loop, and what they share.
struct Daemon {
    context: Arc<Context>,
    workers: Vec<Worker>,
    version_probe: VersionProbe,
    persister: Persister,
}

impl Daemon {
    fn start(
        config: Config,
        cli: Cli,
        environment: Environment,
        store: Arc<Store>,
        mailbox: &Mailbox,
    ) -> Result<Self, DaemonError> {
        let approval = config.require_approval.then(Approval::from_terminal);
        let approval = approval.transpose();
        let chores = Chores::empty();
        let persister = Persister {
            store: store.clone(),
            chores: chores.clone(),
            cli: cli.name.clone(),
            keep_delivered: Duration::from_secs(config.keep_days * 24 * 3600),
            daemon: about_itself(&config, &environment),
            unwritten: Unwritten::default(),
            pruned: None,
        };
        let context = Arc::new(Context {
            cli,
            approval: approval.map_err(|e| DaemonError::Thread("the keyboard", e))?,
            downloads: Downloads::new(route(&config), config.token, store.clone()),
            environment,
            grace: config.grace,
            progress: config.progress,
            limits: config.limits,
            store,
        });
        let start_worker = |slot| {
            let mailbox = mailbox.clone();
            let post = move |run, event| mailbox.post(Event::Job(run, event));
            Worker::start(slot, context.clone(), chores.clone(), Box::new(post))
        };
        let workers = (0..config.max_concurrent).map(start_worker);
        let workers: io::Result<Vec<_>> = workers.collect();
        let mut version_probe = version_probe(&context, mailbox);
        version_probe.ask();
        Ok(Self {
            context,
            workers: workers.map_err(|e| DaemonError::Thread("a worker", e))?,
            version_probe,
            persister,
        })
    }

    /// What earlier processes left. A run that was cut off gets its outcome here.
    fn take_over(&mut self, repos: &Repos, dialect: Dialect) -> SavedState {
        let store = &self.context.store;
        let quota = store.quota(&self.context.cli.name);
        let (left, cut_off) = store.saved_state();
        let mut saved = SavedState {
            quota,
            dialect,
            ..left
        };
        for CutOff { job, started } in cut_off {
            let is_allowed = repos.at(&job.repo.path).is_some();
            let entry = job::recover(&job, &started, is_allowed, &self.context);
            // At once: if this process is ended too, the next one need not do it again.
            self.persister.keep_outcome(&entry);
            saved.ended.push(entry);
        }
        self.persister.tidy_up();
        saved
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Start { slot, job, offline } => self.workers[slot].run(job, offline),
            Effect::Stop { slot, run, reason } => self.workers[slot].stop(run, reason),
            Effect::Keep(record) => return self.persister.keep(record),
            Effect::Recall(run) => {
                return Some(Event::Recalled(run, self.context.store.outcome(run)));
            }
            Effect::LookForCli => {
                let state = cli_state(&self.context.cli, &self.context.environment);
                if state.unavailable.is_none() {
                    self.version_probe.ask();
                }
                return Some(Event::Cli(state));
            }
            Effect::Show(view) => self.persister.keep_status(view),
        }
        None
    }

    fn join(mut self) {
        self.persister.catch_up();
        self.version_probe.join();
        for worker in self.workers {
            worker.join();
        }
    }
}

/// For `wf0-agent status` and `doctor`.
fn about_itself(config: &Config, environment: &Environment) -> status::Daemon {
    status::Daemon {
        name: config.agent_name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: Rfc3339(times::now()),
        backend: config.api.to_string(),
        search_path: checks::search_path(environment),
        git_program: checks::program("git", environment),
        cli_program: checks::program(&config.cli.command, environment),
    }
}

fn version_probe(context: &Context, mailbox: &Mailbox) -> VersionProbe {
    let (name, mailbox) = (context.cli.name.clone(), mailbox.clone());
    let post = move |version| {
        mailbox.post(Event::Cli(CliState {
            name: name.clone(),
            version: Some(version),
            unavailable: None,
        }));
    };
    VersionProbe::new(context.cli.clone(), context.environment.clone(), post)
}

fn log_start(config: &Config, dialect: Dialect) {
    info!(
        "wf0-agent {} as {:?} for {}",
        env!("CARGO_PKG_VERSION"),
        config.agent_name,
        config.api.shown(dialect)
    );
    if let Some(proxy) = &config.proxy {
        info!("through the proxy {proxy} ({})", proxy.setting());
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

fn cli_state(cli: &Cli, environment: &Environment) -> CliState {
    let found = tool::find(&cli.command, environment.get("PATH"));
    CliState {
        name: cli.name.clone(),
        version: None,
        unavailable: found.is_none().then_some(Unavailable::NotFound),
    }
}

/// The tools that the hub's jobs may need and that are on PATH. The hub is told about them.
fn tools_on_path(cli: &str, environment: &Environment) -> Vec<String> {
    let is_there = |tool: &&str| tool::find(tool, environment.get("PATH")).is_some();
    let stem = |command| {
        Path::new(command)
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or(command)
    };
    let mut tools: Vec<_> = ["claude", "git", "npm", "gh", cli]
        .into_iter()
        .filter(is_there)
        .map(stem)
        .collect();
    tools.sort_unstable();
    tools.dedup();
    tools.into_iter().map(str::to_owned).collect()
}
