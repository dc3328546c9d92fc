//! Turns raw settings into one validated [`Config`]. Code that has a `Config` need not check a setting again.

mod api_url;
mod paths;
mod proxy;
pub mod settings;
mod sources;
mod token;

use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

pub use api_url::{ApiUrl, HostPort};
pub use paths::{Roots, canonicalize};
pub use proxy::Proxy;
pub use sources::{Given, Origin, SettingError, Sources};
pub use token::Token;

use crate::domain::invocation::Template;
use crate::domain::message::Dialect;
use crate::domain::quota::QuotaMessage;
use crate::domain::repos::Repo;
use crate::domain::ticket::Role;
use sources::Reader;

/// The time, besides drain and grace, that the daemon needs to end its runs and to get their outcomes confirmed.
const STOP_RESERVE: Duration = Duration::from_secs(20);
const AGENT_NAME_MAX: usize = 128;

#[derive(Debug, Clone)]
pub struct Config {
    pub api: ApiUrl,
    /// `None`: the daemon connects to the backend directly.
    pub proxy: Option<Proxy>,
    pub roots: Roots,
    pub token: Token,
    /// `None`: the daemon finds out the dialect at the first connection.
    pub dialect: Option<Dialect>,
    /// Canonical folders. A folder has a slug (`owner/name`) only if the setting names it.
    pub repos: Vec<Repo>,
    pub cli: CliConfig,
    /// Each role with its time limit.
    pub roles: Vec<(Role, Duration)>,
    pub agent_name: String,
    pub max_concurrent: usize,
    pub grace: Duration,
    /// How long runs may continue after the request to stop.
    pub drain: Duration,
    pub keep_days: u64,
    pub workspace: WorkspaceMode,
    pub progress: ProgressConfig,
    pub limits: Limits,
    pub state_dir: PathBuf,
    pub log_filter: LogFilter,
    pub log_format: LogFormat,
    pub require_approval: bool,
}

#[derive(Debug, Clone)]
pub struct CliConfig {
    pub command: String,
    /// `None`: the default arguments for this CLI.
    pub args: Option<Template>,
    /// These replace `args` for a run that starts while the backend cannot be reached.
    pub offline_args: Option<Template>,
    pub quota: QuotaMessage,
    pub autonomy: Autonomy,
}

/// What the CLI may do without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Autonomy {
    Edits,
    Commands,
    All,
}

/// Where tickets run. `Auto`: the daemon chooses for each repository, as `WORKSPACE_MODE` describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkspaceMode {
    Auto,
    InPlace,
    Clone,
}

#[derive(Debug, Clone, Copy)]
pub struct ProgressConfig {
    pub every: Duration,
    pub lines: bool,
}

/// `Auto`: the format depends on where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Auto,
    Text,
    Json,
}

/// The maximum sizes of the output and the diff that the daemon sends.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub stdout_bytes: usize,
    pub diff_bytes: usize,
}

/// Everything that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.lines().join("\n"))]
pub struct ConfigError(pub Vec<SettingError>);

