//! The settings by name: what there is, and where each value comes from. Not what the values mean.
//!
//! Order: command line flag, environment, `.env`, default.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::environment::Environment;

/// One setting as `--help` shows it.
#[derive(Debug)]
pub struct Setting {
    pub name: &'static str,
    /// What its value looks like.
    pub value: &'static str,
    pub kind: Kind,
    /// As people read it; empty where there is none.
    pub default: &'static str,
    pub about: &'static str,
    /// Whether there is a flag for it. Not for secrets: every user of the machine can read a command line.
    pub flag: bool,
}

/// What a value is, for a shell that completes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    File,
    Folder,
    Program,
    OneOf(&'static [&'static str]),
}

const fn setting(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    about: &'static str,
) -> Setting {
    Setting {
        name,
        value,
        kind: Kind::Text,
        default,
        about,
        flag: true,
    }
}

const fn of(kind: Kind, setting: Setting) -> Setting {
    Setting { kind, ..setting }
}

const fn switch(name: &'static str, default: &'static str, about: &'static str) -> Setting {
    of(
        Kind::OneOf(&["0", "1"]),
        setting(name, "0|1", default, about),
    )
}

const fn secret(name: &'static str, value: &'static str, about: &'static str) -> Setting {
    Setting {
        flag: false,
        ..setting(name, value, "", about)
    }
}

