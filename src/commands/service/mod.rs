//! `wf0-agent service`: installs the daemon as a service of this user, removes it, says how it is.
//!
//! What a service is on each system stands in the templates of `contrib/`; here they are filled in, and the system's
//! own tool is asked to take them. One file for each system, and what they have in common here. A service has another
//! environment than the shell in which it is installed, so the settings are tried out in that one first.

pub mod launchd;
#[cfg(windows)]
mod scm;
pub mod systemd;
pub mod template;
mod trial;
pub mod windows;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use super::{exit, flag, given, print};
use crate::config::Config;
use crate::config::settings::{Given, Sources};
use crate::environment::Environment;
use crate::job::cli::find;
#[cfg(windows)]
pub use scm::answer;
use trial::{Tried, try_out, unreached};

/// The word by which Windows' service manager starts the daemon; not for people.
pub const BY_MANAGER: &str = "run-as-service";

/// The account of the Windows service: no password, and no rights but those that it is given.
pub const WINDOWS_ACCOUNT: &str = r"NT SERVICE\wf0-agent";

/// The calls of `icacls` that close the Windows service's folder, in order. Everyone may create folders below
/// `%ProgramData%`: a folder that another user made before would stay that user's own, with the rights that this user
/// gave. So it becomes the administrators' own, all earlier rights go, and then only the system, the administrators
/// and the service have access. Groups stand by number because their names depend on the language.
pub fn closing_calls(folder: &str) -> [Vec<String>; 3] {
    let account = format!("{WINDOWS_ACCOUNT}:(OI)(CI)M");
    // /L: a link below the folder is changed itself, not the file that it points to.
    let owner = ["/setowner", "*S-1-5-32-544", "/T", "/C", "/L", "/Q"];
    let reset = ["/reset", "/T", "/C", "/L", "/Q"];
    let grant = [
        "/inheritance:r",
        "/grant:r",
        "*S-1-5-18:(OI)(CI)F",
        "*S-1-5-32-544:(OI)(CI)F",
        &account,
    ];
    [&owner[..], &reset[..], &grant[..]].map(|words| {
        std::iter::once(folder)
            .chain(words.iter().copied())
            .map(str::to_owned)
            .collect()
    })
}

/// What a service is to be made of. All of it is text that can stand in a line.
#[derive(Debug)]
pub struct Plan {
    pub program: String,
    pub settings: String,
    pub path: String,
}

/// A definition that is not installed yet.
pub struct Draft {
    /// What people call the place where it goes.
    pub place: String,
    pub text: String,
    /// What is done with it there, as people would type it.
    pub steps: Vec<String>,
    /// What it will start.
    pub definition: Definition,
}

/// A definition that is installed: what it starts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Definition {
    pub place: String,
    pub program: String,
    pub args: Vec<String>,
    pub variables: Vec<(String, String)>,
    /// What it says besides that has a part in the environment, and is not understood here.
    pub unread: Vec<String>,
}

/// How an installed service is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether it starts by itself.
    pub enabled: bool,
    pub run: Run,
    /// More about it, or nothing.
    pub words: String,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    #[default]
    Not,
    /// It is there, and has not registered yet.
    Starting,
    Running,
}

/// What keeps services on a system. Errors are whole lines, with what to do.
pub trait Manager {
    /// The settings' file, unless one is named.
    fn settings(&self) -> PathBuf;
    /// What it gives to what it starts, whatever the definition says.
    fn environment(&self) -> Result<Environment, String>;
    /// The same where it cannot be asked.
    fn least(&self) -> Environment;
    /// Whether a definition can say which PATH.
    fn takes_path(&self) -> bool {
        true
    }
    /// What people type to have it installed, or installed anew.
    fn command(&self) -> &'static str {
        "wf0-agent service install"
    }
    fn draft(&self, plan: &Plan) -> Result<Draft, String>;
    fn installed(&self) -> Result<Option<Definition>, String>;
    /// The installed definition as it was written.
    fn current_text(&self) -> Option<String>;
    /// Puts it in place, in place of an older one, and starts it anew. Gives what there is to say of that.
    /// `stop_limit`: how long the daemon may take to stop.
    fn install(&self, draft: &Draft, stop_limit: Duration) -> Result<Vec<String>, String>;
    fn uninstall(&self) -> Result<(), String>;
    fn state(&self) -> Result<State, String>;
    fn log(&self) -> String;
}

