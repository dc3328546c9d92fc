//! Reports each setting: its value, the source of the value, and any error in it.

use std::ffi::OsStr;
use std::path::Path;

use crate::checks::Finding;
use crate::config::settings::{Fallback, SETTINGS, Setting, flag_of_name};
use crate::config::{ConfigError, Origin, Proxy, Sources};
use crate::domain::text::one_line;

const SHOWN_MAX: usize = 300;
const TOKEN: &str = "WORKFORCE0_AGENT_TOKEN";
const TOKEN_FILE: &str = "WORKFORCE0_AGENT_TOKEN_FILE";

/// `file` is the path of the settings file. `error` holds all errors in the settings.
pub fn all(sources: &Sources, file: &Path, error: Option<&ConfigError>) -> Vec<Finding> {
    let errors = error.map(|error| error.0.as_slice()).unwrap_or_default();
    let mut findings = Vec::new();
    let mut defaults = Vec::new();
    for setting in SETTINGS {
        for name in sources.names_of(setting) {
            let found = sources.look_up(&name);
            if let Some(error) = errors.iter().find(|error| error.setting == name) {
                let fix = correct(setting, &name, file, found.map(|(_, origin)| origin));
                let why = format!("{} (example: {name}={})", error.problem, error.example);
                findings.push(Finding::problem(&name, why, fix));
            } else if let Some((value, origin)) = found {
                let what = format!(
                    "{} ({})",
                    shown(setting, &value),
                    place(origin, &name, file)
                );
                findings.push(Finding::ok(&name, what));
            } else if let Fallback::Value(default) | Fallback::Computed(default) = setting.fallback
            {
                defaults.push(format!("{name}={default}"));
            }
        }
    }
    findings.push(Finding::ok("defaults", defaults.join(", ")));
    findings.extend(token_file(sources, file));
    findings
}

/// The value without its secrets: the token, a proxy's credentials, and the query of the backend's URL.
fn shown(setting: &Setting, value: &OsStr) -> String {
    const HIDDEN: &str = "(hidden)";
    let value = value.to_string_lossy();
    match setting.name {
        TOKEN => HIDDEN.to_owned(),
        // A value that is not a valid proxy may contain a password at any place, so all of it is hidden.
        name if name.ends_with("_PROXY") && name != "NO_PROXY" => {
            match Proxy::parse(name, &value) {
                Ok(proxy) if proxy.authorization.is_some() => format!("{HIDDEN}@{proxy}"),
                Ok(proxy) => proxy.to_string(),
                Err(_) => HIDDEN.to_owned(),
            }
        }
        "WORKFORCE0_API_URL" => match value.split_once('?') {
            Some((url, _)) => format!("{}?{HIDDEN}", one_line(url, SHOWN_MAX)),
            None => one_line(&value, SHOWN_MAX),
        },
        _ => one_line(&value, SHOWN_MAX),
    }
}

fn place(origin: Origin, name: &str, file: &Path) -> String {
    match origin {
        Origin::Flag => format!("flag --{}", flag_of_name(name)),
        Origin::Environment => "environment".to_owned(),
        Origin::File => file.display().to_string(),
    }
}

fn correct(setting: &Setting, name: &str, file: &Path, origin: Option<Origin>) -> String {
    if let Some(origin) = origin {
        return format!("fix it: {}", place(origin, name, file));
    }
    let flag = match setting.has_flag() {
        true => format!(", or by --{}", flag_of_name(name)),
        false => String::new(),
    };
    let file = file.display();
    format!("set it in the environment or in {file}{flag}")
}

/// Checks whether all users can read the file that contains the token, if there is one. Everyone who can read the token
/// can act as this agent.
fn token_file(sources: &Sources, file: &Path) -> Option<Finding> {
    const NAME: &str = "token file";
    let path = match sources.look_up(TOKEN) {
        Some((_, Origin::File)) => file.to_owned(),
        Some(_) => return None,
        None => sources.get(TOKEN_FILE)?.into(),
    };
    let shown = path.display();
    let mode = mode(&path)?;
    if mode & 0o004 == 0 {
        return Some(Finding::ok(
            NAME,
            format!("{shown} is private (mode {mode:03o})"),
        ));
    }
    let what = format!("{shown} contains the token and all users can read it (mode {mode:03o})");
    Some(Finding::warning(NAME, what, format!("chmod 600 {shown}")))
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(path.metadata().ok()?.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn mode(_path: &Path) -> Option<u32> {
    None
}
