//! Puts the parts of the daemon together: opens the state folder, starts and connects the threads, and joins them at
//! the end.

mod persister;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::info;

use crate::checks;
use crate::config::Config;
use crate::domain::event::{DaemonEnd, Effect, Event};
use crate::domain::message::{CliState, Dialect, Unavailable, View};
use crate::domain::repos::Repos;
use crate::domain::session::{Policy, SavedState, Session};
use crate::environment::Environment;
use crate::job::cli::{Cli, VersionProbe};
use crate::job::{self, Approval, Chores, Context, Downloads, Worker, tool};
use crate::link::Dialer;
pub use crate::link::Mailbox;
use crate::link::event_loop::{EventLoop, now};
use crate::link::protocol::{Codecs, Identity, hub, ticket};
use crate::net::Route;
use crate::store::journal::CutOff;
use crate::store::{Store, StoreError, status};
use crate::times::{self, Rfc3339};
use persister::Persister;

/// A failure of the daemon itself. The failure of a ticket is not one: it is an outcome.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot wait for the network: {0}")]
    Poll(#[source] io::Error),
    #[error("cannot start a thread for {0}: {1}")]
    Thread(&'static str, #[source] io::Error),
}

/// Runs the daemon. It ends on [`Event::Stop`], or when the backend refuses the token or the protocol version. `ready`
/// gets the mailbox: the caller posts [`Event::Stop`] to it. `watch` gets each new [`View`].
pub fn run(
    config: Config,
    environment: Environment,
    ready: impl FnOnce(Mailbox),
    mut watch: impl FnMut(&View),
) -> Result<DaemonEnd, DaemonError> {
    let store = Arc::new(Store::open(&config.state_dir)?);
    let dialer = Dialer::new(&config, Some(store.clone()));
    let dialect = dialer.only.unwrap_or_else(|| store.dialect());
    let identity = Identity {
        agent_id: store.agent_id.clone(),
        name: config.agent_name.clone(),
    };
    let codecs = Codecs::new(
        dialect,
        ticket::Codec::new(identity, config.api.clone()),
        hub::Codec::new(tools_on_path(&config.cli.command, &environment)),
    );
    let event_loop = EventLoop::new(dialer, codecs, store.clone()).map_err(DaemonError::Poll)?;
    ready(event_loop.mailbox());

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
    checks::git(&environment).log();
    checks::cli(&cli, &environment).log();
    for finding in checks::repositories(&policy.repos, config.workspace) {
        finding.log();
    }

    let mailbox = event_loop.mailbox();
    let mut daemon = Daemon::start(config, cli, environment, store, &mailbox)?;
    let saved = daemon.take_over(&policy.repos, dialect);
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
        let about = about_itself(&config, &environment);
        let approval = config.require_approval.then(Approval::from_terminal);
        let approval = approval.transpose();
        let context = Arc::new(Context {
            cli,
            approval: approval.map_err(|e| DaemonError::Thread("the keyboard", e))?,
            downloads: Downloads::new(Route::new(&config), config.token, store.clone()),
            environment,
            grace: config.grace,
            progress: config.progress,
            limits: config.limits,
            keep_delivered: Duration::from_secs(config.keep_days * 24 * 3600),
            store,
        });
        let chores = Chores::empty();
        let start_worker = |slot| {
            let mailbox = mailbox.clone();
            let post = move |run, event| mailbox.post(Event::Job(run, event));
            Worker::start(slot, context.clone(), chores.clone(), Box::new(post))
        };
        let workers: io::Result<Vec<_>> = (0..config.max_concurrent).map(start_worker).collect();
        let version_probe = version_probe(&context, mailbox);
        let version_probe = version_probe.map_err(|e| DaemonError::Thread("the version", e))?;
        version_probe.ask();
        Ok(Self {
            workers: workers.map_err(|e| DaemonError::Thread("a worker", e))?,
            version_probe,
            persister: Persister::new(context.clone(), chores, about),
            context,
        })
    }

    /// Reads the state that earlier daemons left on disk. A run that was cut off gets its outcome here.
    fn take_over(&mut self, repos: &Repos, dialect: Dialect) -> SavedState {
        let store = &self.context.store;
        let (mut saved, cut_off) = store.saved_state();
        saved.quota = store.quota(&self.context.cli.name);
        saved.dialect = dialect;
        for CutOff { job, started } in cut_off {
            let is_allowed = repos.at(&job.repo.path).is_some();
            let entry = job::recover(&job, &started, is_allowed, &self.context);
            // Stored at once: if this daemon is killed too, the next one need not recover the run again.
            self.persister.keep_outcome(&entry);
            saved.ended.push(entry);
        }
        self.persister.tidy_up();
        saved
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Start { slot, job, offline } => self.workers[slot].run(job, offline),
            Effect::Stop(slot, run, reason) => self.workers[slot].stop(run, reason),
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

/// What `wf0-agent status` and `wf0-agent doctor` show about this daemon.
fn about_itself(config: &Config, environment: &Environment) -> status::DaemonInfo {
    status::DaemonInfo {
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

fn version_probe(context: &Context, mailbox: &Mailbox) -> io::Result<VersionProbe> {
    let (name, mailbox) = (context.cli.name.clone(), mailbox.clone());
    let post = move |version| {
        mailbox.post(Event::Cli(CliState {
            name: name.clone(),
            version: Some(version),
            unavailable: None,
        }));
    };
    VersionProbe::start(context.cli.clone(), context.environment.clone(), post)
}

fn log_start(config: &Config, dialect: Dialect) {
    info!(
        "wf0-agent {} as {:?} for {}",
        env!("CARGO_PKG_VERSION"),
        config.agent_name,
        config.api.shown(dialect)
    );
    if let Some(proxy) = &config.proxy {
        info!("through the proxy {proxy} ({})", proxy.setting);
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

/// The tools on PATH that the hub's jobs may need. The daemon sends this list to the hub.
fn tools_on_path(cli: &str, environment: &Environment) -> Vec<String> {
    let is_there = |tool: &&str| tool::find(tool, environment.get("PATH")).is_some();
    let stem = |tool| Some(Path::new(tool).file_stem()?.to_str()?.to_owned());
    let tools = ["claude", "git", "npm", "gh", cli].into_iter();
    let found: BTreeSet<String> = tools.filter(is_there).filter_map(stem).collect();
    found.into_iter().collect()
}
