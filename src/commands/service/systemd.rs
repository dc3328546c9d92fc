//! systemd: a service of one user, made from `contrib/systemd/wf0-agent-user.service`; and the other way round, what a
//! unit that is installed would start, be it written by this program or by hand.
//!
//! The system unit, with a user of its own, is root's to install: this program only shows it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::template::fill;
use super::{Definition, Draft, Manager, Plan, Run, State, put};
use crate::commands::exit::MEANINGS;
use crate::environment::Environment;
use crate::job::tool::{self, Said};

/// A service of the user.
const TEMPLATE: &str = include_str!("../../../contrib/systemd/wf0-agent-user.service");
/// A service of the machine.
pub const SYSTEM_TEMPLATE: &str = include_str!("../../../contrib/systemd/wf0-agent.service");
const UNIT: &str = "wf0-agent.service";
/// For questions.
const LIMIT: Duration = Duration::from_secs(20);
/// systemd answers when the daemon has registered. Longer than this nobody waits: the daemon goes on trying.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Above `TimeoutStopSec=` of the unit.
const STOP_LIMIT: Duration = Duration::from_secs(120);
/// What a unit without a PATH has where nobody can be asked.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The user's own systemd.
pub struct Systemd {
    environment: Environment,
    /// Where it looks for what the user configured.
    config: PathBuf,
}

impl Systemd {
    pub fn new(environment: Environment) -> Result<Self, String> {
        let folder = |name: &str| {
            environment
                .get(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
        let config =
            config.ok_or("HOME is not set, and so there is no folder for a service of yours")?;
        Ok(Self {
            environment,
            config,
        })
    }

    fn file(&self) -> PathBuf {
        self.config.join("systemd/user").join(UNIT)
    }

    /// `systemctl --user …`; the error is a whole line that says what to do.
    fn ask(&self, args: &[&str], limit: Duration) -> Result<Said, String> {
        let args: Vec<_> = ["--user"].iter().chain(args).copied().collect();
        let said = tool::ask("systemctl", &args, &self.environment, limit).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => "there is no systemctl on PATH, so no systemd that could run a service (in a \
                                        container, or in WSL without systemd=true in /etc/wsl.conf); start wf0-agent \
                                        itself, or see contrib/docker"
                .to_owned(),
            _ => format!("systemctl cannot be started: {e}"),
        })?;
        let words = said.words();
        if !said.is_well()
            && (words.contains("Failed to connect to")
                || words.contains("not been booted with systemd"))
        {
            return Err(format!(
                "your systemd does not answer: {words}; it is there once you are logged in (not by su or sudo), or \
                 after loginctl enable-linger; in WSL with systemd=true in /etc/wsl.conf, in containers mostly not: start \
                 wf0-agent itself there"
            ));
        }
        Ok(said)
    }

    fn demand(&self, args: &[&str], limit: Duration) -> Result<(), String> {
        let said = self.ask(args, limit)?;
        if said.is_well() {
            return Ok(());
        }
        let what = args.join(" ");
        Err(format!(
            "systemctl --user {what} failed: {}; journalctl --user -u wf0-agent may say why",
            said.words()
        ))
    }

    /// The unit and what `systemctl --user edit` put beside it, in the order in which they count.
    fn text(&self) -> io::Result<Option<String>> {
        let file = self.file();
        let mut text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let more = std::fs::read_dir(file.with_extension("service.d"))
            .into_iter()
            .flatten()
            .flatten();
        let mut more: Vec<_> = more.map(|entry| entry.path()).collect();
        more.retain(|path| path.extension().is_some_and(|ending| ending == "conf"));
        more.sort();
        for path in more {
            text = text + "\n" + &std::fs::read_to_string(path)?;
        }
        Ok(Some(text))
    }

    fn specifier(&self, letter: char) -> Option<String> {
        let variable = |name: &str| {
            self.environment
                .get(name)
                .map(|value| value.to_string_lossy().into_owned())
        };
        let below_home = |folder: &str| {
            Some(
                Path::new(&variable("HOME")?)
                    .join(folder)
                    .to_string_lossy()
                    .into_owned(),
            )
        };
        match letter {
            'h' => variable("HOME"),
            'u' => variable("USER"),
            't' => variable("XDG_RUNTIME_DIR"),
            'E' => Some(self.config.to_string_lossy().into_owned()),
            'S' => variable("XDG_STATE_HOME").or_else(|| below_home(".local/state")),
            'C' => variable("XDG_CACHE_HOME").or_else(|| below_home(".cache")),
            _ => None,
        }
    }
}

impl Manager for Systemd {
    fn settings(&self) -> PathBuf {
        self.config.join("wf0-agent/settings")
    }

    fn environment(&self) -> Result<Environment, String> {
        let said = self.ask(&["show-environment"], LIMIT)?;
        if !said.is_well() {
            return Err(format!(
                "systemctl --user show-environment failed: {}",
                said.words()
            ));
        }
        Ok(self.least().with(&environment_shown(&said.stdout)))
    }

