//! What has to be there on this machine: git, the CLI, the state folder, and a daemon that finds the same.

use std::path::Path;

use super::login::sign_of_login;
use crate::checks::{self, Finding, Level};
use crate::config::Config;
use crate::environment::Environment;
use crate::job::cli::{self, Cli, WrongOption, version_in};
use crate::job::{Git, Halt};
use crate::store::inspect::{self, Condition, look_at};
use crate::store::status;

/// `git config --show-scope`, which diffs and clones need.
const GIT_LEAST: (u32, u32) = (2, 26);

pub fn git(environment: &Environment) -> Finding {
    let found = checks::git(environment);
    if found.level != Level::Ok {
        return found;
    }
    let (major, minor) = GIT_LEAST;
    let newer = format!("install git {major}.{minor} or later");
    let asked = Git::discovering(environment, Path::new("/"))
        .and_then(|git| git.run(&["version"], None, &Halt::never()));
    match asked.map(|printed| version_in(&printed)) {
        Ok(Some(version)) if is_enough(&version) => Finding::ok("git", version),
        Ok(version) => {
            let version = version.unwrap_or_else(|| "unknown version".to_owned());
            let what = format!("{version}: too old to take diffs and make clones");
            Finding::warning("git", what, newer)
        }
        Err(e) => Finding::problem("git", e.to_string(), newer),
    }
}

fn is_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= GIT_LEAST
}

pub fn cli(config: &Config, environment: &Environment) -> Vec<Finding> {
    const NAME: &str = "CLI";
    let cli = Cli::from_config(&config.cli);
    let command = &cli.command;
    let mut findings = Vec::new();
    match checks::program(command, environment) {
        None => findings.push(checks::cli(&cli, environment)),
        Some(program) if !cli.is_known() => findings.push(Finding::ok(
            NAME,
            format!("{program} (not a CLI that wf0-agent knows: its version is not asked)"),
        )),
        Some(program) => {
            findings.push(match cli.version(environment, &Halt::never()) {
                Some(version) => Finding::ok(NAME, format!("{program} is {} {version}", cli.name)),
                None => Finding::warning(
                    NAME,
                    format!("`{program} --version` failed or printed no version"),
                    format!("run {program} --version yourself"),
                ),
            });
            findings.push(match sign_of_login(command, environment) {
                Ok(sign) => Finding::ok("login", format!("{command} seems logged in: {sign}")),
                Err(signs) => Finding::warning(
                    "login",
                    format!("no sign that {command} is logged in (looked for {signs})"),
                    format!("run {command} once as this user and log in"),
                ),
            });
        }
    }
    for wrong in cli::wrong_options(&config.cli) {
        findings.push(Finding::problem(NAME, wrong.problem(), WrongOption::FIX));
    }
    findings
}

pub fn state(folder: &Path) -> Finding {
    const NAME: &str = "state folder";
    let shown = folder.display();
    match look_at(folder) {
        Ok(Condition::Missing) => Finding::ok(
            NAME,
            format!("{shown} does not exist yet and will be created"),
        ),
        Ok(Condition::Free) => Finding::ok(NAME, format!("{shown} is not in use")),
        Ok(Condition::InUse) => {
            Finding::ok(NAME, format!("{shown} is in use by the running daemon"))
        }
        Err(e) => Finding::problem(NAME, e.problem(), e.fix()),
    }
}

/// Compares what the running daemon finds with what this shell finds. A daemon that runs as a service has another PATH,
/// so everything can be right here and wrong there.
pub fn daemon(config: &Config, environment: &Environment) -> Vec<Finding> {
    const NAME: &str = "daemon";
    let is_running = matches!(look_at(&config.state_dir), Ok(Condition::InUse));
    let record = inspect::status(&config.state_dir).ok().flatten();
    let Some(record) = record.filter(|_| is_running) else {
        return Vec::new();
    };
    let status::Daemon {
        pid,
        search_path,
        git_program,
        cli_program,
        ..
    } = &record.daemon.daemon;
    let programs = [
        ("git", git_program),
        (config.cli.command.as_str(), cli_program),
    ];
    // The daemon looks for a missing CLI again and again.
    let has_cli = record.daemon.cli.unavailable.as_deref() != Some("not_found");
    let mut findings = Vec::new();
    for (name, theirs) in programs {
        let ours = checks::program(name, environment);
        let is_found_later = theirs.is_none() && name != "git" && has_cli;
        if ours == *theirs || is_found_later {
            continue;
        }
        let there = match theirs {
            Some(theirs) => format!("uses {theirs}"),
            None => format!("did not find {name} at its start (its PATH: {search_path})"),
        };
        let here = match &ours {
            Some(ours) => format!("this shell finds {ours}"),
            None => format!("this shell does not find {name}"),
        };
        let what = format!("the running daemon (pid {pid}) {there}; {here}");
        let fix = "restart the daemon with this PATH; for a service: wf0-agent service install";
        findings.push(match (theirs, ours) {
            (None, _) => Finding::problem(NAME, what, fix),
            (Some(_), _) => Finding::warning(NAME, what, fix),
        });
    }
    if findings.is_empty() {
        let what = format!("the running daemon (pid {pid}) finds the same git and CLI");
        findings.push(Finding::ok(NAME, what));
    }
    findings
}