/// Every setting. `<ROLE>` stands for a role in upper case.
pub const SETTINGS: &[Setting] = &[
    setting(
        "WORKFORCE0_API_URL",
        "URL",
        "required",
        "the backend, such as https://workforce0.example.com",
    ),
    secret(
        "WORKFORCE0_AGENT_TOKEN",
        "TOKEN",
        "the token; required unless the file is given (no flag: command lines are public)",
    ),
    of(
        Kind::File,
        setting(
            "WORKFORCE0_AGENT_TOKEN_FILE",
            "FILE",
            "",
            "a file that holds the token",
        ),
    ),
    of(
        Kind::OneOf(&["auto", "ticket", "hub"]),
        setting(
            "WORKFORCE0_PROTOCOL",
            "NAME",
            "auto",
            "what the backend speaks: ticket, hub, or auto to find out",
        ),
    ),
    setting(
        "REPO_PATHS",
        "LIST",
        "required",
        "comma-separated folders, each `path` or `owner/name=path`",
    ),
    of(
        Kind::Program,
        setting(
            "CLI_COMMAND",
            "PROGRAM",
            "claude",
            "the coding CLI: a program on PATH, or a path",
        ),
    ),
    setting(
        "CLI_ARGS_TEMPLATE",
        "WORDS",
        "by CLI",
        "its arguments: {cwd} {prompt} {prompt_file} {ticket_id} {role} {title}; the prompt goes to stdin unless one takes it",
    ),
    setting(
        "CLI_OFFLINE_ARGS_TEMPLATE",
        "WORDS",
        "",
        "its arguments instead, for a run that starts while the backend cannot be reached",
    ),
    setting(
        "CLI_QUOTA_PATTERN",
        "REGEX",
        "the usual words",
        "in a failed run's own error: the CLI's subscription is used up (upper or lower case)",
    ),
    of(
        Kind::OneOf(&["edits", "commands", "all"]),
        setting(
            "CLI_AUTONOMY",
            "LEVEL",
            "edits",
            "what the CLI may do unasked: edits, commands or all",
        ),
    ),
    setting(
        "AGENT_ROLES",
        "LIST",
        "dev,qa",
        "roles to claim, comma-separated",
    ),
    setting(
        "AGENT_NAME",
        "NAME",
        "host name",
        "how the agent is called in the web UI",
    ),
    setting(
        "MAX_CONCURRENT_TICKETS",
        "N",
        "1",
        "runs at once, 1 to 64; one at a time within one work tree",
    ),
    setting(
        "TICKET_TIMEOUT_<ROLE>_SECONDS",
        "SECONDS",
        "1800",
        "time limit of a run, such as TICKET_TIMEOUT_DEV_SECONDS, 1 to 604800",
    ),
    setting(
        "KILL_GRACE_SECONDS",
        "SECONDS",
        "5",
        "between TERM and KILL, 0 to 300",
    ),
    setting(
        "DRAIN_SECONDS",
        "SECONDS",
        "60",
        "on the first signal: how long running tickets may go on, 0 to 3600",
    ),
    setting(
        "PROGRESS_SECONDS",
        "SECONDS",
        "10",
        "how often a long run reports, 1 to 3600",
    ),
    switch(
        "PROGRESS_LINES",
        "1",
        "whether reports say what the CLI does, or prints where it is not known",
    ),
    setting(
        "MAX_STDOUT_BYTES",
        "BYTES",
        "1048576",
        "how much of the CLI's output is sent, 1024 to 4194304",
    ),
    setting(
        "MAX_DIFF_BYTES",
        "BYTES",
        "3145728",
        "a larger diff is not sent, 1024 to 4194304",
    ),
    of(
        Kind::Folder,
        setting(
            "STATE_DIR",
            "FOLDER",
            "the system's place",
            "agent id, lock, and a folder for each run with its prompt, output and diff",
        ),
    ),
    setting(
        "KEEP_TICKETS_DAYS",
        "DAYS",
        "14",
        "a run's folder is removed so long after its delivery, 1 to 3650",
    ),
    of(
        Kind::OneOf(&["auto", "inplace", "clone"]),
        setting(
            "WORKSPACE_MODE",
            "MODE",
            "auto",
            "where runs work: inplace, clone (each in a clone below STATE_DIR), auto (in place where the folder is writable)",
        ),
    ),
    switch(
        "ALLOW_INSECURE",
        "0",
        "1: send the token in clear text (ws, http) to a host that is not this machine",
    ),
    switch(
        "REQUIRE_APPROVAL",
        "0",
        "1: ask at the terminal before each run",
    ),
    setting(
        "HTTPS_PROXY",
        "URL",
        "",
        "the proxy to a backend at https or wss: http://user:password@host:port; this and the next three also in lower \
         case (no password in a flag: command lines are public)",
    ),
    setting(
        "HTTP_PROXY",
        "URL",
        "",
        "the same for a backend at http or ws",
    ),
    setting(
        "ALL_PROXY",
        "URL",
        "",
        "the same where the one of the two that applies is not set",
    ),
    setting(
        "NO_PROXY",
        "LIST",
        "",
        "reached without a proxy: names with all below them, addresses, networks (10.0.0.0/8), * for all; this machine always",
    ),
    of(
        Kind::File,
        setting(
            "SSL_CERT_FILE",
            "FILE",
            "",
            "further root certificates (PEM) to trust besides the system's: a company's own CA",
        ),
    ),
    of(
        Kind::Folder,
        setting(
            "SSL_CERT_DIR",
            "FOLDERS",
            "",
            "folders with such files, separated as in PATH",
        ),
    ),
    of(
        Kind::OneOf(&["error", "warn", "info", "debug", "trace"]),
        setting(
            "LOG_LEVEL",
            "LEVEL",
            "info",
            "how much is logged: error, warn, info, debug (with all WebSocket traffic) or trace; MODULE=LEVEL for one module",
        ),
    ),
    of(
        Kind::OneOf(&["auto", "text", "json"]),
        setting(
            "LOG_FORMAT",
            "FORM",
            "auto",
            "what the log looks like: text, json (an object a line), or auto (short and coloured at a terminal; no times \
             where the journal has them; else text)",
        ),
    ),
];

/// The setting that a name belongs to; `TICKET_TIMEOUT_QA_SECONDS` belongs to `TICKET_TIMEOUT_<ROLE>_SECONDS`.
pub fn find(name: &str) -> Option<&'static Setting> {
    let of_role = name
        .strip_prefix("TICKET_TIMEOUT_")
        .and_then(|rest| rest.strip_suffix("_SECONDS"));
    let listed = if of_role.is_some_and(|role| !role.is_empty()) {
        "TICKET_TIMEOUT_<ROLE>_SECONDS"
    } else {
        name
    };
    SETTINGS.iter().find(|setting| setting.name == listed)
}

/// `--repo-paths` is `REPO_PATHS`.
pub fn name_of_flag(flag: &str) -> String {
    flag.to_ascii_uppercase().replace('-', "_")
}

pub fn flag_of_name(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Flag,
    Environment,
    File,
}

/// What the command line says of settings.
#[derive(Debug, Default, Clone)]
pub struct Given {
    pub flags: HashMap<String, OsString>,
    /// Instead of `.env` in the working directory.
    pub env_file: Option<PathBuf>,
}