    fn least(&self) -> Environment {
        let names = ["HOME", "USER", "LOGNAME", "LANG", "XDG_RUNTIME_DIR"];
        self.environment
            .clone()
            .only(&names)
            .with(&[("PATH".to_owned(), USUAL_PATH.to_owned())])
    }

    fn draft(&self, plan: &Plan) -> Result<Draft, String> {
        if plan.program.contains(['"', '\'', '\\']) {
            let why = "systemd starts no program whose path has quotes or backslashes";
            return Err(format!(
                "{why}: put wf0-agent elsewhere than {}",
                plan.program
            ));
        }
        let (text, place) = (unit(plan), self.file().display().to_string());
        Ok(Draft {
            definition: Definition {
                place: place.clone(),
                ..read(&text, |letter| self.specifier(letter))
            },
            place,
            text,
            steps: [
                "daemon-reload",
                "enable wf0-agent.service",
                "restart wf0-agent.service",
            ]
            .map(|step| format!("systemctl --user {step}"))
            .to_vec(),
        })
    }

    fn installed(&self) -> Result<Option<Definition>, String> {
        let unreadable = |e| format!("{} cannot be read: {e}", self.file().display());
        let Some(text) = self.text().map_err(unreadable)? else {
            return Ok(None);
        };
        Ok(Some(Definition {
            place: self.file().display().to_string(),
            ..read(&text, |letter| self.specifier(letter))
        }))
    }

    fn current_text(&self) -> Option<String> {
        std::fs::read_to_string(self.file()).ok()
    }

    fn install(&self, draft: &Draft, _stop_limit: Duration) -> Result<Vec<String>, String> {
        put(&self.file(), draft.text.as_bytes())?;
        self.demand(&["daemon-reload"], LIMIT)?;
        self.demand(&["enable", UNIT], LIMIT)?;
        let said = self.ask(&["restart", UNIT], START_LIMIT)?;
        let mut lines = match said.code {
            Some(0) => vec!["it runs, and has registered with the backend".to_owned()],
            None => vec![
                "it is started, and has not reached the backend yet, or waits for tickets to end: it goes on by \
                          itself; the log says more"
                    .to_owned(),
            ],
            Some(_) => {
                return Err(format!("it is installed, and does not start: {}; {}", said.words(), self.log()));
            }
        };
        let user = self
            .environment
            .get("USER")
            .or(self.environment.get("LOGNAME"));
        let lingers =
            user.is_some_and(|user| Path::new("/var/lib/systemd/linger").join(user).exists());
        if !lingers {
            lines.push(
                "it runs while you are logged in; from the start of the machine on with: loginctl enable-linger"
                    .to_owned(),
            );
        }
        Ok(lines)
    }

    fn uninstall(&self) -> Result<(), String> {
        self.demand(&["disable", "--now", UNIT], STOP_LIMIT)?;
        let file = self.file();
        std::fs::remove_file(&file)
            .map_err(|e| format!("{} cannot be removed: {e}", file.display()))?;
        self.demand(&["daemon-reload"], LIMIT)
    }

    fn state(&self) -> Result<State, String> {
        let names =
            "--property=ActiveState,SubState,UnitFileState,MainPID,ExecMainStatus,StatusText";
        let said = self.ask(&["show", UNIT, names], LIMIT)?;
        if !said.is_well() {
            return Err(format!("systemctl --user show failed: {}", said.words()));
        }
        Ok(state(&said.stdout))
    }

    fn log(&self) -> String {
        "log: journalctl --user -u wf0-agent -f".to_owned()
    }
}

/// The unit for that plan.
pub fn unit(plan: &Plan) -> String {
    let head = before(TEMPLATE, "[Unit]");
    let new_head = "\
        # wf0-agent as a service of your own user. `wf0-agent service install` wrote this from its template and writes it\n\
        # anew: what you change belongs into `systemctl --user edit wf0-agent`.\n\n";
    let exec = format!(
        "ExecStart={} {} {}",
        quoted(&plan.program),
        "--env-file",
        quoted(&plan.settings).replace('$', "$$")
    );
    let path = format!("Environment={}", quoted(&format!("PATH={}", plan.path)));
    fill(
        TEMPLATE,
        &[
            (head, new_head.to_owned()),
            (line(TEMPLATE, "ExecStart="), exec),
            (line(TEMPLATE, "Environment=PATH="), path),
        ],
    )
}

/// The commands by which root installs the system unit: the head of its template.
pub fn system_steps() -> String {
    let comment = before(SYSTEM_TEMPLATE, "[Unit]");
    comment
        .lines()
        .map(|line| {
            line.trim_start_matches('#')
                .strip_prefix(' ')
                .unwrap_or_default()
        })
        .map(|line| format!("{line}\n"))
        .collect()
}