/// Why it was not done.
struct Failure {
    code: u8,
    lines: Vec<String>,
}

impl From<String> for Failure {
    fn from(line: String) -> Self {
        Self {
            code: exit::FAILED,
            lines: vec![line],
        }
    }
}

pub fn command() -> Command {
    Command::new("service")
        .about("Runs the daemon in the background, from log-in on")
        .long_about(
            "Installs the daemon as a service of this user (systemd, launchd, Windows' task scheduler) with the PATH of \
             now, stops and removes it, or says whether it runs. The settings are in the file of --env-file, or in \
             wf0-agent/settings in the folder for configuration (~/.config; on Windows \
             %LOCALAPPDATA%\\wf0-agent-program\\settings), because a service has no .env. State and settings stay.",
        )
        .arg(
            Arg::new("ACTION")
                .required(true)
                .value_parser(["install", "uninstall", "status"]),
        )
        .arg(flag("print", "Only show the definition and what would be done; changes nothing"))
        .arg(flag(
            "system",
            "A service of the machine, not of this user; on Windows as administrator",
        ))
}

/// For Windows' service manager; not for people.
pub fn manager_command() -> Command {
    Command::new(BY_MANAGER).hide(true)
}

pub fn run(matches: &ArgMatches) -> u8 {
    let action = matches.get_one::<String>("ACTION").map(String::as_str);
    let is_print = matches.get_flag("print");
    let done = match (
        action.unwrap_or_default(),
        matches.get_flag("system") && !cfg!(windows),
    ) {
        (action, true) => by_root(action, is_print),
        ("install", false) => install(matches),
        ("uninstall", false) => uninstall(matches),
        _ => status(matches),
    };
    match done {
        Ok(code) => code,
        Err(Failure { code, lines }) => {
            lines.iter().for_each(|line| eprintln!("wf0-agent: {line}"));
            code
        }
    }
}

/// The daemon as a service, where there is nothing that would start it so.
#[cfg(not(windows))]
pub fn answer(_matches: &ArgMatches) -> u8 {
    eprintln!("wf0-agent: only Windows' service manager starts {BY_MANAGER}");
    exit::USAGE
}

/// A service that is there, with who keeps it.
pub type Found = (Box<dyn Manager>, Definition);

pub fn find_installed(environment: &Environment) -> Result<Option<Found>, String> {
    for system in [true, false]
        .into_iter()
        .filter(|system| cfg!(windows) || !system)
    {
        let manager = manager(environment, system)?;
        if let Some(definition) = manager.installed()? {
            return Ok(Some((manager, definition)));
        }
    }
    Ok(None)
}

impl Definition {
    /// The settings that it names: flags, and the file.
    pub fn given(&self) -> Result<Given, String> {
        let args = self.args.iter().filter(|arg| *arg != BY_MANAGER);
        let unusual = || {
            format!(
                "{} starts it with arguments of which nothing is known: {:?}",
                self.place, self.args
            )
        };
        let words: Vec<_> = ["wf0-agent"]
            .into_iter()
            .chain(args.map(String::as_str))
            .map(Into::into)
            .collect();
        let matches = super::definition(&words)
            .try_get_matches_from(words)
            .map_err(|_| unusual())?;
        if !matches!(matches.subcommand_name(), None | Some("run")) {
            return Err(unusual());
        }
        let given = given(&matches);
        // Not the `.env` of whoever asks.
        let nothing = || PathBuf::from(if cfg!(windows) { "NUL" } else { "/dev/null" });
        Ok(Given {
            env_file: Some(given.env_file.unwrap_or_else(nothing)),
            ..given
        })
    }
}

impl Plan {
    fn new(environment: &Environment, settings: &Path) -> Result<Self, String> {
        let program =
            std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
        let folders = std::env::split_paths(environment.get("PATH").unwrap_or_default());
        // Relative ones lead nowhere from a service's working directory.
        let mut kept: Vec<PathBuf> = Vec::new();
        folders
            .filter(|folder| folder.is_absolute())
            .for_each(|folder| {
                if !kept.contains(&folder) {
                    kept.push(folder);
                }
            });
        let path = std::env::join_paths(kept).map_err(|e| format!("PATH: {e}"))?;
        let text = |what: &str, value: &Path| match value.to_str() {
            Some(text) if !text.contains(char::is_control) => Ok(text.to_owned()),
            _ => Err(format!(
                "{what} is not plain text and cannot stand in the definition of a service: {value:?}"
            )),
        };
        Ok(Self {
            program: text("the path of this program", &program)?,
            settings: text("the path of the settings", settings)?,
            path: text("PATH", Path::new(&path))?,
        })
    }
}

