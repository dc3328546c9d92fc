//! The settings tried out as the service will have them, before it is installed: from their file alone, in the
//! service's environment, with no working directory to rely on.

use std::path::{Path, PathBuf};

use crate::commands::run;
use crate::config::Config;
use crate::config::settings::{self, Given, Kind, Origin, SETTINGS, Sources};
use crate::domain::repos::is_slug;
use crate::environment::Environment;

/// Settings as the service will have them.
pub struct Tried {
    pub config: Config,
    pub risky: Vec<String>,
    pub sources: Sources,
}

/// Loads the settings as the service will. The errors are the lines with which it would refuse to start.
pub fn try_out(settings: &Path, environment: &Environment) -> Result<Tried, Vec<String>> {
    if !settings.is_file() {
        return Err(vec![how_to_make(settings)]);
    }
    let given = Given {
        env_file: Some(settings.to_owned()),
        ..Given::default()
    };
    let sources = Sources::collect(given, environment.clone()).map_err(|e| vec![e.to_string()])?;
    let mut wrong = relative_paths(&sources);
    if sources
        .get("REQUIRE_APPROVAL")
        .is_some_and(|value| value.to_string_lossy().trim() == "1")
    {
        wrong
            .push("REQUIRE_APPROVAL: a service has no terminal to ask at; leave it out".to_owned());
    }
    let name = |line: &String| line.split(':').next().unwrap_or_default().to_owned();
    match run::check(&sources) {
        Ok((config, risky)) if wrong.is_empty() => Ok(Tried {
            config,
            risky,
            sources,
        }),
        Ok(_) => Err(wrong),
        Err(lines) => {
            // What is no whole path may be wrong in other ways too: one line for each setting.
            let told: Vec<_> = wrong.iter().map(name).collect();
            Err(wrong
                .into_iter()
                .chain(lines.into_iter().filter(|line| !told.contains(&name(line))))
                .collect())
        }
    }
}

/// The settings that are given here and that the service will not see.
pub fn unreached<'a>(
    flags: impl Iterator<Item = &'a String>,
    own: &Environment,
    service: &Environment,
    sources: Option<&Sources>,
    settings: &Path,
) -> Option<String> {
    let is_setting = |name: &String| {
        let is_proxy =
            name.ends_with("_proxy") && settings::find(&name.to_ascii_uppercase()).is_some();
        is_proxy || settings::find(name).is_some()
    };
    let differs = |name: &String| {
        own.get(name).is_some_and(|value| !value.is_empty()) && own.get(name) != service.get(name)
    };
    let is_in_file = |name: &String| {
        let name = if name.ends_with("_proxy") {
            name.to_ascii_uppercase()
        } else {
            name.clone()
        };
        sources
            .and_then(|sources| sources.look_up(&name))
            .is_some_and(|(_, origin)| origin == Origin::File)
    };
    let variables = own
        .names()
        .filter(|name| is_setting(name) && differs(name) && !is_in_file(name));
    let mut names: Vec<String> = flags.cloned().chain(variables).collect();
    names.sort();
    names.dedup();
    let (is, it) = if names.len() == 1 {
        ("is", "it")
    } else {
        ("are", "them")
    };
    let names = names.join(", ");
    (!names.is_empty()).then(|| {
        format!(
            "{names} {is} given here and will not reach the service: put {it} into {}",
            settings.display()
        )
    })
}

fn how_to_make(settings: &Path) -> String {
    let quoted = |path: &Path| shell_words::quote(&path.to_string_lossy()).into_owned();
    let why = format!(
        "{}: a service has no .env and no shell; its settings are in this file, which is not there",
        settings.display()
    );
    let lines =
        "WORKFORCE0_API_URL=…, WORKFORCE0_AGENT_TOKEN=… and REPO_PATHS=… in it, a line each";
    if cfg!(windows) {
        return format!(
            "{why}: make it, with {lines}, and close it to others by icacls, as contrib/windows shows"
        );
    }
    let (folder, file) = (
        quoted(settings.parent().unwrap_or(settings)),
        quoted(settings),
    );
    let make = |how: &str| format!("(umask 077; mkdir -p {folder}; {how} {file})");
    match Path::new(".env").is_file() {
        true => format!("{why}: {}", make("cp .env")),
        false => format!("{why}: {}, with {lines}", make("cat >")),
    }
}

/// Paths that mean something else in the service's working directory.
fn relative_paths(sources: &Sources) -> Vec<String> {
    let home = sources
        .environment()
        .get("HOME")
        .map(PathBuf::from)
        .unwrap_or_default();
    let mut lines = Vec::new();
    for setting in SETTINGS {
        let Some(value) = sources.get(setting.name) else {
            continue;
        };
        let text = value.to_string_lossy().into_owned();
        let paths: Vec<PathBuf> = match (setting.name, setting.kind) {
            ("REPO_PATHS", _) => text
                .split(',')
                .map(path_of_entry)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
                .collect(),
            ("SSL_CERT_DIR", _) => std::env::split_paths(&value).collect(),
            (_, Kind::File | Kind::Folder) => vec![value.into()],
            (_, Kind::Program) if text.contains(std::path::is_separator) => {
                vec![text.trim().into()]
            }
            _ => Vec::new(),
        };
        for path in paths.into_iter().filter(|path| !path.is_absolute()) {
            let whole = match path.strip_prefix("~") {
                Ok(below) => home.join(below),
                Err(_) => std::path::absolute(&path).unwrap_or_default(),
            };
            lines.push(format!(
                "{}: {path:?} is not a whole path, and a service has a working directory of its own (example: {:?})",
                setting.name, whole
            ));
        }
    }
    lines
}

fn path_of_entry(entry: &str) -> &str {
    match entry.split_once('=') {
        Some((slug, path)) if is_slug(slug.trim()) => path.trim(),
        _ => entry.trim(),
    }
}
