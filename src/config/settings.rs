//! The table of settings. It is the only place for the name, default, range and meaning of each setting.
//! `Config::load`, the flags, `--help`, the completions and `doctor` use this table.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

#[derive(Debug)]
pub struct Setting {
    pub name: &'static str,
    /// The word that stands for the value in help.
    pub value: &'static str,
    pub kind: Kind,
    pub fallback: Fallback,
    /// A correct value. Errors show it.
    pub example: &'static str,
    pub about: &'static str,
}

/// The values that a setting can have. Shell completions depend on this.
#[derive(Debug, Clone)]
pub enum Kind {
    Text,
    /// A secret has no flag, because every user of the machine can read command lines.
    Secret,
    File,
    Folder,
    Program,
    Number(RangeInclusive<u64>),
    /// One of these words, in upper or lower case.
    Choice(&'static [&'static str]),
}

/// What happens if a setting is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    Required,
    Nothing,
    /// The setting gets this value, as if the user had given it.
    Value(&'static str),
    /// The program computes a value. The text describes this value for help.
    Computed(&'static str),
}

/// Stands for a role in a setting's name.
const ROLE: &str = "<ROLE>";
const TICKET_TIMEOUT: &str = "TICKET_TIMEOUT_<ROLE>_SECONDS";
const SWITCH: &[&str] = &["0", "1"];

const fn setting(name: &'static str, value: &'static str) -> Setting {
    Setting {
        name,
        value,
        kind: Kind::Text,
        fallback: Fallback::Nothing,
        example: "",
        about: "",
    }
}

impl Setting {
    const fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    const fn required(mut self, example: &'static str) -> Self {
        self.fallback = Fallback::Required;
        self.example = example;
        self
    }

    const fn optional(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    const fn default(mut self, value: &'static str) -> Self {
        self.fallback = Fallback::Value(value);
        self.example = value;
        self
    }

    const fn number(self, default: &'static str, range: RangeInclusive<u64>) -> Self {
        self.default(default).kind(Kind::Number(range))
    }

    const fn choice(self, default: &'static str, words: &'static [&'static str]) -> Self {
        self.default(default).kind(Kind::Choice(words))
    }

    const fn computed(mut self, description: &'static str, example: &'static str) -> Self {
        self.fallback = Fallback::Computed(description);
        self.example = example;
        self
    }

    const fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    pub fn has_flag(&self) -> bool {
        !matches!(self.kind, Kind::Secret)
    }

    /// Whether each role has a setting of its own.
    pub fn is_for_roles(&self) -> bool {
        self.name.contains(ROLE)
    }

    /// The names of this setting. If each role has its own name, these are the names among `candidates`.
    pub fn names(&self, candidates: impl Iterator<Item = String>) -> Vec<String> {
        if !self.is_for_roles() {
            return vec![self.name.to_owned()];
        }
        let is_own = |name: &String| find(name).is_some_and(|found| found.name == self.name);
        let names: BTreeSet<_> = candidates.filter(is_own).collect();
        names.into_iter().collect()
    }
}

pub const SETTINGS: &[Setting] = &[
    setting("WORKFORCE0_API_URL", "URL")
        .required("https://workforce0.example.com")
        .about("URL of the backend; http and ws only for this machine"),
    setting("WORKFORCE0_AGENT_TOKEN", "TOKEN")
        .kind(Kind::Secret)
        .required("wfa_…")
        .about("Agent token; required unless WORKFORCE0_AGENT_TOKEN_FILE is set"),
    setting("WORKFORCE0_AGENT_TOKEN_FILE", "FILE")
        .kind(Kind::File)
        .optional("/etc/wf0-agent/token")
        .about("File that contains the agent token. The token itself has no flag: command lines are public"),
    setting("WORKFORCE0_PROTOCOL", "NAME")
        .choice("auto", &["auto", "ticket", "hub"])
        .about("Protocol of the backend; auto finds it out"),
    setting("REPO_PATHS", "LIST")
        .required("/home/me/projects/app,acme/web=/home/me/projects/web")
        .about("Folders in which tickets may run, comma-separated, each as path or owner/name=path"),
    setting("CLI_COMMAND", "PROGRAM")
        .kind(Kind::Program)
        .default("claude")
        .about("The coding CLI: a program on PATH, or a path"),
    setting("CLI_ARGS_TEMPLATE", "WORDS")
        .computed("depends on the CLI", "-p --permission-mode acceptEdits")
        .about(
            "Arguments for the CLI, split like a shell command line, but no shell is run. Placeholders: {cwd} {prompt} \
             {prompt_file} {ticket_id} {role} {title}. Without {prompt} and {prompt_file} the prompt goes to stdin",
        ),
    setting("CLI_OFFLINE_ARGS_TEMPLATE", "WORDS")
        .optional("exec --oss -")
        .about("Arguments for a run that starts while the backend cannot be reached"),
    setting("CLI_QUOTA_PATTERN", "REGEX")
        .computed("built-in patterns", "usage limit reached|out of credits")
        .about("Regular expression, case ignored. If the error of a failed run matches it, the quota is used up"),
    setting("CLI_AUTONOMY", "LEVEL")
        .choice("edits", &["edits", "commands", "all"])
        .about("What the CLI may do without asking; some CLIs know fewer levels"),
    setting("AGENT_ROLES", "LIST")
        .default("dev,qa")
        .about("Roles whose tickets the agent takes, comma-separated"),
    setting("AGENT_NAME", "NAME")
        .computed("host name", "build-server-2")
        .about("The agent's name in the web UI"),
    setting("MAX_CONCURRENT_TICKETS", "N")
        .number("1", 1..=64)
        .about("Number of tickets that run at once; in one work tree only one at a time, except in clones"),
    setting(TICKET_TIMEOUT, "SECONDS")
        .number("1800", 1..=7 * 24 * 3600)
        .about("Time limit of a run of this role"),
    setting("KILL_GRACE_SECONDS", "SECONDS")
        .number("5", 0..=300)
        .about("Time between SIGTERM and SIGKILL"),
    setting("DRAIN_SECONDS", "SECONDS")
        .number("60", 0..=3600)
        .about("Time that running tickets have after the first signal; a second signal ends them"),
    setting("PROGRESS_SECONDS", "SECONDS")
        .number("10", 1..=3600)
        .about("Time between two progress reports of a run"),
    setting("PROGRESS_LINES", "0|1")
        .choice("1", SWITCH)
        .about("1: progress reports include what the CLI is doing (for unknown CLIs: what it prints)"),
    setting("MAX_STDOUT_BYTES", "BYTES")
        .number("1048576", 1024..=4 << 20)
        .about("Maximum size of stdout that is sent; the full output stays on disk"),
    setting("MAX_DIFF_BYTES", "BYTES")
        .number("3145728", 1024..=4 << 20)
        .about("Maximum size of a diff that is sent; a larger diff stays on disk"),
    setting("STATE_DIR", "FOLDER")
        .kind(Kind::Folder)
        .computed("the system's folder for state", "/var/lib/wf0-agent")
        .about("Folder for agent id, lock, and a folder for each run with its prompt, output, diff and clone"),
    setting("KEEP_TICKETS_DAYS", "DAYS")
        .number("14", 1..=3650)
        .about("Days to keep a run's folder after delivery"),
    setting("WORKSPACE_MODE", "MODE")
        .choice("auto", &["auto", "inplace", "clone"])
        .about(
            "Where tickets run: inplace, clone (each in a clone below STATE_DIR), or auto (in place if the folder is \
             writable at the start, and on Windows; else in clones)",
        ),
    setting("REQUIRE_APPROVAL", "0|1")
        .choice("0", SWITCH)
        .about("1: show each ticket at the terminal and run it only after a yes"),
    setting("ALLOW_INSECURE", "0|1")
        .choice("0", SWITCH)
        .about("1: send the token unencrypted (http, ws) to another host"),
    setting("HTTPS_PROXY", "URL")
        .optional("http://proxy.example.com:3128")
        .about(
            "Proxy for a backend at https or wss, as http://user:password@host:port; also in lower case. Do not give a \
             password as a flag: command lines are public",
        ),
    setting("HTTP_PROXY", "URL")
        .optional("http://proxy.example.com:3128")
        .about("Proxy for a backend at http or ws; also in lower case"),
    setting("ALL_PROXY", "URL")
        .optional("http://proxy.example.com:3128")
        .about("Proxy for any backend, if HTTPS_PROXY or HTTP_PROXY does not name one; also in lower case"),
    setting("NO_PROXY", "LIST")
        .optional("localhost,.example.com,10.0.0.0/8")
        .about(
            "Hosts to reach without a proxy: names with all their subdomains, addresses, networks (10.0.0.0/8), or * for \
             all; also in lower case. This machine is always reached directly",
        ),
    setting("SSL_CERT_FILE", "FILE")
        .kind(Kind::File)
        .optional("/etc/ssl/company-ca.pem")
        .about("File with root certificates (PEM) to trust besides the system's: a company's own CA"),
    setting("SSL_CERT_DIR", "FOLDERS")
        .kind(Kind::Folder)
        .optional("/etc/ssl/company")
        .about("Folders with such files, separated as in PATH"),
    setting("LOG_LEVEL", "LEVEL")
        .choice("info", &["error", "warn", "info", "debug", "trace"])
        .about("How much to log; debug includes all WebSocket traffic. MODULE=LEVEL for one module: info,wf0_agent::link=debug"),
    setting("LOG_FORMAT", "FORM")
        .choice("auto", &["auto", "text", "json"])
        .about(
            "Form of the log: text, json (one object per line), or auto (short and coloured at a terminal, without times \
             where the journal has them, else text)",
        ),
];

/// The setting with this name. `TICKET_TIMEOUT_QA_SECONDS` finds `TICKET_TIMEOUT_<ROLE>_SECONDS`.
pub fn find(name: &str) -> Option<&'static Setting> {
    let role = name
        .strip_prefix("TICKET_TIMEOUT_")
        .and_then(|rest| rest.strip_suffix("_SECONDS"));
    let listed = if role.is_some_and(|role| !role.is_empty()) {
        TICKET_TIMEOUT
    } else {
        name
    };
    SETTINGS.iter().find(|setting| setting.name == listed)
}

pub fn ticket_timeout(role: &str) -> String {
    TICKET_TIMEOUT.replace(ROLE, &name_of_flag(role))
}

/// Turns `repo-paths` into `REPO_PATHS`.
pub fn name_of_flag(flag: &str) -> String {
    flag.to_ascii_uppercase().replace('-', "_")
}

pub fn flag_of_name(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}