/// Writes a file whole or not at all, with the folders above it. Who keeps services reads it; no secret is in it.
pub fn put(file: &Path, content: &[u8]) -> Result<(), String> {
    let failed = |e: io::Error| format!("{} cannot be written: {e}", file.display());
    fs::create_dir_all(file.parent().unwrap_or(file)).map_err(failed)?;
    let mut aside = file.as_os_str().to_owned();
    aside.push(".new");
    fs::write(&aside, content)
        .and_then(|()| fs::rename(&aside, file))
        .map_err(failed)
}

fn install(matches: &ArgMatches) -> Result<u8, Failure> {
    let own = Environment::of_process();
    let manager = manager(&own, matches.get_flag("system"))?;
    let Given { flags, env_file } = given(matches);
    let settings = env_file.unwrap_or_else(|| manager.settings());
    let settings =
        std::path::absolute(&settings).map_err(|e| format!("{}: {e}", settings.display()))?;
    let plan = Plan::new(&own, &settings)?;
    let draft = manager.draft(&plan)?;
    let is_print = matches.get_flag("print");
    let base = match manager.environment() {
        Err(_) if is_print => manager.least(),
        environment => environment?,
    };
    let variable = ("PATH".to_owned(), plan.path.clone());
    let environment = if manager.takes_path() {
        base.with(&[variable])
    } else {
        base
    };
    let tried = try_out(&settings, &environment);
    let sources = tried.as_ref().map(|tried| &tried.sources).ok();
    let mut remarks = unreached(flags.keys(), &own, &environment, sources, &settings)
        .into_iter()
        .collect::<Vec<_>>();
    if let Ok(Tried { config, risky, .. }) = &tried {
        remarks.extend(risky.iter().cloned());
        let command = &config.cli.command;
        if find::program(command, environment.get("PATH")).is_none() {
            let fix = "install it, or correct PATH, and install the service anew";
            remarks.push(format!(
                "{command} is not on the service's PATH, and no ticket can run: {fix}"
            ));
        }
    }
    remarks
        .iter()
        .for_each(|remark| eprintln!("wf0-agent: {remark}"));
    if is_print {
        let wrong = tried.err().unwrap_or_default();
        wrong.iter().for_each(|line| eprintln!("wf0-agent: {line}"));
        eprintln!(
            "wf0-agent: nothing is changed; without --print this would go to {}, and then:",
            draft.place
        );
        draft.steps.iter().for_each(|step| eprintln!("  {step}"));
        return Ok(print(&draft.text));
    }
    let config = tried
        .map_err(|lines| Failure {
            code: exit::CONFIG,
            lines,
        })?
        .config;
    let before = manager.installed()?.zip(manager.current_text());
    let said = manager.install(&draft, config.stop_limit())?;
    let mut lines = changes(before, &draft);
    lines.extend(said);
    lines.push(manager.log());
    lines.push("wf0-agent doctor --service checks everything as the service sees it".to_owned());
    Ok(print(&(lines.join("\n") + "\n")))
}

fn uninstall(matches: &ArgMatches) -> Result<u8, Failure> {
    let own = Environment::of_process();
    let manager = manager(&own, matches.get_flag("system"))?;
    let Some(definition) = manager.installed()? else {
        return Ok(print("no service is installed: nothing to do\n"));
    };
    if matches.get_flag("print") {
        return Ok(print(&format!(
            "nothing is changed; without --print it would be stopped, and removed: {}\n",
            definition.place
        )));
    }
    let environment = manager
        .environment()
        .unwrap_or_else(|_| manager.least())
        .with(&definition.variables);
    manager.uninstall()?;
    let mut lines = vec![format!("stopped and removed: {}", definition.place)];
    if let Ok(given) = definition.given() {
        let settings = given.env_file.clone();
        lines.extend(
            settings
                .filter(|file| file.is_file())
                .map(|file| format!("left: the settings, {}", file.display())),
        );
        let state_dir = Sources::collect(given, environment)
            .ok()
            .and_then(|sources| Config::load_state_dir(&sources).ok());
        lines.extend(
            state_dir
                .filter(|folder| folder.is_dir())
                .map(|folder| format!("left: the state, {}", folder.display())),
        );
    }
    Ok(print(&(lines.join("\n") + "\n")))
}