impl ConfigError {
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl Config {
    /// Reads every setting, and reports all errors at once.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut r = Reader {
            sources,
            errors: Vec::new(),
        };
        match Self::read(&mut r) {
            Some(config) if r.errors.is_empty() => Ok(config),
            _ => Err(ConfigError(r.errors)),
        }
    }

    fn read(r: &mut Reader) -> Option<Self> {
        let insecure = r.switch("ALLOW_INSECURE");
        let api = r.value("WORKFORCE0_API_URL", |text| ApiUrl::parse(text, insecure));
        let token = Token::read(r);
        let repos = r.value("REPO_PATHS", paths::parse_repos);
        let state_dir = paths::state_dir(r, repos.as_deref().unwrap_or_default());
        let roles = r.value("AGENT_ROLES", parse_roles).unwrap_or_default();
        let with_limit = |role: Role| {
            let limit = r.seconds(&settings::ticket_timeout(role.as_str()));
            (role, limit)
        };
        let roles = roles.into_iter().map(with_limit).collect();
        let name = |text: &str| Ok(text.chars().take(AGENT_NAME_MAX).collect());
        Some(Self {
            proxy: api.as_ref().and_then(|api| Proxy::read(r, api)),
            roots: Roots::read(r),
            dialect: r.choice(
                "WORKFORCE0_PROTOCOL",
                [None, Some(Dialect::Ticket), Some(Dialect::Hub)],
            ),
            cli: CliConfig::read(r),
            roles,
            agent_name: r.value("AGENT_NAME", name).unwrap_or_else(host_name),
            max_concurrent: r.number("MAX_CONCURRENT_TICKETS") as usize,
            grace: r.seconds("KILL_GRACE_SECONDS"),
            drain: r.seconds("DRAIN_SECONDS"),
            keep_days: r.number("KEEP_TICKETS_DAYS"),
            workspace: r.choice(
                "WORKSPACE_MODE",
                [
                    WorkspaceMode::Auto,
                    WorkspaceMode::InPlace,
                    WorkspaceMode::Clone,
                ],
            ),
            progress: ProgressConfig {
                every: r.seconds("PROGRESS_SECONDS"),
                lines: r.switch("PROGRESS_LINES"),
            },
            limits: Limits {
                stdout_bytes: r.number("MAX_STDOUT_BYTES") as usize,
                diff_bytes: r.number("MAX_DIFF_BYTES") as usize,
            },
            log_filter: r.value("LOG_LEVEL", LogFilter::parse).unwrap_or_default(),
            log_format: r.choice(
                "LOG_FORMAT",
                [LogFormat::Auto, LogFormat::Text, LogFormat::Json],
            ),
            require_approval: r.switch("REQUIRE_APPROVAL"),
            // These come last: `?` returns at a missing value, and every other setting must be read before.
            api: api?,
            token: token?,
            repos: repos?,
            state_dir: state_dir?,
        })
    }

    /// The state folder alone, for commands that only look into it.
    pub fn load_state_dir(sources: &Sources) -> Result<PathBuf, ConfigError> {
        let mut r = Reader {
            sources,
            errors: Vec::new(),
        };
        paths::state_dir(&mut r, &[]).ok_or(ConfigError(r.errors))
    }

    /// The longest time that the daemon needs to stop.
    pub fn stop_limit(&self) -> Duration {
        self.drain + self.grace + STOP_RESERVE
    }
}

impl CliConfig {
    fn read(r: &mut Reader) -> Self {
        let template = |text: &str| Template::parse(text).map_err(|e| e.to_string());
        let command = r.value("CLI_COMMAND", paths::parse_command);
        let quota = r.value("CLI_QUOTA_PATTERN", QuotaMessage::parse);
        Self {
            command: command.unwrap_or_default(),
            args: r.value("CLI_ARGS_TEMPLATE", template),
            offline_args: r.value("CLI_OFFLINE_ARGS_TEMPLATE", template),
            quota: quota.unwrap_or_default(),
            autonomy: r.choice(
                "CLI_AUTONOMY",
                [Autonomy::Edits, Autonomy::Commands, Autonomy::All],
            ),
        }
    }
}

fn parse_roles(text: &str) -> Result<Vec<Role>, String> {
    let mut roles = Vec::new();
    for entry in text.split(',').filter(|entry| !entry.trim().is_empty()) {
        let role = Role::parse(entry)?;
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    if roles.is_empty() {
        return Err("names no role".to_owned());
    }
    Ok(roles)
}

fn host_name() -> String {
    #[cfg(unix)]
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").ok();
    name.unwrap_or_else(|| "wf0-agent".to_owned())
}

/// The prefix of every module of this program.
const OWN: &str = "wf0_agent";

/// Prefixes of module names, each with the least urgent level to log. If a module has several entries, the last one
/// counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter(pub Vec<(String, LevelFilter)>);

impl LogFilter {
    /// Parses `LEVEL`, `MODULE=LEVEL`, or a list of them with commas. A level without a module is for this program.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut filter = Self(vec![(OWN.to_owned(), LevelFilter::Info)]);
        for directive in text.split(',').map(str::trim) {
            let (module, level) = directive.split_once('=').unwrap_or((OWN, directive));
            let (Ok(level), false) = (level.parse(), module.is_empty()) else {
                return Err(
                    "must be error, warn, info, debug or trace; a module has its own level as MODULE=LEVEL, after a comma"
                        .to_owned(),
                );
            };
            let is_own = module == OWN || module.starts_with("wf0_agent::");
            // At this level, the WebSocket and HTTP libraries log headers and frames that contain the token.
            if level == LevelFilter::Trace && !is_own {
                return Err(format!(
                    "{module} can be logged at debug, not at trace, where it shows the token"
                ));
            }
            filter.0.push((module.to_owned(), level));
        }
        Ok(filter)
    }

    /// The same filter, but it logs nothing that is less urgent than `most`.
    pub fn at_most(mut self, most: LevelFilter) -> Self {
        for (_, level) in &mut self.0 {
            *level = (*level).min(most);
        }
        self
    }
}