/// The values as they were found, none of them checked.
#[derive(Default)]
pub struct Sources {
    flags: HashMap<String, OsString>,
    environment: Environment,
    env_file: HashMap<String, String>,
}

impl Sources {
    /// `environment` is the process's own.
    pub fn collect(given: Given, environment: Environment) -> Result<Self, EnvFileError> {
        let Given { flags, env_file } = given;
        let env_file = match env_file {
            Some(path) => read_env_file(&path)?,
            None if Path::new(".env").is_file() => read_env_file(Path::new(".env"))?,
            None => HashMap::new(),
        };
        Ok(Self {
            flags,
            environment,
            env_file,
        })
    }

    /// Flags and what is left of the environment once no setting is in it, and no file: nothing of the user's counts.
    pub fn only(
        flags: HashMap<String, OsString>,
        environment: &Environment,
        token: OsString,
    ) -> Self {
        let variables = environment.for_cli().into_iter().filter(|(name, _)| {
            let name = name.to_string_lossy();
            find(&name).is_none()
        });
        let variables = variables
            .chain([("WORKFORCE0_AGENT_TOKEN".into(), token)])
            .collect();
        Self {
            flags,
            environment: Environment::new(variables),
            env_file: HashMap::new(),
        }
    }

    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The value that counts.
    pub fn get(&self, name: &str) -> Option<OsString> {
        self.look_up(name).map(|(value, _)| value)
    }

    /// The same, and where it stands. An empty one is none: container files and units often set what they do not use.
    pub fn look_up(&self, name: &str) -> Option<(OsString, Origin)> {
        let flag = |name: &str| Some((self.flags.get(name)?.clone(), Origin::Flag));
        let own = |name: &str| {
            Some((
                OsString::from(self.environment.get(name)?),
                Origin::Environment,
            ))
        };
        let file = |name: &str| Some((OsString::from(self.env_file.get(name)?), Origin::File));
        // curl, and most that read them, take the names of proxies in lower case, and before those in upper case.
        let lower = name.ends_with("_PROXY").then(|| name.to_ascii_lowercase());
        let names = || lower.as_deref().into_iter().chain([name]);
        let mut found = flag(name)
            .into_iter()
            .chain(names().filter_map(own))
            .chain(names().filter_map(file));
        found.find(|(value, _)| !value.is_empty())
    }

    /// The names by which a setting can be looked up: its own, or those for roles that stand somewhere.
    pub fn names_of(&self, setting: &Setting) -> Vec<String> {
        if !setting.name.contains('<') {
            return vec![setting.name.to_owned()];
        }
        let names = self
            .flags
            .keys()
            .chain(self.env_file.keys())
            .cloned()
            .chain(self.environment.names());
        let mut names: Vec<_> = names
            .filter(|name| find(name).is_some_and(|found| found.name == setting.name))
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Why the settings' file could not be read. It never shows what stands in the file: the token does.
#[derive(Debug)]
pub struct EnvFileError {
    path: PathBuf,
    why: String,
}

impl fmt::Display for EnvFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

fn read_env_file(path: &Path) -> Result<HashMap<String, String>, EnvFileError> {
    let failed = |why: String| EnvFileError {
        path: path.to_owned(),
        why,
    };
    let bytes = std::fs::read(path).map_err(|e| failed(format!("cannot be read: {e}")))?;
    // Some editors of Windows begin a file with a byte order mark.
    let entries = dotenvy::from_read_iter(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes));
    let mut values = HashMap::new();
    let mut last = None;
    for entry in entries {
        let (name, value) = entry.map_err(|e| match (e, &last) {
            (dotenvy::Error::Io(e), _) => failed(format!("cannot be read: {e}")),
            (_, None) => failed(
                "its first entry is not NAME=value; quote values that hold spaces or #".to_owned(),
            ),
            (_, Some(last)) => failed(format!(
                "the entry after {last} is not NAME=value; quote values that hold spaces or #"
            )),
        })?;
        // A quote left open takes in the lines that follow: an error that quotes the value would show the token.
        if value
            .lines()
            .skip(1)
            .any(|line| line.contains("WORKFORCE0_AGENT_TOKEN"))
        {
            return Err(failed(format!(
                "the value of {name} takes in the line of the token; close its quote"
            )));
        }
        last = Some(name.clone());
        // As in a shell, the last assignment of a name counts.
        values.insert(name, value);
    }
    Ok(values)
}