fn status(matches: &ArgMatches) -> Result<u8, Failure> {
    let own = Environment::of_process();
    let manager = manager(&own, matches.get_flag("system"))?;
    let Some(definition) = manager.installed()? else {
        print(&format!(
            "not installed; to install it: {}\n",
            manager.command()
        ));
        return Ok(exit::FAILED);
    };
    let state = manager.state()?;
    let enabled = if state.enabled {
        "enabled"
    } else {
        "not enabled"
    };
    let run = match state.run {
        Run::Running => "running",
        Run::Starting => "running, not registered yet",
        Run::Not => "not running",
    };
    let words = if state.words.is_empty() {
        String::new()
    } else {
        format!(" ({})", state.words)
    };
    print(&format!(
        "installed, {enabled}, {run}{words}: {}\n{}\n",
        definition.place,
        manager.log()
    ));
    Ok(if state.run == Run::Not {
        exit::FAILED
    } else {
        exit::OK
    })
}

/// A service of the machine needs a user of its own, a token that only root can read, and a choice of what may be
/// written to: a person's work, and root's.
fn by_root(action: &str, is_print: bool) -> Result<u8, Failure> {
    if cfg!(target_os = "macos") {
        let why = "it could not reach the keychain, where some CLIs keep their login";
        return Err(
            format!("there is no service of the machine here: {why}; leave out --system").into(),
        );
    }
    match action {
        "install" if is_print => Ok(print(systemd::SYSTEM_TEMPLATE)),
        "install" => {
            let unit = "wf0-agent service install --system --print >wf0-agent.service";
            print(&format!("{}{}\n", systemd::system_steps(), format_args!("The unit that they speak of: {unit}")));
            Err("nothing is installed: a service of the machine has a user of its own, and root sets it up, as above"
                .to_owned()
                .into())
        }
        "uninstall" => {
            Err("root removes it: systemctl disable --now wf0-agent; rm /etc/systemd/system/wf0-agent.service"
                .to_owned()
                .into())
        }
        _ => Err("systemctl status wf0-agent tells".to_owned().into()),
    }
}

fn manager(environment: &Environment, system: bool) -> Result<Box<dyn Manager>, String> {
    let environment = environment.clone();
    #[cfg(windows)]
    if system {
        return Ok(Box::new(scm::Services::new(environment)));
    }
    let _ = system;
    Ok(if cfg!(windows) {
        Box::new(windows::Tasks::new(environment)?)
    } else if cfg!(target_os = "macos") {
        Box::new(launchd::Launchd::new(environment)?)
    } else {
        Box::new(systemd::Systemd::new(environment)?)
    })
}

/// What is other than before.
fn changes(before: Option<(Definition, String)>, draft: &Draft) -> Vec<String> {
    let after = &draft.definition;
    let starts = format!("it starts: {} {}", after.program, after.args.join(" "));
    let Some((before, text)) = before else {
        return vec![format!("installed: {}", draft.place), starts];
    };
    if text == draft.text {
        return vec![
            format!("as it was, and started anew: {}", draft.place),
            starts,
        ];
    }
    let mut lines = vec![format!("replaced: {}", draft.place), starts];
    if (&before.program, &before.args) != (&after.program, &after.args) {
        lines.push(format!(
            "before: {} {}",
            before.program,
            before.args.join(" ")
        ));
    }
    let folders = |definition: &Definition| {
        let path = definition
            .variables
            .iter()
            .rev()
            .find(|(name, _)| name.eq_ignore_ascii_case("PATH"));
        let path = path.map(|(_, value)| std::env::split_paths(value).collect::<Vec<_>>());
        path.unwrap_or_default()
    };
    let (old, new) = (folders(&before), folders(after));
    let named = |what: &str, these: &[PathBuf], those: &[PathBuf]| {
        let only: Vec<_> = these
            .iter()
            .filter(|folder| !those.contains(folder))
            .map(|folder| folder.display().to_string())
            .collect();
        (!only.is_empty()).then(|| format!("PATH {what}: {}", only.join(", ")))
    };
    lines.extend(named("has in addition", &new, &old));
    lines.extend(named("has no longer", &old, &new));
    if lines.len() == 2 {
        lines.push("what was changed in it by hand is gone".to_owned());
    }
    lines
}
