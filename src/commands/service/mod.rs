//! `wf0-agent service` installs the daemon as a service that the system runs in the background.
//!
//! On Linux and macOS it fills in a template of `contrib/` for this user, and `systemctl` or `launchctl` loads the
//! result. On Windows the daemon becomes a service of the machine. A service does not have the environment of the shell
//! that installs it. It gets only the PATH of that shell and the settings of one file. `install` first checks these
//! settings: it does not install a service that cannot start.

#[cfg(unix)]
pub mod launchd;
#[cfg(windows)]
mod scm;
#[cfg(unix)]
pub mod systemd;

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};

use super::{exit, fail, flag, given, print, run};
use crate::config::settings::{Kind, SETTINGS};
use crate::config::{Config, Given, Sources};
use crate::domain::repos::is_slug;
use crate::environment::Environment;
use crate::job::tool;

/// The service manager of this system. All three types have the same functions.
#[cfg(target_os = "macos")]
type Manager = launchd::Launchd;
#[cfg(windows)]
type Manager = scm::Services;
#[cfg(all(unix, not(target_os = "macos")))]
type Manager = systemd::Systemd;

/// The arguments of three `icacls` calls, in this order. They close the folder of the Windows service to other users.
/// Every user may create folders below `%ProgramData%`. A user who created this folder before still owns it and has set
/// its rights. So the calls make the administrators the owner, remove all earlier rights, and give access only to the
/// system, the administrators and the service. The calls name groups by number, because the names depend on the
/// language. With /L, a call changes a link below the folder itself, not the file that the link points to.
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

/// Characters that need quoting or escaping in a service definition. `install` refuses paths that contain them.
const NOT_PLAIN: &[char] = if cfg!(windows) {
    &['"', '|']
} else {
    &['"', '\'', '\\', '$', '%', '<', '>', '&']
};

/// Besides PATH, a service has these environment variables of the shell.
const IN_EVERY_SERVICE: &[&str] = &["HOME", "SystemRoot", "ProgramData", "COMPUTERNAME"];

/// The values in a service definition. None contains a character of `NOT_PLAIN`.
#[derive(Debug)]
pub struct Plan {
    pub program: String,
    pub settings: String,
    pub path: String,
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
        show_system_unit(is_print)
    } else {
        Manager::new(&own).and_then(|manager| match action {
            Some("install") => install(&given(matches), &own, &manager, is_print),
            Some("uninstall") => uninstall(&manager, is_print),
            _ => status(&manager),
        })
    };
    done.unwrap_or_else(|why| fail(&why, exit::FAILED))
}

