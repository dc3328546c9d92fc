//! `wf0-agent service`: has the system run the daemon in the background.
//!
//! On Linux and macOS a template of `contrib/` is filled in for this user, and `systemctl` or `launchctl` takes it. On
//! Windows the daemon becomes a service of the machine. A service does not have the environment of the shell that
//! installs it: it gets the PATH of that shell and the settings of one file. These settings are checked first, so that
//! a service which cannot start is never installed.

#[cfg(unix)]
pub mod launchd;
#[cfg(windows)]
mod scm;
#[cfg(unix)]
pub mod systemd;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use super::{exit, flag, given, print, run};
use crate::config::settings::{Kind, SETTINGS};
use crate::config::{Config, Given, Sources};
use crate::domain::repos::is_slug;
use crate::environment::Environment;
use crate::job::tool;

/// What `icacls` is called with, in this order, to close the Windows service's folder. Everyone may create folders below
/// `%ProgramData%`: a folder that another user made before would stay that user's own, with the rights that this user
/// gave. So it becomes the administrators' own, all earlier rights go, and then only the system, the administrators
/// and the service have access. Groups stand by number because their names depend on the language. With /L a link below
/// the folder is changed itself, not the file that it points to.
pub const CLOSING_CALLS: [&[&str]; 3] = [
    &["/setowner", "*S-1-5-32-544", "/T", "/C", "/L", "/Q"],
    &["/reset", "/T", "/C", "/L", "/Q"],
    &[
        "/inheritance:r",
        "/grant:r",
        "*S-1-5-18:(OI)(CI)F",
        "*S-1-5-32-544:(OI)(CI)F",
        r"NT SERVICE\wf0-agent:(OI)(CI)M",
    ],
];

/// What a definition would need quoting or escaping for. Paths with these characters are refused instead.
const NOT_PLAIN: &[char] = if cfg!(windows) {
    &['"', '|']
} else {
    &['"', '\'', '\\', '$', '%', '<', '>', '&']
};

/// The variables of the shell that a service has too, besides PATH.
const IN_EVERY_SERVICE: &[&str] = &["HOME", "SystemRoot", "ProgramData", "COMPUTERNAME"];

/// What a definition is made of: text without any of `NOT_PLAIN`.
#[derive(Debug)]
pub struct Plan {
    pub program: String,
    pub settings: String,
    pub path: String,
}

