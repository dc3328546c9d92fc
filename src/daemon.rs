//! Wires the wings together: settings and state in, channels between, threads up, threads down.

mod keeper;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use log::{info, warn};

use keeper::Keeper;

use crate::config::{Config, WorkspaceMode};
use crate::domain::Now;
use crate::domain::event::{DaemonEnd, Effect, Event};
use crate::domain::message::View;
use crate::domain::message::{CliState, Unavailable};
use crate::domain::repos::{Repo, Repos, Workspace};
use crate::domain::session::{Policy, SavedState, Session};
use crate::environment::Environment;
use crate::job::cli::version::Asker;
use crate::job::cli::{Cli, find};
use crate::job::{self, Chores, Context, GitDirs, Worker};
use crate::link::Dialer;
pub use crate::link::Mailbox;
use crate::link::event_loop::EventLoop;
use crate::link::protocol::{Codecs, Identity, hub, ticket};
use crate::net::Route;
use crate::store::journal::CutOff;
use crate::store::{Store, StoreError, status};
use crate::times::Rfc3339;

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
            Self::Io(e) => write!(
                f,
                "the system refuses what the daemon cannot do without: {e}"
            ),
        }
    }
}

impl From<io::Error> for DaemonError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Runs until it is told to stop, or until going on makes no sense. `ready` gets the way to tell it; `watch` sees what it
/// does, whenever that has changed.
pub fn run(
    config: Config,
    environment: Environment,
    ready: impl FnOnce(Stopper),
    mut watch: impl FnMut(&View),
) -> Result<DaemonEnd, DaemonError> {
    let store = Arc::new(Store::open(&config.state_dir).map_err(DaemonError::Store)?);
    let identity = Identity {
        agent_id: store.agent_id().to_owned(),
        name: config.agent_name.clone(),
    };
    let route = Route {
        api: config.api.clone(),
        proxy: config.proxy,
        roots: config.roots,
    };
    let only = config.dialect.or_else(|| config.api.dialect());
    let dialer = Dialer {
        route: route.clone(),
        token: config.token.clone(),
        only,
        store: Some(store.clone()),
    };
    let last = only.unwrap_or_else(|| store.dialect());
    let keep_delivered = Duration::from_secs(config.keep_days * 24 * 3600);
    let codecs = Codecs::new(
        last,
        ticket::Codec::new(identity, config.api.clone()),
        hub::Codec::new(tools_on_path(&config.cli.command, &environment)),
    );
    let event_loop = EventLoop::new(dialer, codecs, store.clone())?;
    let mailbox = event_loop.mailbox();
    ready(Stopper(mailbox.clone()));

    let cli = Cli::from_config(&config.cli);
    log_programs(&cli, &environment);
    let policy = Policy {
        repos: known_to_git(config.repos, config.workspace, &environment),
        roles: config.roles,
        max_concurrent: config.max_concurrent,
        grace: config.grace,
        drain: config.drain,
        cli: cli_state(&cli, &environment),
        seed: rand::random(),
    };
    log_repos(&policy.repos);
    info!(
        "wf0-agent {} as {:?} for {}",
        env!("CARGO_PKG_VERSION"),
        config.agent_name,
        config.api.shown(last)
    );
    if let Some(proxy) = &route.proxy {
        info!("through the proxy {proxy} ({})", proxy.setting());
    }
    let approval = config
        .require_approval
        .then(job::Approval::from_terminal)
        .transpose()?;
    let context = Arc::new(Context {
        cli,
        approval,
        downloads: job::DownloadsFrom {
            route,
            token: config.token,
        },
        environment,
        grace: config.grace,
        progress: config.progress,
        limits: config.limits,
        store,
    });
    let chores = Chores::new();
    let start = |slot| {
        let mailbox = mailbox.clone();
        Worker::start(
            slot,
            context.clone(),
            chores.clone(),
            Box::new(move |run, event| mailbox.post(Event::Job(run, event))),
        )
    };
    let workers = (0..config.max_concurrent)
        .map(start)
        .collect::<io::Result<Vec<_>>>()?;
    let (name, teller) = (context.cli.name.clone(), mailbox.clone());
    let tell = move |version| {
        let (name, version) = (name.clone(), Some(version));
        teller.post(Event::Cli(CliState {
            name,
            version,
            unavailable: None,
        }));
    };
    let mut asker = Asker::new(context.clone(), Arc::new(tell));
    asker.ask();
    let told_by = status::Daemon {
        name: config.agent_name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: Rfc3339(now().wall),
        backend: config.api.to_string(),
        search_path: path_of(&context.environment),
        git_program: found_program("git", &context.environment),
        cli_program: found_program(&context.cli.command, &context.environment),
    };
    let mut keeper = Keeper::new(
        context.store.clone(),
        chores,
        context.cli.name.clone(),
        keep_delivered,
        told_by,
    );
    let quota = context.store.quota(&context.cli.name);
    let (left, cut_off) = context.store.saved_state();
    let mut past = SavedState {
        quota,
        dialect: last,
        ..left
    };
    // After the outcomes that are there already: a run that had ended must not be reported as cut off.
    for CutOff { job, started } in cut_off {
        let is_allowed = policy.repos.at(&job.repo.path).is_some();
        let entry = job::recover(&job, &started, is_allowed, &context);
        // At once: should this process be ended too, the next one need not begin anew.
        keeper.keep_outcome(&entry);
        past.ended.push(entry);
    }
    keeper.tidy_up();
    let session = Session::new(policy, now());
    let exit = event_loop.run(session, past, &mut |effect| match effect {
        Effect::Start { slot, job, offline } => {
            workers[slot].run(job, offline);
            None
        }
        Effect::Stop { slot, run, reason } => {
            workers[slot].stop(run, reason);
            None
        }
        Effect::Keep(record) => keeper.keep(record),
        Effect::Recall(run) => Some(Event::Recalled(run, context.store.outcome(run))),
        Effect::LookForCli => {
            let state = cli_state(&context.cli, &context.environment);
            if state.unavailable.is_none() {
                asker.ask();
            }
            Some(Event::Cli(state))
        }
        Effect::Show(view) => {
            watch(&view);
            keeper.keep_status(view);
            None
        }
    })?;
    keeper.catch_up();
    asker.join();
    workers.into_iter().for_each(Worker::join);
    Ok(exit)
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
    Now {
        mono: std::time::Instant::now(),
        wall: SystemTime::now(),
    }
}

