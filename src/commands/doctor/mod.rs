//! `wf0-agent doctor`: what stands between this machine and its first ticket, one line each, with what to do about it.
//!
//! It asks with the daemon's own means and in its own environment, or in that of the installed service. It writes
//! nothing, takes no lock, registers no agent, and may run beside a daemon. No line holds a secret.

mod backend;
mod machine;
mod settings;

use std::io::IsTerminal;

use clap::{ArgMatches, Command};
use serde_json::json;

use super::{exit, flag, given, print};
use crate::config::{Config, Given, Sources};
use crate::domain::text::one_line;
use crate::environment::Environment;

/// A value of PATH is long, and all of it is of use.
const MESSAGE_MAX: usize = 4000;

pub fn command() -> Command {
    Command::new("doctor")
        .about("Checks everything that a ticket needs, and says how to fix what is wrong")
        .long_about(
            "Checks settings, git, repositories, CLI, state folder and the connection to the backend, and says how to fix \
             what is wrong. Changes nothing; a daemon may be running.",
        )
        .arg(flag("json", "Print JSON, for programs"))
}

pub fn run(matches: &ArgMatches) -> u8 {
    let json = matches.get_flag("json");
    let own = Environment::of_process();
    let checks = check_all(given(matches), &own);
    let is_failed = checks.iter().any(|check| check.status == Status::Fail);
    let text = if json {
        json!(checks.iter().map(Check::to_json).collect::<Vec<_>>()).to_string()
    } else {
        checks
            .iter()
            .map(Check::to_line)
            .collect::<Vec<_>>()
            .join("\n")
    };
    print(&format!("{text}\n"));
    if is_failed { exit::FAILED } else { exit::OK }
}

fn check_all(given: Given, environment: &Environment) -> Vec<Check> {
    let file = given.env_file.clone().unwrap_or_else(|| ".env".into());
    let mut checks = vec![machine::git(environment)];
    let sources = match Sources::collect(given, environment.clone()) {
        Ok(sources) => sources,
        Err(e) => {
            checks.push(Check::fail(
                "settings file",
                e.to_string(),
                format!("correct {}", file.display()),
            ));
            return checks;
        }
    };
    let config = Config::load(&sources);
    checks.extend(settings::all(&sources, &file, config.as_ref().err()));
    match &config {
        Ok(config) => {
            checks.extend(machine::repositories(config, environment));
            checks.extend(machine::cli(config, environment));
            checks.extend(approval(config));
            checks.extend(machine::state(&config.state_dir));
            checks.extend(backend::all(config));
        }
        Err(_) => {
            // One that is wrong itself was named above.
            if let Ok(state_dir) = Config::load_state_dir(&sources) {
                checks.extend(machine::state(&state_dir));
            }
            let why = "not looked at: repositories, CLI and backend, while settings are wrong";
            checks.push(Check::warn(
                "the rest",
                why,
                "correct the settings above and ask again",
            ));
        }
    }
    checks
}

/// Where a person is to be asked, there has to be a terminal.
fn approval(config: &Config) -> Option<Check> {
    const NAME: &str = "approval";
    if !config.require_approval {
        return None;
    }
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        return Some(Check::ok(NAME, "each run is asked for at the terminal"));
    }
    let why = "REQUIRE_APPROVAL=1 needs a terminal to ask on, and there is none here";
    let fix = "start wf0-agent in a terminal, or unset REQUIRE_APPROVAL";
    Some(Check::warn(NAME, why, fix))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok,
    /// It works, but not as well as it could, or that it does cannot be told.
    Warn,
    Fail,
}

struct Check {
    name: String,
    status: Status,
    message: String,
    fix: Option<String>,
}

impl Check {
    fn ok(name: &str, message: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            status: Status::Ok,
            message: message.into(),
            fix: None,
        }
    }

    fn warn(name: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            status: Status::Warn,
            fix: Some(fix.into()),
            ..Self::ok(name, message)
        }
    }

    fn fail(name: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            status: Status::Fail,
            ..Self::warn(name, message, fix)
        }
    }

    fn to_line(&self) -> String {
        let sign = match self.status {
            Status::Ok => '✓',
            Status::Warn => '!',
            Status::Fail => '✗',
        };
        let fix = self
            .fix
            .as_ref()
            .map(|fix| format!(" → {fix}"))
            .unwrap_or_default();
        one_line(
            &format!("{sign} {}: {}{fix}", self.name, self.message),
            MESSAGE_MAX,
        )
    }

    fn to_json(&self) -> serde_json::Value {
        let status = match self.status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "fail",
        };
        json!({"check": self.name, "status": status, "message": self.message, "fix": self.fix})
    }
}