fn install(
    given: &Given,
    own: &Environment,
    manager: &Manager,
    is_print: bool,
) -> Result<u8, String> {
    let settings = given.env_file.clone();
    let settings = settings.unwrap_or_else(|| manager.settings.clone());
    let settings = std::path::absolute(&settings)
        .map_err(|e| format!("{} is not usable: {e}", settings.display()))?;
    let plan = Plan::new(&settings, own)?;
    if is_print {
        let place = &manager.place;
        eprintln!("wf0-agent: nothing was changed; service install writes this to {place}");
        return Ok(print(&manager.definition(&plan)));
    }
    let environment = own.clone().only(IN_EVERY_SERVICE);
    #[cfg(windows)]
    let environment = environment.with(&[run::windows_service::state_dir(own)]);
    let environment = environment.with(&[("PATH".to_owned(), plan.path.clone())]);
    let config = match check(&settings, environment) {
        Ok(config) => config,
        Err(lines) => {
            for line in lines {
                eprintln!("wf0-agent: {line}");
            }
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
    let (place, log) = (&manager.place, &manager.log);
    Ok(print(&format!(
        "installed: {place}\n{report}\nlog: {log}\n"
    )))
}

fn uninstall(manager: &Manager, is_print: bool) -> Result<u8, String> {
    let place = &manager.place;
    Ok(print(&if is_print {
        format!("nothing was changed; service uninstall stops the service and removes {place}\n")
    } else if manager.uninstall()? {
        format!("stopped and removed: {place}\nThe settings file and the state folder stay.\n")
    } else {
        "no service is installed: nothing to do\n".to_owned()
    }))
}

fn status(manager: &Manager) -> Result<u8, String> {
    let Some((text, is_running)) = manager.status()? else {
        print("not installed; to install it: wf0-agent service install\n");
        return Ok(exit::FAILED);
    };
    print(&format!("{}\nlog: {}\n", text.trim_end(), manager.log));
    Ok(if is_running { exit::OK } else { exit::FAILED })
}

/// Shows the unit for a service of the machine, with the commands at its head, and runs nothing. Such a service needs
/// its own user, a token that only root can read, and a list of folders that it may write to. Root decides these.
fn show_system_unit(is_print: bool) -> Result<u8, String> {
    if cfg!(target_os = "macos") {
        let why = "it could not reach the keychain, where some CLIs keep their login";
        return Err(format!("macOS has no service for --system: {why}"));
    }
    print(include_str!("../../../contrib/systemd/wf0-agent.service"));
    match is_print {
        true => Ok(exit::OK),
        false => Err(
            "nothing is installed or changed: root uses the commands at the head of the unit above"
                .to_owned(),
        ),
    }
}

#[cfg(unix)]
fn make_folder_of(file: &str) -> Result<(), String> {
    let folder = Path::new(file).parent().unwrap_or(Path::new("/"));
    let made = std::fs::create_dir_all(folder);
    made.map_err(|e| format!("{} cannot be created: {e}", folder.display()))
}

#[cfg(unix)]
fn write(definition: &str, text: &str) -> Result<(), String> {
    make_folder_of(definition)?;
    std::fs::write(definition, text).map_err(|e| format!("{definition} cannot be written: {e}"))
}

#[cfg(unix)]
fn remove(definition: &str) -> Result<(), String> {
    std::fs::remove_file(definition).map_err(|e| format!("{definition} cannot be removed: {e}"))
}

impl Plan {
    fn new(settings: &Path, own: &Environment) -> Result<Self, String> {
        let program =
            std::env::current_exe().map_err(|e| format!("this program's path is unknown: {e}"))?;
        // Leave out relative folders: a service has another working directory, where they do not exist.
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

/// The path as text that needs no quoting in a service definition.
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

/// Checks the settings as the service will have them. The error has the lines with which the service would refuse to
/// start.
fn check(settings: &Path, environment: Environment) -> Result<Config, Vec<String>> {
    if !settings.is_file() {
        return Err(vec![how_to_make(settings)]);
    }
    let given = Given {
        env_file: Some(settings.to_owned()),
        ..Given::default()
    };
    let sources = Sources::collect(given, environment).map_err(|e| vec![e])?;
    let relative = relative_paths(&sources);
    if !relative.is_empty() {
        return Err(relative);
    }
    run::check(&sources, false)
}

fn how_to_make(settings: &Path) -> String {
    let quoted = |path: &Path| shell_words::quote(&path.to_string_lossy()).into_owned();
    let (folder, file) = (settings.parent().unwrap_or(settings), quoted(settings));
    let how = match cfg!(windows) {
        true => "see contrib/windows/wf0-agent-service.ps1".to_owned(),
        false => format!("(umask 077; mkdir -p {}; cp .env {file})", quoted(folder)),
    };
    format!(
        "{} does not exist: a service has no .env, so write WORKFORCE0_API_URL, WORKFORCE0_AGENT_TOKEN and REPO_PATHS \
         into this file: {how}",
        settings.display()
    )
}

/// One line for each relative path in the settings. A service has another working directory, where such a path means
/// another file.
fn relative_paths(sources: &Sources) -> Vec<String> {
    let mut lines = Vec::new();
    for setting in SETTINGS {
        let value = sources.get(setting.name).unwrap_or_default();
        let text = value.to_string_lossy();
        let paths: Vec<&str> = match (setting.name, &setting.kind) {
            ("REPO_PATHS", _) => text.split(',').map(path_of_entry).collect(),
            ("SSL_CERT_DIR", _) => text.split(if cfg!(windows) { ';' } else { ':' }).collect(),
            (_, Kind::File | Kind::Folder) => vec![&text],
            (_, Kind::Program) if text.contains(std::path::is_separator) => vec![text.trim()],
            _ => Vec::new(),
        };
        let is_relative = |path: &&str| !path.is_empty() && !Path::new(path).is_absolute();
        for path in paths.into_iter().filter(is_relative) {
            let name = setting.name;
            lines.push(format!(
                "{name}: {path:?} is not an absolute path, and a service does not start in this folder"
            ));
        }
    }
    lines
}

/// The path in an entry of `REPO_PATHS`. An entry is `path` or `owner/name=path`.
fn path_of_entry(entry: &str) -> &str {
    match entry.split_once('=') {
        Some((slug, path)) if is_slug(slug.trim()) => path.trim(),
        _ => entry.trim(),
    }
}
