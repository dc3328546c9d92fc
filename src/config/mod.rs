//! Raw settings into one validated [`Config`]. Whoever holds one need not check again.

mod api_url;
mod log_filter;
pub mod proxy;
mod roots;
pub mod settings;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use api_url::ApiUrl;
pub use log_filter::LogFilter;
pub use proxy::Proxy;
pub use roots::Roots;
use settings::Sources;

use crate::domain::invocation::Template;
use crate::domain::message::Dialect;
use crate::domain::quota::QuotaMessage;
use crate::domain::repos::{Repo, Workspace, is_slug};
use crate::domain::ticket::Role;

#[derive(Debug, Clone)]
pub struct Config {
    pub api: ApiUrl,
    /// What lies between here and there; `None`: nothing.
    pub proxy: Option<Proxy>,
    /// Beside the system's.
    pub roots: Roots,
    pub token: Token,
    /// `None`: whichever the backend turns out to speak.
    pub dialect: Option<Dialect>,
    /// Canonical folders. The slug is there where the setting names it.
    pub repos: Vec<Repo>,
    pub cli: CliConfig,
    /// Each role with its time limit.
    pub roles: Vec<(Role, Duration)>,
    pub agent_name: String,
    pub max_concurrent: usize,
    pub grace: Duration,
    /// How long runs may go on once the daemon is told to stop.
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
    /// `None`: what is usual for the CLI.
    pub args: Option<Template>,
    /// Instead of those, where a run starts while the backend cannot be reached.
    pub offline_args: Option<Template>,
    pub quota: QuotaMessage,
    pub autonomy: Autonomy,
}

/// What the CLI may do unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Autonomy {
    Edits,
    Commands,
    All,
}

/// Where runs work: as each repository allows, in it, or each in a clone.
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

/// What the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// As suits where it goes.
    Auto,
    Text,
    Json,
}

/// How much of a run's output is sent.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub stdout_bytes: usize,
    pub diff_bytes: usize,
}