/// The system's service manager. Errors are for people and say what to do.
pub trait Manager {
    /// The settings file if `--env-file` names none.
    fn settings(&self) -> PathBuf;
    /// The variables that the service gets besides PATH.
    fn variables(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    /// Where the definition is, or would be.
    fn place(&self) -> String;
    fn definition(&self, plan: &Plan) -> String;
    /// Replaces an older definition and restarts the service. The text says what was done. Stopping the daemon takes up to
    /// `stop_limit`.
    fn install(&self, plan: &Plan, stop_limit: Duration) -> Result<String, String>;
    fn is_installed(&self) -> Result<bool, String>;
    fn uninstall(&self) -> Result<(), String>;
    /// What the manager says about the service, and whether it runs.
    fn status(&self) -> Result<(String, bool), String>;
    fn log(&self) -> String;
}

pub fn command() -> Command {
    Command::new("service")
        .about("Runs the daemon in the background: installs it as a service, removes it, or shows its status")
        .long_about(
            "Installs the daemon as a service with the PATH of this shell, stops and removes it, or shows its status. On \
             Linux (systemd) and macOS (launchd) it is a service of this user; on Windows it is a service of the \
             machine, which needs an administrator. A service has no .env: its settings are in the file of --env-file, \
             or in ~/.config/wf0-agent/settings (Windows: %ProgramData%\\wf0-agent\\settings). Settings and state stay \
             when the service is removed.",
        )
        .arg(
            Arg::new("ACTION")
                .required(true)
                .value_parser(["install", "uninstall", "status"]),
        )
        .arg(flag("print", "Only show what install or uninstall would do; change nothing"))
        .arg(flag(
            "system",
            "A service of the machine instead of this user: shows how root installs it on Linux",
        ))
}

pub fn run(matches: &ArgMatches) -> u8 {
    let own = Environment::of_process();
    let action = matches.get_one::<String>("ACTION").map(String::as_str);
    let is_print = matches.get_flag("print");
    let done = if matches.get_flag("system") && !cfg!(windows) {
        of_machine(action.unwrap_or_default(), is_print)
    } else {
        manager(&own).and_then(|manager| match action {
            Some("install") => install(matches, &own, manager.as_ref()),
            Some("uninstall") => uninstall(manager.as_ref(), is_print),
            _ => status(manager.as_ref()),
        })
    };
    done.unwrap_or_else(|why| {
        eprintln!("wf0-agent: {why}");
        exit::FAILED
    })
}

fn manager(own: &Environment) -> Result<Box<dyn Manager>, String> {
    #[cfg(windows)]
    return Ok(Box::new(scm::Services::new(own.clone())));
    #[cfg(unix)]
    Ok(if cfg!(target_os = "macos") {
        Box::new(launchd::Launchd::new(own.clone())?)
    } else {
        Box::new(systemd::Systemd::new(own.clone())?)
    })
}

fn install(matches: &ArgMatches, own: &Environment, manager: &dyn Manager) -> Result<u8, String> {
    let settings = given(matches).env_file;
    let settings = settings.unwrap_or_else(|| manager.settings());
    let settings = std::path::absolute(&settings)
        .map_err(|e| format!("{} is not usable: {e}", settings.display()))?;
    let plan = Plan::new(&settings, own)?;
    if matches.get_flag("print") {
        let place = manager.place();
        eprintln!("wf0-agent: nothing was changed; service install writes this to {place}");
        return Ok(print(&manager.definition(&plan)));
    }
    let environment = own.clone().only(IN_EVERY_SERVICE);
    let environment = environment
        .with(&manager.variables())
        .with(&[("PATH".to_owned(), plan.path.clone())]);
    let config = match check(&settings, environment) {
        Ok(config) => config,
        Err(lines) => {
            complain(&lines);
            return Ok(exit::CONFIG);
        }
    };
    let command = &config.cli.command;
    if tool::find(command, Some(plan.path.as_ref())).is_none() {
        eprintln!(
            "wf0-agent: {command} is not on this PATH, so the service cannot take tickets: install it, or correct \
             PATH, and install the service again"
        );
    }
    let report = manager.install(&plan, config.stop_limit())?;
    Ok(print(&format!("{report}\nlog: {}\n", manager.log())))
}

fn complain(lines: &[String]) {
    for line in lines {
        eprintln!("wf0-agent: {line}");
    }
}

fn uninstall(manager: &dyn Manager, is_print: bool) -> Result<u8, String> {
    if !manager.is_installed()? {
        return Ok(print("no service is installed: nothing to do\n"));
    }
    let place = manager.place();
    if is_print {
        return Ok(print(&format!(
            "nothing was changed; service uninstall stops the service and removes {place}\n"
        )));
    }
    manager.uninstall()?;
    Ok(print(&format!(
        "stopped and removed: {place}\nThe settings file and the state folder stay.\n"
    )))
}

fn status(manager: &dyn Manager) -> Result<u8, String> {
    if !manager.is_installed()? {
        print("not installed; to install it: wf0-agent service install\n");
        return Ok(exit::FAILED);
    }
    let (text, is_running) = manager.status()?;
    print(&format!("{}\nlog: {}\n", text.trim_end(), manager.log()));
    Ok(if is_running { exit::OK } else { exit::FAILED })
}

/// A service of the machine needs a user of its own, a token that only root can read, and a choice of folders that it
/// may write to. Root decides that, so on Linux the commands are shown and not carried out.
fn of_machine(action: &str, is_print: bool) -> Result<u8, String> {
    if cfg!(target_os = "macos") {
        let why = "it could not reach the keychain, where some CLIs keep their login";
        return Err(format!(
            "macOS has no service for --system: {why}; leave out --system"
        ));
    }
    let why = match action {
        "install" => {
            print(include_str!("../../../contrib/systemd/wf0-agent.service"));
            if is_print {
                return Ok(exit::OK);
            }
            "nothing is installed: root installs the unit above with the commands at its head"
        }
        "uninstall" => {
            "as root: systemctl disable --now wf0-agent; rm /etc/systemd/system/wf0-agent.service"
        }
        _ => "to see the service of the machine: systemctl status wf0-agent",
    };
    Err(why.to_owned())
}

impl Plan {
    fn new(settings: &Path, own: &Environment) -> Result<Self, String> {
        let program =
            std::env::current_exe().map_err(|e| format!("this program's path is unknown: {e}"))?;
        // A relative folder leads nowhere from the working directory of a service.
        let mut folders: Vec<PathBuf> = Vec::new();
        for folder in std::env::split_paths(own.get("PATH").unwrap_or_default()) {
            if folder.is_absolute() && !folders.contains(&folder) {
                plain("PATH", &folder)?;
                folders.push(folder);
            }
        }
        let path = std::env::join_paths(folders).map_err(|e| format!("PATH: {e}"))?;
        Ok(Self {
            program: plain("the path of this program", &program)?,
            settings: plain("the path of the settings", settings)?,
            path: path.to_string_lossy().into_owned(),
        })
    }
}

fn plain(what: &str, path: &Path) -> Result<String, String> {
    match path.to_str() {
        Some(text) if !text.contains(|c: char| c.is_control() || NOT_PLAIN.contains(&c)) => {
            Ok(text.to_owned())
        }
        _ => Err(format!(
            "{what}: {path:?} has a character that a service definition would need quoting for: use another path, or \
             install the template of contrib/ by hand"
        )),
    }
}

/// The settings as the service will have them, or the lines with which the service would refuse to start.
fn check(settings: &Path, environment: Environment) -> Result<Config, Vec<String>> {
    if !settings.is_file() {
        return Err(vec![how_to_make(settings)]);
    }
    let given = Given {
        env_file: Some(settings.to_owned()),
        ..Given::default()
    };
    let sources = Sources::collect(given, environment).map_err(|e| vec![e.to_string()])?;
    let relative = relative_paths(&sources);
    if !relative.is_empty() {
        return Err(relative);
    }
    let config = run::check(&sources)?;
    if config.require_approval {
        return Err(vec![
            "REQUIRE_APPROVAL=1 needs a terminal, and a service has none: unset it".to_owned(),
        ]);
    }
    Ok(config)
}

fn how_to_make(settings: &Path) -> String {
    let quoted = |path: &Path| shell_words::quote(&path.to_string_lossy()).into_owned();
    let (folder, file) = (settings.parent().unwrap_or(settings), quoted(settings));
    let missing = "does not exist: a service has no .env, so write WORKFORCE0_API_URL, WORKFORCE0_AGENT_TOKEN and \
                   REPO_PATHS into this file";
    let how = match cfg!(windows) {
        true => "see contrib/windows/wf0-agent-service.ps1".to_owned(),
        false => format!("(umask 077; mkdir -p {}; cp .env {file})", quoted(folder)),
    };
    format!("{} {missing}: {how}", settings.display())
}

/// Paths that mean something else in the working directory of a service.
fn relative_paths(sources: &Sources) -> Vec<String> {
    let mut lines = Vec::new();
    for setting in SETTINGS {
        let Some(value) = sources.get(setting.name) else {
            continue;
        };
        let text = value.to_string_lossy();
        let paths: Vec<&str> = match (setting.name, &setting.kind) {
            ("REPO_PATHS", _) => text.split(',').map(path_of_entry).collect(),
            ("SSL_CERT_DIR", _) => text.split(if cfg!(windows) { ';' } else { ':' }).collect(),
            (_, Kind::File | Kind::Folder) => vec![&text],
            (_, Kind::Program) if text.contains(std::path::is_separator) => vec![text.trim()],
            _ => Vec::new(),
        };
        for path in paths {
            if !path.is_empty() && !Path::new(path).is_absolute() {
                lines.push(format!(
                    "{}: {path:?} is not an absolute path, and a service does not start in this folder",
                    setting.name
                ));
            }
        }
    }
    lines
}

/// The path in an entry of `REPO_PATHS`, which may be `owner/name=path`.
fn path_of_entry(entry: &str) -> &str {
    match entry.split_once('=') {
        Some((slug, path)) if is_slug(slug.trim()) => path.trim(),
        _ => entry.trim(),
    }
}