/// Fills in the slugs that the settings leave open, which entries share a work tree, and where their runs work.
pub fn known_to_git(repos: Vec<Repo>, mode: WorkspaceMode, environment: &Environment) -> Repos {
    let open: Vec<_> = repos
        .iter()
        .filter(|repo| repo.slug.is_none())
        .map(|repo| repo.path.clone())
        .collect();
    let mut found = job::origin_slug(environment, &open).into_iter();
    let fill = |repo: Repo| match repo.slug {
        Some(_) => repo,
        None => Repo {
            slug: found.next().flatten(),
            ..repo
        },
    };
    let look = |repo: Repo| match GitDirs::find(&repo.path) {
        Some(GitDirs { top, .. }) => Repo {
            root: top,
            workspace: job::choose(mode, &repo.path),
            ..repo
        },
        None => Repo {
            workspace: job::choose(mode, &repo.path),
            ..repo
        },
    };
    Repos::new(repos.into_iter().map(fill).map(look).collect())
}

fn log_repos(repos: &Repos) {
    for repo in repos.iter() {
        let slug = repo.slug.as_deref().unwrap_or("no slug: by path only");
        let workspace = match repo.workspace {
            Workspace::InPlace => "in place",
            Workspace::Clone => "each ticket in a clone",
        };
        info!("repository {} ({slug}), {workspace}", repo.path.display());
        if repo.workspace == Workspace::Clone && GitDirs::find(&repo.path).is_none() {
            warn!(
                "{} is in no git repository and cannot be cloned: its tickets will fail",
                repo.path.display()
            );
        }
    }
    for slug in repos.shared_slugs() {
        warn!(
            "several entries of REPO_PATHS are {slug}: its tickets go to the first; tell them apart as slug=path"
        );
    }
}

fn cli_state(cli: &Cli, environment: &Environment) -> CliState {
    let found = find::program(&cli.command, environment.get("PATH"));
    let unavailable = if found.is_none() {
        Some(Unavailable::NotFound)
    } else {
        None
    };
    CliState {
        name: cli.name.clone(),
        version: None,
        unavailable,
    }
}

fn path_of(environment: &Environment) -> String {
    let path = environment.get("PATH").unwrap_or_default();
    path.to_string_lossy().into_owned()
}

fn found_program(name: &str, environment: &Environment) -> Option<String> {
    let program = find::program(name, environment.get("PATH"))?;
    Some(program.display().to_string())
}

/// What the hub is told: of the tools that its jobs may need, those that are there.
fn tools_on_path(cli: &str, environment: &Environment) -> Vec<String> {
    let is_there = |tool: &&str| find::program(tool, environment.get("PATH")).is_some();
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

fn log_programs(cli: &Cli, environment: &Environment) {
    let path_variable = environment.get("PATH");
    if find::program("git", path_variable).is_none() {
        warn!(
            "git was not found on PATH: results have no diff, and no ticket can have a clone; install it"
        );
    }
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