/// The agent token. `Debug` and `Display` show nothing of it: a log line or an error can never hold it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(
                "holds a space, a control or a non-ASCII character; it cannot be a token"
                    .to_owned(),
            );
        }
        Ok(Self(text.to_owned()))
    }

    /// For the one frame of the one dialect that wants it there.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// The value of the `Authorization` header (RFC 6750 section 2.1).
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Everything that is wrong with the settings, one line each.
#[derive(Debug)]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// Each begins with the setting's name.
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl Config {
    /// Reads every setting and names all that cannot be used at once.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut r = Reader {
            sources,
            errors: Vec::new(),
        };
        let insecure = r.flag("ALLOW_INSECURE", false);
        let api = r.required(
            "WORKFORCE0_API_URL",
            "https://workforce0.example.com",
            |text| ApiUrl::parse(text, insecure),
        );
        let proxy = api.as_ref().and_then(|api| r.proxy(api));
        let roots = r.roots();
        let token = r.token();
        let dialect = r.or("WORKFORCE0_PROTOCOL", "auto", None, |text| {
            match text.trim() {
                "auto" => Ok(None),
                name => Dialect::parse(name)
                    .map(Some)
                    .ok_or_else(|| "must be auto, ticket or hub".to_owned()),
            }
        });
        let repos = r.required(
            "REPO_PATHS",
            "/home/me/projects/app,acme/web=/home/me/projects/web",
            parse_repos,
        );
        let command = r.or("CLI_COMMAND", "claude", "claude".to_owned(), parse_command);
        let template = |text: &str| Template::parse(text).map_err(|e| e.to_string());
        let args = r.optional(
            "CLI_ARGS_TEMPLATE",
            "-p --permission-mode acceptEdits",
            template,
        );
        let offline_args = r.optional("CLI_OFFLINE_ARGS_TEMPLATE", "exec --oss -", template);
        let quota = r.optional(
            "CLI_QUOTA_PATTERN",
            "usage limit reached|out of credits",
            QuotaMessage::parse,
        );
        let autonomy = r.or("CLI_AUTONOMY", "edits", Autonomy::Edits, parse_autonomy);
        let roles = r.or("AGENT_ROLES", "dev,qa", None, |text| {
            parse_roles(text).map(Some)
        });
        let roles = roles.unwrap_or_else(|| parse_roles("dev,qa").unwrap_or_default());
        let roles = roles.into_iter().map(|role| {
            let name = format!(
                "TICKET_TIMEOUT_{}_SECONDS",
                role.as_str().to_ascii_uppercase().replace('-', "_")
            );
            let limit = r.number(&name, 1800, 1, 7 * 24 * 3600);
            (role, Duration::from_secs(limit))
        });
        let roles = roles.collect();
        let agent_name = r.optional("AGENT_NAME", "build-server-2", |text| {
            Ok(text.chars().take(128).collect())
        });
        let max_concurrent = r.number("MAX_CONCURRENT_TICKETS", 1, 1, 64) as usize;
        let grace = Duration::from_secs(r.number("KILL_GRACE_SECONDS", 5, 0, 300));
        let drain = Duration::from_secs(r.number("DRAIN_SECONDS", 60, 0, 3600));
        let keep_days = r.number("KEEP_TICKETS_DAYS", 14, 1, 3650);
        let workspace = r.or(
            "WORKSPACE_MODE",
            "auto",
            WorkspaceMode::Auto,
            parse_workspace,
        );
        let every = Duration::from_secs(r.number("PROGRESS_SECONDS", 10, 1, 3600));
        let progress = ProgressConfig {
            every,
            lines: r.flag("PROGRESS_LINES", true),
        };
        let limits = Limits {
            stdout_bytes: r.number("MAX_STDOUT_BYTES", 1 << 20, 1024, 4 << 20) as usize,
            diff_bytes: r.number("MAX_DIFF_BYTES", 3 << 20, 1024, 4 << 20) as usize,
        };
        let state_dir = r.state_dir(repos.as_deref().unwrap_or_default());
        let log_filter = r.or(
            "LOG_LEVEL",
            "info",
            LogFilter::own(log::LevelFilter::Info),
            LogFilter::parse,
        );
        let log_format = r.or("LOG_FORMAT", "auto", LogFormat::Auto, parse_log_format);
        let require_approval = r.flag("REQUIRE_APPROVAL", false);
        match (api, token, repos, state_dir) {
            (Some(api), Some(token), Some(repos), Some(state_dir)) if r.errors.is_empty() => {
                Ok(Self {
                    api,
                    proxy,
                    roots,
                    token,
                    dialect,
                    repos,
                    cli: CliConfig {
                        command,
                        args,
                        offline_args,
                        quota: quota.unwrap_or_default(),
                        autonomy,
                    },
                    roles,
                    agent_name: agent_name.unwrap_or_else(host_name),
                    max_concurrent,
                    grace,
                    drain,
                    keep_days,
                    workspace,
                    progress,
                    limits,
                    state_dir,
                    log_filter,
                    log_format,
                    require_approval,
                })
            }
            _ => Err(ConfigError(r.errors)),
        }
    }

    /// Drain, grace, and what it takes to end runs and have their outcomes confirmed, with some to spare.
    pub fn stop_limit(&self) -> Duration {
        self.drain + self.grace + Duration::from_secs(20)
    }

    /// Only the state folder, for what looks into it without being the daemon.
    pub fn load_state_dir(sources: &Sources) -> Result<PathBuf, ConfigError> {
        let mut r = Reader {
            sources,
            errors: Vec::new(),
        };
        r.state_dir(&[]).ok_or(ConfigError(r.errors))
    }
}

/// Takes one setting after the other and remembers what was wrong.
struct Reader<'a> {
    sources: &'a Sources,
    errors: Vec<String>,
}