/// What a unit starts, with which variables. `specifier` says what `%h` and the like stand for.
pub fn read(text: &str, specifier: impl Fn(char) -> Option<String>) -> Definition {
    let mut definition = Definition::default();
    let mut section = "";
    let joined = text.replace("\\\n", " ");
    for line in joined
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']))
    {
        if line.starts_with('[') {
            section = line;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| section == "[Service]") else {
            continue;
        };
        let words = || {
            words(value)
                .into_iter()
                .map(|word| expand(&word, &specifier))
        };
        match name.trim_end() {
            "ExecStart" => {
                let mut words = words();
                definition.program = words
                    .next()
                    .unwrap_or_default()
                    .trim_start_matches(['@', '-', ':', '+', '!'])
                    .to_owned();
                definition.args = words.map(|word| word.replace("$$", "$")).collect();
            }
            "Environment" if value.trim().is_empty() => definition.variables.clear(),
            "Environment" => definition.variables.extend(words().filter_map(|word| {
                word.split_once('=')
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
            })),
            name @ ("EnvironmentFile" | "PassEnvironment" | "UnsetEnvironment"
            | "WorkingDirectory") => {
                definition.unread.push(name.to_owned());
            }
            _ => {}
        }
    }
    definition
}

/// What `systemctl show` tells of it.
pub fn state(shown: &str) -> State {
    let value = |name: &str| {
        let of_it = |line: &str| {
            line.split_once('=')
                .filter(|(own, _)| *own == name)
                .map(|(_, value)| value.to_owned())
        };
        shown.lines().find_map(of_it).unwrap_or_default()
    };
    let (active, sub, pid, text) = (
        value("ActiveState"),
        value("SubState"),
        value("MainPID"),
        value("StatusText"),
    );
    let status: u8 = value("ExecMainStatus").parse().unwrap_or_default();
    let run = match active.as_str() {
        "active" => Run::Running,
        "activating" if pid != "0" && !pid.is_empty() => Run::Starting,
        _ => Run::Not,
    };
    let mut words = Vec::new();
    if run != Run::Not {
        words.push(format!("pid {pid}"));
    } else {
        words.extend((!sub.is_empty()).then(|| format!("{active}, {sub}")));
        let meaning = MEANINGS
            .iter()
            .find(|(code, _)| *code == status && status != 0);
        words.extend(meaning.map(|(code, meaning)| format!("it ended with {code}: {meaning}")));
    }
    words.extend((!text.is_empty()).then_some(text));
    State {
        enabled: value("UnitFileState") == "enabled",
        run,
        words: words.join("; "),
    }
}

/// The lines of `systemctl show-environment`; what a shell would take apart is quoted as `$'…'`.
pub fn environment_shown(text: &str) -> Vec<(String, String)> {
    let variables = text.lines().filter_map(|line| line.split_once('='));
    variables
        .map(|(name, value)| (name.to_owned(), unquoted(value)))
        .collect()
}

fn unquoted(value: &str) -> String {
    let inside = value
        .strip_prefix("$'")
        .and_then(|rest| rest.strip_suffix('\''));
    let inside = inside.or_else(|| {
        value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
    });
    match inside {
        // Only its own end closes the quote, and that was taken off.
        Some(inside) => take_apart(inside, Some('\0')).concat(),
        None => value.to_owned(),
    }
}

/// One word, as systemd takes it for that text: quotes, escapes and specifiers (systemd.syntax(7), systemd.unit(5)).
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:=@".contains(c);
    let text = text.replace('%', "%%");
    if text.chars().all(|c| is_plain(c) || c == '%') {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A value taken apart into words: the reverse of [`quoted`], and of what people write.
fn words(text: &str) -> Vec<String> {
    take_apart(text.trim(), None)
}

fn take_apart(text: &str, mut quote: Option<char>) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => {
                let escaped = match chars.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('s') => ' ',
                    Some('x') => hex(&mut chars),
                    Some(c) => c,
                    None => '\\',
                };
                word.get_or_insert_default().push(escaped);
            }
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Two digits; what is none becomes the sign for that.
fn hex(chars: &mut std::str::Chars<'_>) -> char {
    let digits: String = chars.by_ref().take(2).collect();
    u8::from_str_radix(&digits, 16).map_or(char::REPLACEMENT_CHARACTER, char::from)
}

fn expand(word: &str, specifier: &impl Fn(char) -> Option<String>) -> String {
    let mut expanded = String::new();
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '%' { chars.next() } else { None }) {
            ('%', Some('%')) => expanded.push('%'),
            ('%', Some(letter)) => {
                expanded += &specifier(letter).unwrap_or_else(|| format!("%{letter}"))
            }
            (c, _) => expanded.push(c),
        }
    }
    expanded
}

/// The one line of the template that begins so. The template is built in, and a test fills it in.
fn line<'a>(template: &'a str, start: &str) -> &'a str {
    template
        .lines()
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("the template has no {start}"))
}

fn before<'a>(text: &'a str, end: &str) -> &'a str {
    text.split_once(&format!("\n{end}"))
        .map_or(text, |(head, _)| &text[..=head.len()])
}