impl Reader<'_> {
    fn wrong(&mut self, name: &str, why: &str, example: &str) {
        self.errors
            .push(format!("{name}: {why} (example: {name}={example})"));
    }

    fn text(&mut self, name: &str, example: &str) -> Option<String> {
        match self.sources.get(name)?.into_string() {
            Ok(text) => Some(text),
            Err(_) => {
                self.wrong(name, "is not UTF-8", example);
                None
            }
        }
    }

    fn optional<T>(
        &mut self,
        name: &str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name, example)?;
        parse(&text)
            .map_err(|why| self.wrong(name, &why, example))
            .ok()
    }

    fn or<T>(
        &mut self,
        name: &str,
        example: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        self.optional(name, example, parse).unwrap_or(default)
    }

    fn required<T>(
        &mut self,
        name: &str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.sources.get(name).is_none() {
            self.wrong(name, "is required", example);
            return None;
        }
        self.optional(name, example, parse)
    }

    fn number(&mut self, name: &str, default: u64, least: u64, most: u64) -> u64 {
        self.or(name, &default.to_string(), default, |text| {
            match text.trim().parse() {
                Ok(number) if (least..=most).contains(&number) => Ok(number),
                _ => Err(format!("must be a whole number from {least} to {most}")),
            }
        })
    }

    fn flag(&mut self, name: &str, default: bool) -> bool {
        self.or(
            name,
            if default { "1" } else { "0" },
            default,
            |text| match text.trim() {
                "0" => Ok(false),
                "1" => Ok(true),
                _ => Err("must be 0 or 1".to_owned()),
            },
        )
    }

    fn token(&mut self) -> Option<Token> {
        const NAME: &str = "WORKFORCE0_AGENT_TOKEN";
        const FILE: &str = "WORKFORCE0_AGENT_TOKEN_FILE";
        let example = "/etc/wf0-agent/token";
        if self.sources.get(NAME).is_some() {
            return self.optional(NAME, "wfa_…", Token::new);
        }
        if self.sources.get(FILE).is_none() {
            self.wrong(
                NAME,
                "is required: mint one in Settings → Agents → Create token",
                "wfa_…",
            );
            return None;
        }
        self.optional(FILE, example, |path| {
            let text = std::fs::read_to_string(path)
                .map_err(|e| format!("{path:?} cannot be read: {e}"))?;
            Token::new(&text).map_err(|why| format!("what {path:?} holds {why}"))
        })
    }

    /// Only the setting that counts has to be usable: what the others hold may be meant for other programs.
    fn proxy(&mut self, api: &ApiUrl) -> Option<Proxy> {
        let no_proxy = self
            .text("NO_PROXY", "localhost,.example.com,10.0.0.0/8")
            .unwrap_or_default();
        let name = *proxy::settings_for(api)
            .iter()
            .find(|name| self.sources.get(name).is_some())?;
        if proxy::is_exempt(api.host(), &no_proxy) {
            return None;
        }
        self.optional(name, "http://proxy.example.com:3128", |text| {
            Proxy::parse(name, text)
        })
    }

    fn roots(&mut self) -> Roots {
        let file = self.optional("SSL_CERT_FILE", "/etc/ssl/company-ca.pem", roots::of_file);
        let folders = self.optional("SSL_CERT_DIR", "/etc/ssl/company", roots::of_folders);
        let is_known_to_openssl = self.sources.environment().get("SSL_CERT_FILE").is_some();
        Roots::new(
            file.into_iter().chain(folders).flatten(),
            is_known_to_openssl,
        )
    }

    /// The state folder must lie outside the repositories: what is written there would be part of every diff.
    fn state_dir(&mut self, repos: &[Repo]) -> Option<PathBuf> {
        const NAME: &str = "STATE_DIR";
        let example = "/var/lib/wf0-agent";
        let path = match self.sources.get(NAME) {
            Some(path) => std::path::absolute(PathBuf::from(path)).ok(),
            None => {
                default_state_dir(|name| self.sources.environment().get(name).map(OsString::from))
            }
        };
        let Some(path) = path else {
            self.wrong(
                NAME,
                "is required here: the system names no folder for it",
                example,
            );
            return None;
        };
        if !path.exists()
            && path
                .components()
                .any(|part| part == std::path::Component::ParentDir)
        {
            self.wrong(
                NAME,
                "does not exist and has .. in it, so it is not clear where it would be",
                example,
            );
            return None;
        }
        let path = canonical_as_far_as_it_exists(&path);
        if let Some(repo) = repos.iter().find(|repo| path.starts_with(&repo.path)) {
            let why = format!("{path:?} lies inside the repository {:?}", repo.path);
            self.wrong(NAME, &why, example);
            return None;
        }
        Some(path)
    }
}

fn parse_repos(text: &str) -> Result<Vec<Repo>, String> {
    let mut repos: Vec<Repo> = Vec::new();
    for entry in text
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
    {
        let (slug, path) = match entry.split_once('=') {
            Some((slug, path)) if is_slug(slug.trim()) => {
                (Some(slug.trim().to_owned()), path.trim())
            }
            Some((slug, path)) if !Path::new(entry).exists() => {
                return Err(format!(
                    "{slug:?} before {path:?} is not of the form owner/name"
                ));
            }
            _ => (None, entry),
        };
        let path = canonicalize(path).map_err(|e| format!("{path:?} cannot be used: {e}"))?;
        if !path.is_dir() {
            return Err(format!("{path:?} is not a folder"));
        }
        if path.to_str().is_none() {
            return Err(format!("{path:?} is not UTF-8, which the protocol demands"));
        }
        if !repos.iter().any(|repo| repo.path == path) {
            repos.push(Repo {
                root: path.clone(),
                path,
                slug,
                workspace: Workspace::InPlace,
            });
        }
    }
    if repos.is_empty() {
        Err("names no folder".to_owned())
    } else {
        Ok(repos)
    }
}

/// A command with a path in it is taken from the working directory of now, not from the repository's.
fn parse_command(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if !text.contains(std::path::is_separator) {
        return Ok(text.to_owned());
    }
    let absolute = std::path::absolute(text).map_err(|e| e.to_string())?;
    absolute
        .into_os_string()
        .into_string()
        .map_err(|_| "is not UTF-8".to_owned())
}

fn parse_autonomy(text: &str) -> Result<Autonomy, String> {
    match text.trim() {
        "edits" => Ok(Autonomy::Edits),
        "commands" => Ok(Autonomy::Commands),
        "all" => Ok(Autonomy::All),
        _ => Err("must be edits, commands or all".to_owned()),
    }
}

fn parse_workspace(text: &str) -> Result<WorkspaceMode, String> {
    match text.trim() {
        "auto" => Ok(WorkspaceMode::Auto),
        "inplace" => Ok(WorkspaceMode::InPlace),
        "clone" => Ok(WorkspaceMode::Clone),
        _ => Err("must be auto, inplace or clone".to_owned()),
    }
}

fn parse_log_format(text: &str) -> Result<LogFormat, String> {
    match text.trim() {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be auto, text or json".to_owned()),
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
        Err("names no role".to_owned())
    } else {
        Ok(roles)
    }
}

/// Where programs keep their state: the XDG base directories, Apple's and Windows' own.
fn default_state_dir(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| {
        var(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = if cfg!(windows) {
        folder("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        folder("HOME")?.join("Library/Application Support")
    } else {
        folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?
    };
    Some(base.join("wf0-agent"))
}

/// The folder may not be there yet, but a link above it counts all the same.
fn canonical_as_far_as_it_exists(path: &Path) -> PathBuf {
    let mut missing: Vec<&OsStr> = Vec::new();
    for existing in path.ancestors() {
        if let Ok(real) = canonicalize(existing) {
            return missing
                .iter()
                .rev()
                .fold(real, |path, name| path.join(name));
        }
        missing.extend(existing.file_name());
    }
    path.to_owned()
}

#[cfg(unix)]
fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "wf0-agent".to_owned())
}

#[cfg(not(unix))]
fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "wf0-agent".to_owned())
}

/// On Windows without `\\\\?\\`, which many programs do not understand.
pub fn canonicalize(path: impl AsRef<Path>) -> std::io::Result<PathBuf> {
    #[cfg(windows)]
    return dunce::canonicalize(path);
    #[cfg(not(windows))]
    std::fs::canonicalize(path)
}
